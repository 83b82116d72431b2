"""What is asked for, and a person's network before any converter: checkpoint and photo in, baked weights and reference out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mfs_deploy import architectures, metrics
from mfs_deploy.architectures import source_face
from mfs_deploy.architectures.base import Architecture, Identity, Interface
from mfs_deploy.bundle import provenance
from mfs_deploy.checkpoint import identity_file
from mfs_deploy.checkpoint import load as checkpoints
from mfs_deploy.contract import STAGE_MAX_ERROR
from mfs_deploy.demo import example
from mfs_deploy.errors import (
    CheckpointError,
    ParityError,
    PhotoError,
    UsageError,
)
from mfs_deploy.evaluate import parity
from mfs_deploy.evaluate.reference import run_pytorch
from mfs_deploy.export import auto_recipe as choosing
from mfs_deploy.export import calibrate as quantizing
from mfs_deploy.faces import align, find, pixels, portrait
from mfs_deploy.faces.detectors import Detector, open_detector
from mfs_deploy.graph import simplify
from mfs_deploy.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

# Parity is measured on a real crop and on noise, on the crop alone, or not at all.
PARITIES = ("full", "sample", "off")
DEMO = "demo"  # as --checkpoint: weights trained on rendered people; as --source: one of them, never seen in training
PARITY_FRAME = 1024  # a larger target photo is shrunk to this for parity and for the reference tensors


@dataclass(frozen=True)
class Request:
    """What the user asked for.  Exactly one of ``source`` and ``identity``; ``DEMO`` may stand for a path."""

    checkpoint: str
    out: Path
    source: str | None = None
    source_where: find.Where = find.UNKNOWN
    identity: Path | None = None
    encoder: Path | None = None
    detector: Path | None = None
    target: Path | None = None
    target_where: find.Where = find.UNKNOWN
    targets: tuple[str, ...] = ("onnx", "tflite", "ncnn", "coreml")
    recipe: str = "fp16"
    size: int | None = None
    arch: str = "mobilefaceswap"
    coreml_io: str = "image"
    tflite_io: str = "float32"
    calibration: quantizing.How = quantizing.NOTHING
    full_conversion: bool = False
    parity: str = "full"

    @property
    def interface(self) -> Interface:
        """Raises UsageError where no architecture is called so."""
        return architectures.interface(self.arch)

    @property
    def side(self) -> int:
        """Of the crop: as asked for, or the architecture's usual one."""
        return self.interface.sizes[0] if self.size is None else self.size


@dataclass(frozen=True)
class Models:
    """A checkpoint opened: its networks in eval mode, a face detector if there is one, and where they came from."""

    arch: Architecture
    generator: nn.Module
    encoder: nn.Module | None
    detector: Detector | None
    files: tuple[checkpoints.SourceFile, ...]


@dataclass(frozen=True)
class Person:
    """An identity, and the aligned crop it was read from unless it came from a file."""

    identity: Identity
    crop: pixels.Image | None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A person's network before any converter, and what it gives."""

    models: Models
    person: Person
    cases: list[parity.Case]
    targets: parity.Array
    baked: Mapping[str, Tensor]
    net: nn.Module
    graph: fx.GraphModule
    reference: parity.Outputs

    @cached_property
    def weights_sha256(self) -> str:
        return provenance.weights_sha256(self.baked)


def check(request: Request) -> None:
    """Refuse what cannot work, or would be ignored, before anything is read.

    Raises:
        UsageError: options that do not fit together, or a value that is not allowed.
    """
    if request.side not in request.interface.sizes:
        sizes = ", ".join(map(str, request.interface.sizes))
        raise UsageError(f"--size {request.size} is not possible for {request.arch}", hint=f"choose from: {sizes}")
    if request.parity not in PARITIES:
        raise UsageError(f"--parity {request.parity!r}", hint=f"choose from: {', '.join(PARITIES)}")
    if request.parity == "off" and (request.full_conversion or request.recipe == choosing.AUTO):
        raise UsageError("--parity off is for stamped artifacts, whose bytes are proven; a conversion is not trusted unmeasured")
    if (request.source is None) == (request.identity is None):
        raise UsageError("give exactly one of --source and --identity")
    if request.source in (None, DEMO) and not request.source_where.is_unknown:
        raise UsageError("--landmarks, --aligned and --face say where the face is in --source PHOTO, and there is no such photo")
    if request.target is None and not request.target_where.is_unknown:
        raise UsageError("--target-landmarks, --target-aligned and --target-face need --target PHOTO")


