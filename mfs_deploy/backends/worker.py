"""The child process: runs one backend's jobs.  Convert, open from disk, run.

Converters disagree about protobuf, OpenMP and MLIR, import slowly, and can crash.  In processes of their own they cannot break
each other or the caller, and they run side by side.  The parent starts ``python -m mfs_deploy.backends.worker FOLDER...``, which
does the jobs in these folders one after another (see ``job.py`` for their files).
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfs_deploy import errors
from mfs_deploy.backends.job import LAYERS, OUTPUTS, SECTIONS, FrameTiming, Job, Result, save_array

if TYPE_CHECKING:
    from mfs_deploy.backends.base import Array, Runner


MARK = 0x4D410000  # no file descriptor
WARM_UP, MIN_FRAMES, MAX_FRAMES = 5, 15, 100
TIMING_S = 2.0  # no longer than this for more than MIN_FRAMES


def work(folder: Path) -> Result:
    """Do the job in ``folder``.  Raises the backend's errors."""
    import numpy as np

    from mfs_deploy import architectures
    from mfs_deploy.backends.base import Conversion
    from mfs_deploy.backends.registry import BACKENDS, LAYERED
    from mfs_deploy.quant import recipes
    from mfs_deploy.quant.recipes import Range

    job = _job(folder)
    backend = BACKENDS[job.backend]
    contract = architectures.interface(job.arch).contract(job.size)
    artifact, started = Path(job.artifact), time.perf_counter()
    if job.convert:
        from safetensors.torch import load_file

        from mfs_deploy.graph import simplify

        conversion = Conversion(
            graph=simplify(architectures.get(job.arch).load(load_file(folder / "weights.safetensors"))),
            contract=contract,
            recipe=recipes.from_dict(job.recipe),
            keep_float32=frozenset(job.keep_float32),
            metadata=job.metadata or {},
            coreml_io=job.coreml_io,
            tflite_io=job.tflite_io,
            ranges={name: Range(*pair) for name, pair in job.ranges.items()},
        )
        out = folder / "out"
        out.mkdir()
        backend.convert(conversion, out)
        artifact = out / backend.FILES[0]
    converted = time.perf_counter()
    runner = backend.open(artifact, contract)
    loaded = time.perf_counter()
    targets = [np.ascontiguousarray(target[None]) for target in np.load(folder / "targets.npy")]
    timing = time_frames(runner, targets[0], job.runs) if job.runs else None
    outputs = [runner.run(target) for target in targets]
    (folder / OUTPUTS).mkdir()
    for spec, arrays in zip(contract.outputs, zip(*outputs, strict=True), strict=True):
        save_array(folder / OUTPUTS / f"{spec.name}.npy", np.concatenate(arrays))
    if job.layers:
        shown = LAYERED[job.backend].values(artifact, contract, targets[0])
        np.savez(folder / LAYERS, **shown)  # type: ignore[arg-type]
    if job.count_layers:
        names = []
        for name, section in LAYERED[job.backend].sections(artifact, contract, targets[0]):
            mark()
            section()
            mark()
            names.append(name)
        (folder / SECTIONS).write_text(json.dumps(names), "utf-8")
    if job.count:
        mark_frames(runner, targets[0], job.count)
    return Result(
        backend=job.backend,
        runtime=runner.runtime,
        pixels=runner.pixels,
        convert_s=converted - started,
        info=asdict(backend.describe(artifact)),
        frame_ms=frame_ms(runner, targets[0]) if job.time else None,
        timing=None if timing is None else {"load_ms": 1000 * (loaded - converted), **timing},
    )


def frame_ms(runner: Runner, target: Array) -> float:
    """Median time of a frame in milliseconds, after a warm-up; one thread, as the worker's environment says."""
    times: list[float] = []
    frame = runner.frame(target)
    began = time.perf_counter()
    while len(times) < MIN_FRAMES or (len(times) < MAX_FRAMES and time.perf_counter() - began < TIMING_S):
        started = time.perf_counter()
        frame()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[WARM_UP:])


def time_frames(runner: Runner, target: Array, runs: int) -> FrameTiming:
    frame = runner.frame(target)

    def took_ms() -> float:
        started = time.perf_counter()
        frame()
        return 1000 * (time.perf_counter() - started)

    first = took_ms()
    for _ in range(WARM_UP):
        frame()
    times = [round(took_ms(), 4) for _ in range(runs)]
    return {"first_ms": first, "times_ms": times, "peak_mb": _peak_mb()}


def _peak_mb() -> float | None:
    """This process's peak memory in MiB; None where the system does not tell it."""
    try:
        status = Path("/proc/self/status").read_text("ascii")
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), None)


def mark_frames(runner: Runner, target: Array, frames: int) -> None:
    """Run frames with a mark before the first and after each: a failing system call, which the counting plugin sees.

    The runner has run a frame before, so one-time work is not counted.
    """
    frame = runner.frame(target)
    mark()
    for _ in range(frames):
        frame()
        mark()


def mark() -> None:
    with contextlib.suppress(OSError):
        os.close(MARK)


def _job(folder: Path) -> Job:
    values: dict[str, Any] = json.loads((folder / "job.json").read_text("utf-8"))
    assert set(values) == {f.name for f in fields(Job)}
    return Job(**values)


def end_with(parent: int) -> None:
    """End this process when its parent has ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main(folders: Sequence[Path]) -> int:
    """Do the jobs, up to the first that fails.  Returns its exit code, else 0."""
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    for folder in folders:
        try:
            result = work(folder)
        except errors.MfsError as exc:
            return fail(folder, exc)
        except OSError as exc:
            refused = errors.OutputError.from_os(exc)
            if refused is None:
                raise
            return fail(folder, refused)
        (folder / "result.json").write_text(json.dumps(asdict(result)), "utf-8")
    return 0


def fail(folder: Path, error: errors.MfsError) -> int:
    """Write ``error.json`` and return the exit code.  MissingExtra is written as its base class: its constructor differs."""
    name = "MfsError" if isinstance(error, errors.MissingExtra) else type(error).__name__
    (folder / "error.json").write_text(json.dumps({"class": name, **error.as_dict()}), "utf-8")
    return error.exit_code


if __name__ == "__main__":
    code = main([Path(folder) for folder in sys.argv[1:]])
    sys.stdout.flush()
    sys.stderr.flush()
    # Some runtimes crash while unloading, after the work is written.  Nothing is left to clean up.
    os._exit(code)
