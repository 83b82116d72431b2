"""A prepared network to artifacts: stamped where a template is to be had, converted in full otherwise; opened and run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mfs_deploy.backends import launch as workers
from mfs_deploy.backends.job import Job
from mfs_deploy.bundle import provenance
from mfs_deploy.errors import UsageError
from mfs_deploy.export import auto_recipe as choosing
from mfs_deploy.export.prepare import Prepared, Request
from mfs_deploy.progress import Progress
from mfs_deploy.quant import float16_headroom as headroom
from mfs_deploy.quant import ranges_file
from mfs_deploy.quant import recipe as recipes
from mfs_deploy.quant.recipe import Recipe
from mfs_deploy.stamping import build as templating
from mfs_deploy.stamping.kit import write_bundle
from mfs_deploy.stamping.template import (
    Template,
    Weights,
    stamp,
    write_files,
)

WITH_PARITY = "leave out --parity off: a conversion is not trusted unmeasured"


def wanted_artifacts(request: Request) -> list[tuple[str, Recipe]]:
    """Backend and recipe of each artifact to make.  Raises UsageError where a recipe does not exist."""
    if request.recipe == choosing.AUTO:
        return choosing.candidates(request.targets, calibrated=request.calibration.is_given)
    recipe = recipes.load(request.recipe)
    return [(name, recipe) for name in request.targets]


def make_facts(request: Request, ready: Prepared) -> provenance.Facts:
    return provenance.Facts(ready.models.arch.INTERFACE.contract(request.side), ready.models.files, ready.weights_sha256)


def make_jobs(
    request: Request,
    wanted: Sequence[tuple[str, Recipe]],
    room: headroom.Headroom,
    facts: provenance.Facts,
    calibrated: ranges_file.Calibration | None,
) -> list[Job]:
    seen = {} if calibrated is None else calibrated.kept.ranges
    return [
        Job(
            backend=name,
            arch=request.arch,
            size=request.side,
            recipe=asdict(recipe),
            convert=True,
            keep_float32=tuple(sorted(room.keep_float32)) if recipe.may_overflow else (),
            metadata=provenance.metadata(facts, recipe),
            coreml_io=request.coreml_io,
            tflite_io=request.tflite_io,
            ranges={node: (r.low, r.high) for node, r in seen.items()} if recipe.is_static else {},
        )
        for name, recipe in wanted
    ]


def make_artifacts(
    request: Request, ready: Prepared, jobs: list[Job], scratch: Path, progress: Progress
) -> list[workers.JobResult]:
    """Artifacts, opened and run: from templates where one is to be had, by full conversion otherwise."""
    folders: dict[tuple[str, str], Path] = {}
    if not request.full_conversion and request.recipe != choosing.AUTO:
        stamped = [job for job in jobs if can_be_stamped(request, job)]
        templates = find_templates(ready, stamped, progress) if stamped else {}
        folders = {name: scratch / "stamped" / "-".join(name) for name in templates}
        weights = weights_of(ready)
        for name, folder in folders.items():
            write_files(stamp(templates[name], weights), folder / "out")
    todo = [job.as_runnable(folders[job.key] / "out") if job.key in folders else job for job in jobs]
    done = workers.run(todo, ready.targets, scratch, weights=ready.baked, on_done=lambda job: progress.step(made(job)))
    return [replace(one, folder=folders.get(one.job.key, one.folder)) for one in done]


def can_be_stamped(request: Request, job: Job) -> bool:
    """Whether all people share its template: not where something depends on this person's values."""
    return not job.keep_float32 and (not job.ranges or request.calibration.ranges is not None)


def find_templates(ready: Prepared, jobs: list[Job], progress: Progress) -> dict[tuple[str, str], Template]:
    """Those that hold, by backend and recipe; of the others it is said why."""

    def jobs_of(digest: str) -> list[Job]:
        return [replace(job, metadata={**(job.metadata or {}), provenance.WEIGHTS_KEY: digest}) for job in jobs]

    templates, reasons = templating.get(jobs_of, ready.models.arch, ready.models.generator, progress)
    for (backend, recipe), reason in reasons.items():
        progress.note(f"{backend} {recipe} is converted in full, for its template does not hold: {reason}")
    return templates


def weights_of(ready: Prepared) -> Weights:
    return Weights(templating.arrays(ready.baked), ready.weights_sha256)


def write_stamped(
    request: Request, ready: Prepared, jobs: list[Job], common: dict[str, Any], folder: Path, progress: Progress
) -> None:
    """A whole bundle out of templates, nothing opened and nothing run.

    Raises:
        UsageError: something must be converted.
    """
    templates = find_templates(ready, [job for job in jobs if can_be_stamped(request, job)], progress)
    for job in jobs:
        if job.key not in templates:
            raise UsageError(f"{job.backend} {job.recipe_name} has no template, so it must be converted", hint=WITH_PARITY)
    write_bundle(common, templates.values(), weights_of(ready), folder)


def made(job: Job) -> str:
    return f"{job.backend} {'converted to' if job.convert else 'stamped with'} {job.recipe_name}"