def open_models(request: Request, progress: Progress = SILENT) -> Models:
    progress.step("read the checkpoint")
    arch = architectures.get(request.arch)
    path, encoder = Path(request.checkpoint), request.encoder
    if request.checkpoint == DEMO:
        if request.arch != "mobilefaceswap":
            raise UsageError(f"the demo weights are MobileFaceSwap's; {request.arch} has none", hint="pass --checkpoint FILE")
        path, own = example.weights()
        encoder = encoder or own
    checkpoint = checkpoints.load(path, encoder, arch=request.arch, progress=progress.note)
    model = request.detector if request.detector is not None else checkpoint.detector
    return Models(
        arch=arch,
        generator=arch.generator(checkpoint.generator),
        encoder=None if checkpoint.encoder is None else arch.encoder(checkpoint.encoder),
        detector=None if model is None else open_detector(model),
        files=checkpoint.files,
    )


def find_person(request: Request, models: Models, progress: Progress = SILENT) -> Person:
    progress.step("read the face")
    if request.identity is not None:
        arrays = identity_file.load(request.identity, request.arch)
        if models.encoder is not None and arrays.encoder_sha256 != provenance.weights_sha256(models.encoder.state_dict()):
            raise CheckpointError(
                f"{request.identity.name} was read by another identity encoder than this checkpoint's; it means nothing here",
                hint="read the photo again with mfs identity and this checkpoint",
                kind="identity",
            )
        return Person(Identity(arrays.embedding, arrays.feature_map), None)
    assert request.source is not None
    if request.source == DEMO:
        photo = example.source()
        known = request.interface
        face = find.align_face(photo.image, known.source_size, find.Where(photo.landmarks), None, known.alignment)
    else:
        face = source_face.read(Path(request.source), request.source_where, models.detector, request.interface)
    if models.encoder is None:
        raise UsageError(
            "the checkpoint brings no identity encoder, so a photo cannot be read",
            hint="pass --identity-encoder FILE, or --identity FILE",
        )
    return Person(models.arch.encode(models.encoder, face.crop), face.crop)


def target_case(request: Request, models: Models) -> parity.Case:
    """The photo that parity is measured on: the user's; for the demo person a rendered one, with the truth; else a portrait."""
    size, known = request.side, request.interface
    if request.target is None and request.source == DEMO:
        scene = example.scene()
        face = find.align_face(scene.target.image, size, find.Where(scene.target.landmarks), None, known.alignment)
        truth, _ = align.align(scene.truth, scene.target.landmarks, size, known.alignment)
        return parity.Case("target", face.crop, face.photo, face.back, face.landmarks, truth, known.paste_back)
    if request.target is None:
        face = find.align_face(portrait.read_portrait(), size, find.Where(portrait.LANDMARKS), None, known.alignment)
    else:
        try:
            face = find.read_face(request.target, size, request.target_where, models.detector, known.alignment)
        except (PhotoError, UsageError) as exc:  # speaks of a photo's options, which have other names for the target
            for option in ("landmarks", "aligned", "face"):
                exc.hint = exc.hint.replace(f"--{option}", f"--target-{option}")
                exc.message = exc.message.replace(f"--{option}", f"--target-{option}")
            raise
        face = find.shrink(face, PARITY_FRAME, size, known.alignment)
    return parity.Case("target", face.crop, face.photo, face.back, face.landmarks, paste=known.paste_back)


def prepare(request: Request, progress: Progress) -> Prepared:
    models = open_models(request, progress)
    person = find_person(request, models, progress)
    cases = [target_case(request, models)]
    if request.parity == "full":
        cases.append(parity.noise_case(request.side))
    targets = parity.inputs(cases)
    progress.step("bake and simplify")
    baked = models.arch.bake(models.generator, person.identity)
    net = models.arch.load(baked)
    return Prepared(models, person, cases, targets, baked, net, simplify(net), run_pytorch(net, targets))


def check_stages(ready: Prepared) -> dict[str, float]:
    """The two steps before any converter, told apart: generator to baked network, baked network to simplified graph.

    Returns:
        largest error of either output, by stage.

    Raises:
        ParityError: one is above ``STAGE_MAX_ERROR``, or not a number.
    """
    arch, generator = ready.models.arch, ready.models.generator
    unbaked = run_pytorch(arch.reference(generator, ready.person.identity), ready.targets)  # type: ignore[arg-type]
    simplified = run_pytorch(ready.graph, ready.targets)
    stages = {
        "generator_to_baked": _largest_error(unbaked, ready.reference),
        "baked_to_simplified": _largest_error(ready.reference, simplified),
    }
    for stage, error in stages.items():
        if not error <= STAGE_MAX_ERROR:
            raise ParityError(
                f"{stage}: largest error {error:.3g}, limit {STAGE_MAX_ERROR:.3g}",
                hint="no converter was run yet: look at the checkpoint's and the identity's values (mfs inspect)",
            )
    return stages


def _largest_error(a: parity.Outputs, b: parity.Outputs) -> float:
    errors = [metrics.max_error(x, y) for x, y in ((a.swapped, b.swapped), (a.mask, b.mask)) if x is not None and y is not None]
    return float(np.max(errors))
