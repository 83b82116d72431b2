"""Kits made from a checkpoint: its templates, and the generator and identity encoder as ONNX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mfs_deploy.backends.job import Job
from mfs_deploy.bundle import provenance
from mfs_deploy.errors import ConversionError
from mfs_deploy.exporter import artifacts, calibrate
from mfs_deploy.exporter.prepare import Models, open_models
from mfs_deploy.exporter.request import CalibrationOptions, Formats, Network, check_formats, check_network
from mfs_deploy.graph import simplify
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.quant import ranges_file, recipes
from mfs_deploy.quant.float16_headroom import Headroom
from mfs_deploy.stamping import build
from mfs_deploy.stamping.kit import FACE_INPUT, Kit
from mfs_deploy.stamping.template import NO_WEIGHTS_SHA256, Template

NO_HEADROOM = Headroom({}, "", 1.0, frozenset())  # templates keep nothing in float32 for one person's sake


@dataclass(frozen=True)
class KitRequest:
    """Which templates: every recipe on every backend.  ``ranges`` is a file, for integer recipes."""

    network: Network
    backends: tuple[str, ...]
    recipes: Sequence[str]
    ranges: Path | None = None


@dataclass(frozen=True)
class Templates:
    """``reasons``: why there is no template, by backend and recipe."""

    models: Models
    facts: provenance.Facts
    templates: list[Template]
    reasons: dict[tuple[str, str], str]


def templates(request: KitRequest, progress: Progress = SILENT) -> Templates:
    """Templates from the cache, or built.

    Raises:
        UsageError: a backend lacks a recipe, or an integer recipe its ranges.
        MfsError: as an export's.
    """
    network = request.network
    formats = Formats(request.backends, calibration=CalibrationOptions(ranges=request.ranges))
    check_network(network)
    check_formats(formats)
    pairs = [(name, recipes.load(recipe)) for recipe in request.recipes for name in request.backends]
    calibrate.check(formats, pairs)
    progress.start(2)
    models = open_models(network, progress)
    facts = provenance.Facts(models.arch.INTERFACE.contract(network.side), models.files, NO_WEIGHTS_SHA256)
    calibration = None
    if request.ranges is not None:
        names = [node.name for node in simplify(models.arch.blank()).graph.nodes if node.op != "output"]
        calibration = ranges_file.Calibration(ranges_file.read(request.ranges, network.arch, network.side, names))

    def jobs(digest: str) -> list[Job]:
        return artifacts.make_jobs(formats, pairs, NO_HEADROOM, replace(facts, weights_sha256=digest), calibration)

    progress.step("build what is not in the cache")
    held, reasons = build.get(jobs, models.arch, models.generator, progress)
    return Templates(models, facts, list(held.values()), reasons)


def make(request: KitRequest, progress: Progress = SILENT) -> Kit:
    """Build a kit.

    Raises:
        ConversionError: a requested template does not hold.
        MfsError: as ``templates``.
    """
    built = templates(request, progress)
    for (backend, recipe), why in built.reasons.items():
        raise ConversionError(f"no template for {backend} {recipe}: {why}", hint="leave it out", kind="template")
    return make_kit(built.models, built.facts, built.templates)


def make_kit(models: Models, facts: provenance.Facts, templates: Iterable[Template]) -> Kit:
    """Templates, and generator and identity encoder as ONNX, for a machine without PyTorch."""
    import torch

    from mfs_deploy.stamping.patch_convolutions import with_patches
    from mfs_deploy.stamping.to_onnx import to_onnx

    arch = models.arch
    rng = np.random.default_rng(build.SEED)
    people = [build.arrays(arch.bake(models.generator, arch.random_identity(rng))) for _ in range(2)]
    shared = {key: array for key, array in people[0].items() if np.array_equal(array, people[1][key])}
    own = [key for key in people[0] if key not in shared]
    predict = arch.predictor(models.generator, own)
    somebody = arch.random_identity(rng)
    identity, side = tuple(arch.INTERFACE.identity), arch.INTERFACE.encoder_size
    example = tuple(torch.from_numpy(np.repeat(getattr(somebody, name), 2, 0)) for name in identity)
    encoder = None if models.encoder is None else to_onnx(models.encoder, (torch.rand(2, 3, side, side),), (FACE_INPUT,), identity)
    return Kit(
        templates=tuple(templates),
        generator=to_onnx(with_patches(predict), example, identity, own),
        encoder=encoder,
        shared=shared,
        common=provenance.common(facts),
        encoder_sha256="" if models.encoder is None else provenance.weights_sha256(models.encoder.state_dict()),
        source_size=side,
    )
