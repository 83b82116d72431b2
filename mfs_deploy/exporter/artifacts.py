"""A baked network to artifacts: stamped where there is a template, converted in full otherwise; opened and run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mfs_deploy.backends import launch
from mfs_deploy.backends.job import Job
from mfs_deploy.bundle import provenance
from mfs_deploy.bundle.manifest_types import CommonEntry
from mfs_deploy.errors import UsageError
from mfs_deploy.exporter import auto_recipe
from mfs_deploy.exporter.prepare import BakedPerson
from mfs_deploy.exporter.request import AUTO, Formats
from mfs_deploy.progress import Progress
from mfs_deploy.quant import ranges_file, recipes
from mfs_deploy.quant.float16_headroom import Headroom
from mfs_deploy.quant.recipes import Recipe
from mfs_deploy.stamping import build
from mfs_deploy.stamping.kit import write_bundle
from mfs_deploy.stamping.template import (
    PersonWeights,
    Template,
    stamp,
    write_files,
)

WITH_PARITY = "leave out --parity off: a conversion is not trusted unmeasured"


def list_artifacts(formats: Formats) -> list[tuple[str, Recipe]]:
    """Backend and recipe of each artifact to make.  Raises UsageError where a recipe does not exist."""
    if formats.recipe == AUTO:
        return auto_recipe.candidates(formats.backends, calibrated=formats.calibration.is_given)
    recipe = recipes.load(formats.recipe)
    return [(name, recipe) for name in formats.backends]


def make_facts(baked: BakedPerson, size: int) -> provenance.Facts:
    return provenance.Facts(baked.models.arch.INTERFACE.contract(size), baked.models.files, baked.weights_sha256)


def make_jobs(
    formats: Formats,
    pairs: Sequence[tuple[str, Recipe]],
    headroom: Headroom,
    facts: provenance.Facts,
    calibration: ranges_file.Calibration | None,
) -> list[Job]:
    """A conversion for each backend and recipe."""
    ranges = {} if calibration is None else calibration.stored.ranges
    return [
        Job(
            backend=name,
            arch=facts.contract.arch,
            size=facts.contract.size,
            recipe=asdict(recipe),
            convert=True,
            keep_float32=tuple(sorted(headroom.keep_float32)) if recipe.may_overflow else (),
            metadata=provenance.metadata(facts, recipe),
            coreml_io=formats.coreml_io,
            tflite_io=formats.tflite_io,
            ranges={node: (r.low, r.high) for node, r in ranges.items()} if recipe.is_static else {},
        )
        for name, recipe in pairs
    ]


def make_artifacts(
    formats: Formats, baked: BakedPerson, jobs: list[Job], scratch: Path, progress: Progress
) -> list[launch.JobResult]:
    """Artifacts, opened and run on the person's crops: from templates where there is one, by full conversion otherwise."""
    folders: dict[tuple[str, str], Path] = {}
    if not formats.full_conversion and formats.recipe != AUTO:
        stamped = [job for job in jobs if can_be_stamped(formats, job)]
        templates = find_templates(baked, stamped, progress) if stamped else {}
        folders = {name: scratch / "stamped" / "-".join(name) for name in templates}
        weights = weights_of(baked)
        for name, folder in folders.items():
            write_files(stamp(templates[name], weights), folder / "out")
    todo = [job.as_runnable(folders[job.key] / "out") if job.key in folders else job for job in jobs]
    done = launch.run(todo, baked.crops, scratch, weights=baked.weights, on_done=lambda job: progress.step(made(job)))
    return [replace(one, folder=folders.get(one.job.key, one.folder)) for one in done]


def can_be_stamped(formats: Formats, job: Job) -> bool:
    """Whether all people share the job's template, so that nothing depends on this person's values."""
    return not job.keep_float32 and (not job.ranges or formats.calibration.ranges is not None)


def find_templates(baked: BakedPerson, jobs: list[Job], progress: Progress) -> dict[tuple[str, str], Template]:
    """The templates that hold, by backend and recipe; why the others do not is reported as progress."""

    def jobs_of(digest: str) -> list[Job]:
        return [replace(job, metadata={**(job.metadata or {}), provenance.WEIGHTS_KEY: digest}) for job in jobs]

    templates, reasons = build.get(jobs_of, baked.models.arch, baked.models.generator, progress)
    for (backend, recipe), reason in reasons.items():
        progress.note(f"{backend} {recipe} is converted in full, for its template does not hold: {reason}")
    return templates


def weights_of(baked: BakedPerson) -> PersonWeights:
    return PersonWeights(build.arrays(baked.weights), baked.weights_sha256)


def write_stamped(
    formats: Formats, baked: BakedPerson, jobs: list[Job], common: CommonEntry, folder: Path, progress: Progress
) -> None:
    """Write a whole bundle from templates; no artifact is opened or run.

    Raises:
        UsageError: something must be converted.
    """
    templates = find_templates(baked, [job for job in jobs if can_be_stamped(formats, job)], progress)
    for job in jobs:
        if job.key not in templates:
            raise UsageError(f"{job.backend} {job.recipe_name} has no template, so it must be converted", hint=WITH_PARITY)
    write_bundle(common, templates.values(), weights_of(baked), folder)


def made(job: Job) -> str:
    return f"{job.backend} {'converted to' if job.convert else 'stamped with'} {job.recipe_name}"
