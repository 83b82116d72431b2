"""``--recipe auto``: for each backend the fastest recipe whose artifact matches PyTorch; all are converted and timed.

Times are of this machine's processor, and depend on the number formats that its runtimes have fast kernels for; a phone may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mfs_deploy.backends import launch
from mfs_deploy.backends.launch import JobResult
from mfs_deploy.backends.registry import BACKENDS, has
from mfs_deploy.evaluate import outcome, parity
from mfs_deploy.exporter import write_bundle
from mfs_deploy.progress import Progress
from mfs_deploy.quant import recipes
from mfs_deploy.quant.recipes import Recipe

DEFAULT = "fp16"  # where no runtime is on this machine, or no recipe passes
TIE_RATIO = 1.05  # frame times within this factor of the fastest count as equal; then the smallest artifact is taken


@dataclass(frozen=True)
class Trial:
    """One recipe on one backend.

    Attributes:
        frame_ms: None if it was not timed: it is outside its tolerance, or the backend's runtime is not for this machine.
        complaint: the worst violation of its tolerance, or None.
    """

    backend: str
    recipe: str
    bytes: int
    psnr_db: float | None
    frame_ms: float | None
    complaint: str | None
    chosen: bool


def candidates(backends: Sequence[str], *, calibrated: bool) -> list[tuple[str, Recipe]]:
    """Backends with each recipe to try there; static ones only with a calibration."""
    every = [recipes.load(name) for name in recipes.names()]
    return [
        (backend, recipe)
        for backend in backends
        for recipe in every
        if has(backend, recipe) and (calibrated or not recipe.is_static) and (BACKENDS[backend].RUNS_HERE or recipe.name == DEFAULT)
    ]


def choose(
    done: Sequence[JobResult],
    cases: list[parity.Case],
    reference: parity.Outputs,
    encode: parity.Encode | None,
    scratch: Path,
    progress: Progress,
) -> tuple[list[JobResult], list[Trial]]:
    """Choose one artifact for each backend; if none passes, the one of ``DEFAULT``, which the export then rejects.

    Returns:
        the chosen artifacts, and all that were tried.
    """
    violations: dict[tuple[str, str], list[str]] = {}
    psnr_db: dict[tuple[str, str], float] = {}
    for result in done:
        key, backend = result.job.key, result.job.backend
        report = parity.judge(outcome.outputs_of([result]), cases, reference, outcome.recipes_of([result]), encode)
        violations[key] = report.violations
        if backend in report.measured:
            psnr_db[key] = report.measured[backend][0].swapped_psnr_db
    passing = [result for result in done if not violations[result.job.key]]
    progress.note(f"time {len(passing)} artifacts, one after another")
    frame_ms = time(passing, parity.inputs(cases[:1]), scratch)
    times = {result.job.key: ms for result, ms in zip(passing, frame_ms, strict=True)}
    chosen = [_best(backend, done, passing, times) for backend in dict.fromkeys(result.job.backend for result in done)]
    trials = [
        Trial(
            backend=result.job.backend,
            recipe=result.job.recipe_name,
            bytes=write_bundle.artifact_bytes(result),
            psnr_db=psnr_db.get(result.job.key),
            frame_ms=times.get(result.job.key),
            complaint=next(iter(violations[result.job.key]), None),
            chosen=result.job.key in {other.job.key for other in chosen},
        )
        for result in done
    ]
    return chosen, trials


def time(done: Sequence[JobResult], target: parity.Array, scratch: Path) -> list[float | None]:
    """Milliseconds of each artifact for a (1, 3, S, S) target with one thread; None if its runtime is not for this machine.

    One artifact runs at a time, so that none slows another.
    """
    here = [result for result in done if BACKENDS[result.job.backend].RUNS_HERE]
    jobs = [replace(result.job.as_runnable(result.folder / "out"), time=True) for result in here]
    timed = iter(launch.run(jobs, target, scratch / "timing", side_by_side=False))
    return [next(timed).result.frame_ms if BACKENDS[result.job.backend].RUNS_HERE else None for result in done]


def _best(
    backend: str, done: Sequence[JobResult], passing: Sequence[JobResult], times: dict[tuple[str, str], float | None]
) -> JobResult:
    timed = [(ms, result) for result in passing if result.job.backend == backend and (ms := times[result.job.key]) is not None]
    if timed:
        limit_ms = TIE_RATIO * min(ms for ms, _ in timed)
        return min((result for ms, result in timed if ms <= limit_ms), key=write_bundle.artifact_bytes)
    return next(result for result in done if result.job.key == (backend, DEFAULT))
