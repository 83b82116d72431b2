"""Starts workers, several at once, and collects their results.  ``job.py`` lists the files that pass between."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mfs_deploy import errors
from mfs_deploy.backends.job import OUTPUTS, Job, Result, save_array
from mfs_deploy.backends.machine import LOCAL, Machine

if TYPE_CHECKING:
    from torch import Tensor

POLL_S = 0.05
Array = NDArray[np.float32]
OnDone = Callable[[Job], None]


@dataclass(frozen=True)
class JobResult:
    """A finished job: the worker's report, and the outputs (N, C, S, S) by the contract's names."""

    job: Job
    result: Result
    outputs: dict[str, Array]
    folder: Path


JobInFolder = tuple[Job, Path]


@dataclass
class _Process:
    """A worker and the jobs that it does one after another."""

    jobs: list[JobInFolder]
    popen: subprocess.Popen[bytes]


@contextlib.contextmanager
def scratch(parent: Path | None = None) -> Iterator[Path]:
    """A private folder that is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix=".mfs-", dir=parent) as folder:
        yield Path(folder)


def run(
    jobs: Sequence[Job],
    targets: Array,
    folder: Path,
    *,
    weights: Mapping[str, Tensor] | None = None,
    on_done: OnDone = lambda job: None,
    side_by_side: bool = True,
    machine: Machine = LOCAL,
) -> list[JobResult]:
    """Run jobs in processes of their own; results in the order of ``jobs``.

    Args:
        targets: crops (N, 3, S, S) float32, for every artifact.
        folder: where job folders and artifacts go; the caller's to delete.
        weights: the baked network, needed where a job converts.
        side_by_side: as many at once as there are cores, else one after another.
        machine: where they run.

    Raises:
        the first job's error, after the others were stopped; ConversionError if a worker crashed.
    """
    waiting = [[_prepare(job, targets, folder, weights)] for job in jobs]
    at_once = (os.cpu_count() or 1) if side_by_side else 1
    return [result for (result,) in _run(waiting, on_done, at_once, machine)]


def convert_people(
    jobs: Sequence[Sequence[Job]],
    weights: Sequence[Mapping[str, Tensor]],
    targets: Array,
    folder: Path,
    *,
    on_done: OnDone = lambda job: None,
) -> list[list[JobResult]]:
    """As ``run``, for several people: the same jobs for each, and each one's results.

    The same job of all people is done in one process, since converters are slow to import.
    """
    places = [
        [_prepare(job, targets, folder / str(person), baked) for job in jobs_of_person]
        for person, (jobs_of_person, baked) in enumerate(zip(jobs, weights, strict=True))
    ]
    waiting = [list(same) for same in zip(*places, strict=True)]
    by_job = _run(waiting, on_done, os.cpu_count() or 1, LOCAL)
    return [list(of_person) for of_person in zip(*by_job, strict=True)]


def _run(waiting: list[list[JobInFolder]], on_done: OnDone, at_once: int, machine: Machine) -> list[list[JobResult]]:
    """The results of one process for each list of jobs."""
    processes: list[_Process] = []
    running: list[_Process] = []
    try:
        while len(processes) < len(waiting) or running:
            while len(processes) < len(waiting) and len(running) < at_once:
                processes.append(_start(waiting[len(processes)], machine))
                running.append(processes[-1])
            for process in [p for p in running if p.popen.poll() is not None]:
                running.remove(process)
                _raise_failure(process)
                on_done(process.jobs[-1][0])
            time.sleep(POLL_S)
    finally:
        for process in running:
            _stop(process)
    return [[_collect(*job) for job in process.jobs] for process in processes]


def _prepare(job: Job, targets: Array, folder: Path, weights: Mapping[str, Tensor] | None) -> JobInFolder:
    place = folder / f"{job.backend}-{job.recipe_name}"
    place.mkdir(parents=True)
    (place / "job.json").write_text(json.dumps(asdict(job)), "utf-8")
    save_array(place / "targets.npy", targets)
    if job.convert:
        from safetensors.torch import save

        assert weights is not None
        (place / "weights.safetensors").write_bytes(save(dict(weights)))  # save_file loses the error number too
    return job, place


def _start(jobs: list[JobInFolder], machine: Machine) -> _Process:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(machine.threads))
    folders = [folder for _, folder in jobs]
    temporary = folders[0] / "tmp"
    temporary.mkdir()
    with open(folders[0] / "log.txt", "wb") as log:
        popen = subprocess.Popen(
            [*machine.command, "-m", "mfs_deploy.backends.worker", *map(str, folders)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # TMPDIR: what converters leave behind goes with the job.
            env={**os.environ, **threads, **machine.environment, "TMPDIR": str(temporary)},
            start_new_session=True,  # a converter's own children can be stopped with it, and Ctrl-C reaches only the parent
        )
    return _Process(jobs, popen)


def _stop(process: _Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.popen.pid, signal.SIGKILL)
    process.popen.wait()


def _raise_failure(process: _Process) -> None:
    code = process.popen.returncode
    for _, folder in process.jobs:
        error_file = folder / "error.json"
        if error_file.exists():
            fields = json.loads(error_file.read_text("utf-8"))
            kind: type[errors.MfsError] = getattr(errors, fields["class"])
            error = kind(fields["message"], hint=fields["hint"], kind=fields["kind"])
            error.exit_code = fields["exit_code"]
            raise error
    if code == 0 and all((folder / "result.json").exists() for _, folder in process.jobs):
        return
    what = f"was killed by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"stopped with exit code {code}"
    raise errors.ConversionError(
        f"the {process.jobs[0][0].backend} worker {what}: {_last_line(process.jobs[0][1] / 'log.txt')}",
        hint="mfs doctor shows whether this backend works here",
    )


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"


def _collect(job: Job, folder: Path) -> JobResult:
    result = Result(**json.loads((folder / "result.json").read_text("utf-8")))
    outputs = {path.stem: np.load(path) for path in (folder / OUTPUTS).glob("*.npy")}
    return JobResult(job, result, outputs, folder)
