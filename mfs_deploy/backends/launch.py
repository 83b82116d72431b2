"""Starts workers, several at once, and brings their answers together.  See ``worker.py`` for what passes between."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mfs_deploy import errors
from mfs_deploy.backends.tflite import backend as tflite
from mfs_deploy.backends.worker import (
    OUTPUTS,
    Job,
    Result,
    save_array,
)

if TYPE_CHECKING:
    from torch import Tensor

POLL_S = 0.05
Array = NDArray[np.float32]
OnDone = Callable[[Job], None]


@dataclass(frozen=True)
class Done:
    """A finished job: what the worker said, and the (N, C, S, S) outputs by the contract's names."""

    job: Job
    result: Result
    outputs: dict[str, Array]
    folder: Path


@dataclass(frozen=True)
class Machine:
    """Where a worker runs: the Python to start there, and what it must find in its environment."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1


HERE = Machine(platform.machine(), (sys.executable,))
TENSORFLOW = replace(HERE, name="TensorFlow", environment={tflite.INTERPRETER: tflite.TENSORFLOW})


Part = tuple[Job, Path]  # with the folder that it is done in


@dataclass
class _Process:
    """A worker and the jobs that it does one after another."""

    parts: list[Part]
    popen: subprocess.Popen[bytes]


@contextlib.contextmanager
def scratch(parent: Path | None = None) -> Iterator[Path]:
    """A private folder that is gone afterwards, whatever happens."""
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
    machine: Machine = HERE,
) -> list[Done]:
    """Run jobs in processes of their own; answers in the order of ``jobs``.

    Args:
        targets: (N, 3, S, S) float32, given to every artifact.
        folder: where job folders and artifacts go; the caller's to delete.
        weights: the baked network, needed where a job converts.
        side_by_side: as many at once as there are cores, else one after another.
        machine: what runs them.

    Raises:
        the first job's error, after the others were stopped; ConversionError if a worker crashed.
    """
    waiting = [[_prepare(job, targets, folder, weights)] for job in jobs]
    at_once = (os.cpu_count() or 1) if side_by_side else 1
    return [one for (one,) in _run(waiting, on_done, at_once, machine)]


def convert_people(
    jobs: Sequence[Sequence[Job]],
    weights: Sequence[Mapping[str, Tensor]],
    targets: Array,
    folder: Path,
    *,
    on_done: OnDone = lambda job: None,
) -> list[list[Done]]:
    """As ``run``, for several people: the same jobs for each, and each one's answers.

    What differs between people is done in one process, since converters are slow to import.
    """
    places = [
        [_prepare(job, targets, folder / str(person), baked) for job in theirs]
        for person, (theirs, baked) in enumerate(zip(jobs, weights, strict=True))
    ]
    waiting = [list(parts) for parts in zip(*places, strict=True)]
    done = _run(waiting, on_done, os.cpu_count() or 1, HERE)
    return [list(theirs) for theirs in zip(*done, strict=True)]


def _run(waiting: list[list[Part]], on_done: OnDone, at_once: int, machine: Machine) -> list[list[Done]]:
    """The answers of one process for each list of parts."""
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
                on_done(process.parts[-1][0])
            time.sleep(POLL_S)
    finally:
        for process in running:
            _stop(process)
    return [[_collect(*part) for part in process.parts] for process in processes]


def _prepare(job: Job, targets: Array, folder: Path, weights: Mapping[str, Tensor] | None) -> Part:
    place = folder / f"{job.backend}-{job.recipe_name}"
    place.mkdir(parents=True)
    (place / "job.json").write_text(json.dumps(asdict(job)), "utf-8")
    save_array(place / "targets.npy", targets)
    if job.convert:
        from safetensors.torch import save

        assert weights is not None
        (place / "weights.safetensors").write_bytes(save(dict(weights)))  # its own writes lose the error number too
    return job, place


def _start(parts: list[Part], machine: Machine) -> _Process:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(machine.threads))
    folders = [folder for _, folder in parts]
    temporary = folders[0] / "tmp"
    temporary.mkdir()
    with open(folders[0] / "log.txt", "wb") as log:
        popen = subprocess.Popen(
            [*machine.command, "-m", "mfs_deploy.backends.worker", *map(str, folders)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                **threads,
                **machine.environment,
                "TMPDIR": str(temporary),
            },  # what converters leave behind goes with the job
            start_new_session=True,  # so that what a converter starts can be stopped with it, and Ctrl-C reaches only us
        )
    return _Process(parts, popen)


def _stop(process: _Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.popen.pid, signal.SIGKILL)
    process.popen.wait()


def _raise_failure(process: _Process) -> None:
    code = process.popen.returncode
    for _, folder in process.parts:
        error_file = folder / "error.json"
        if error_file.exists():
            said = json.loads(error_file.read_text("utf-8"))
            kind: type[errors.MfsError] = getattr(errors, said["class"])
            error = kind(said["message"], hint=said["hint"], kind=said["kind"])
            error.exit_code = said["exit_code"]
            raise error
    if code == 0 and all((folder / "result.json").exists() for _, folder in process.parts):
        return
    what = f"was killed by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"stopped with exit code {code}"
    raise errors.ConversionError(
        f"the {process.parts[0][0].backend} worker {what}: {_last_line(process.parts[0][1] / 'log.txt')}",
        hint="mfs doctor shows whether this backend works here",
    )


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"


def _collect(job: Job, folder: Path) -> Done:
    result = Result(**json.loads((folder / "result.json").read_text("utf-8")))
    outputs = {path.stem: np.load(path) for path in (folder / OUTPUTS).glob("*.npy")}
    return Done(job, result, outputs, folder)
