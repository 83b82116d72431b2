"""``--recipe auto``: for each backend the fastest recipe whose artifact matches PyTorch, found by converting and timing them all.

Times are of this machine's processor.  They say which number format its runtimes have fast kernels for; a phone may differ.
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

DEFAULT = "fp16"  # where nothing can be measured, or nothing passes
ALIKE = 1.05  # frame times within this factor count as the same, and the smaller artifact is taken


@dataclass(frozen=True)
class Trial:
    """One recipe on one backend.

    Attributes:
        frame_ms: None where it was not timed: it departs from PyTorch, or the backend's runtime is not for this machine.
        complaint: how it departs from PyTorch, or None.
    """

    backend: str
    recipe: str
    bytes: int
    psnr_db: float | None
    frame_ms: float | None
    complaint: str | None
    chosen: bool


def candidates(backends: Sequence[str], *, calibrated: bool) -> list[tuple[str, Recipe]]:
    """Backends with each recipe that is to be tried there; static ones only where ranges can be had."""
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
    """One artifact for each backend, and how it was found.

    Where no recipe passes, ``DEFAULT`` is taken, for the gate to refuse.
    """
    complaints: dict[tuple[str, str], list[str]] = {}
    quality: dict[tuple[str, str], float] = {}
    for one in done:
        judged = parity.judge(outcome.outputs_of([one]), cases, reference, outcome.recipes_of([one]), encode)
        complaints[one.job.key] = judged.complaints
        if one.job.backend in judged.measured:
            quality[one.job.key] = judged.measured[one.job.backend][0].swapped_psnr_db
    passing = [one for one in done if not complaints[one.job.key]]
    progress.note(f"time {len(passing)} artifacts, one after another")
    times = {one.job.key: ms for one, ms in zip(passing, time(passing, parity.inputs(cases[:1]), scratch), strict=True)}
    chosen = [_best(backend, done, passing, times) for backend in dict.fromkeys(one.job.backend for one in done)]
    trials = [
        Trial(
            backend=one.job.backend,
            recipe=one.job.recipe_name,
            bytes=write_bundle.artifact_bytes(one),
            psnr_db=quality.get(one.job.key),
            frame_ms=times.get(one.job.key),
            complaint=next(iter(complaints[one.job.key]), None),
            chosen=one.job.key in {other.job.key for other in chosen},
        )
        for one in done
    ]
    return chosen, trials


def time(done: Sequence[JobResult], target: parity.Array, scratch: Path) -> list[float | None]:
    """Milliseconds that each artifact takes for a (1, 3, S, S) target with one thread; None where its runtime is not here.

    One artifact at a time, so that none slows another.
    """
    jobs = [replace(one.job.as_runnable(one.folder / "out"), time=True) for one in done if BACKENDS[one.job.backend].RUNS_HERE]
    timed = iter(launch.run(jobs, target, scratch / "timing", side_by_side=False))
    return [next(timed).result.frame_ms if BACKENDS[one.job.backend].RUNS_HERE else None for one in done]


def _best(
    backend: str, done: Sequence[JobResult], passing: Sequence[JobResult], times: dict[tuple[str, str], float | None]
) -> JobResult:
    mine = [one for one in passing if one.job.backend == backend]
    timed = {one.job.key: ms for one in mine if (ms := times[one.job.key]) is not None}
    if timed:
        limit = ALIKE * min(timed.values())
        return min((one for one in mine if timed[one.job.key] <= limit), key=write_bundle.artifact_bytes)
    return next(one for one in done if one.job.key == (backend, DEFAULT))
