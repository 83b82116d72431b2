"""Kits made from a checkpoint: its templates, and what else a machine without PyTorch needs to make people's bundles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mfs_deploy.backends.job import Job
from mfs_deploy.bundle import provenance
from mfs_deploy.errors import ConversionError
from mfs_deploy.export import artifacts
from mfs_deploy.export import calibrate as quantizing
from mfs_deploy.export import prepare as preparing
from mfs_deploy.graph import simplify
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.quant import float16_headroom as headroom
from mfs_deploy.quant import ranges_file
from mfs_deploy.quant import recipe as recipes
from mfs_deploy.stamping import build as templating
from mfs_deploy.stamping.kit import Kit
from mfs_deploy.stamping.template import NOBODY, Template

ANYBODY = headroom.Headroom({}, "", 1.0, frozenset())  # templates keep nothing in float32 for one person's sake


@dataclass(frozen=True)
class Wanted:
    """Which templates: every recipe on every backend."""

    checkpoint: str
    targets: tuple[str, ...]
    recipes: Sequence[str]
    size: int | None = None
    arch: str = "mobilefaceswap"
    encoder: Path | None = None
    ranges: Path | None = None


@dataclass(frozen=True)
class Found:
    models: preparing.Models
    facts: provenance.Facts
    templates: list[Template]
    reasons: dict[tuple[str, str], str]


def templates(wanted: Wanted, progress: Progress = SILENT) -> Found:
    """Templates from the cache, or built.

    Raises:
        UsageError: a backend lacks a recipe, or an integer recipe its ranges.
        MfsError: as an export's.
    """
    request = preparing.Request(
        checkpoint=wanted.checkpoint,
        identity=Path(),
        out=Path(),
        encoder=wanted.encoder,
        targets=wanted.targets,
        size=wanted.size,
        arch=wanted.arch,
        calibration=quantizing.How(ranges=wanted.ranges),
    )
    preparing.check(request)
    pairs = [(name, recipes.load(recipe)) for recipe in wanted.recipes for name in wanted.targets]
    quantizing.check(request.calibration, pairs, request.tflite_io)
    progress.start(2)
    models = preparing.open_models(request, progress)
    facts = provenance.Facts(models.arch.INTERFACE.contract(request.side), models.files, NOBODY)
    calibrated = None
    if wanted.ranges is not None:
        names = [node.name for node in simplify(models.arch.blank()).graph.nodes if node.op != "output"]
        calibrated = ranges_file.Calibration(ranges_file.read(wanted.ranges, wanted.arch, request.side, names))

    def jobs(digest: str) -> list[Job]:
        return artifacts.make_jobs(request, pairs, ANYBODY, replace(facts, weights_sha256=digest), calibrated)

    progress.step("build what is not in the cache")
    found, reasons = templating.get(jobs, models.arch, models.generator, progress)
    return Found(models, facts, list(found.values()), reasons)


def make(wanted: Wanted, progress: Progress = SILENT) -> Kit:
    """
    Raises:
        ConversionError: a template that is wanted does not hold.
    """
    found = templates(wanted, progress)
    for (backend, recipe), why in found.reasons.items():
        raise ConversionError(f"no template for {backend} {recipe}: {why}", hint="leave it out", kind="template")
    return templating.make_kit(found.models, found.facts, found.templates)
