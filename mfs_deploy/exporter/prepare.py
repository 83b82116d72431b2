"""A person's network before any converter: checkpoint and photo in, baked weights and PyTorch's outputs out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mfs_deploy import architectures, metrics
from mfs_deploy.architectures import source_face
from mfs_deploy.architectures.base import Architecture, Identity
from mfs_deploy.bundle import provenance
from mfs_deploy.checkpoint import identity_file
from mfs_deploy.checkpoint import load as checkpoints
from mfs_deploy.contract import STAGE_MAX_ERROR
from mfs_deploy.demo import example
from mfs_deploy.errors import CheckpointError, ParityError, UsageError
from mfs_deploy.evaluate import parity
from mfs_deploy.evaluate.reference import run_pytorch
from mfs_deploy.exporter.request import DEMO, Network, ParityOptions, Person
from mfs_deploy.faces import align, find, pixels, portrait
from mfs_deploy.faces.detectors import Detector, open_detector
from mfs_deploy.graph import simplify
from mfs_deploy.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

PARITY_FRAME = 1024  # pixels; a larger target photo is shrunk to this for parity and for the reference tensors


@dataclass(frozen=True)
class Models:
    """An opened checkpoint: its networks in eval mode, a face detector if there is one, and the files they came from."""

    arch: Architecture
    generator: nn.Module
    encoder: nn.Module | None
    detector: Detector | None
    files: tuple[checkpoints.SourceFile, ...]


@dataclass(frozen=True)
class EncodedPerson:
    """An identity, and the aligned crop it was read from unless it came from a file."""

    identity: Identity
    crop: pixels.Image | None


@dataclass(frozen=True, eq=False)
class BakedPerson:
    """A person's network before any converter.

    Attributes:
        crops: (N, 3, S, S) in [0, 1], one for each case.
        weights: of the baked network, by name.
        net, graph: that network, as it is and simplified.
    """

    models: Models
    person: EncodedPerson
    cases: list[parity.Case]
    crops: parity.Array
    weights: Mapping[str, Tensor]
    net: nn.Module
    graph: fx.GraphModule

    @cached_property
    def reference(self) -> parity.Outputs:
        """What the network computes on ``crops``."""
        return run_pytorch(self.net, self.crops)

    @cached_property
    def weights_sha256(self) -> str:
        return provenance.weights_sha256(self.weights)


def open_models(network: Network, progress: Progress = SILENT) -> Models:
    """Read a checkpoint's files.

    Raises:
        UsageError: the architecture has no demo weights.
        CheckpointError: a file is missing, damaged, or of another network.
    """
    progress.step("read the checkpoint")
    arch = architectures.get(network.arch)
    path, encoder = Path(network.checkpoint), network.encoder
    if network.checkpoint == DEMO:
        if network.arch != "mobilefaceswap":
            raise UsageError(f"the demo weights are MobileFaceSwap's; {network.arch} has none", hint="pass --checkpoint FILE")
        path, own = example.weights()
        encoder = encoder or own
    checkpoint = checkpoints.load(path, encoder, arch=network.arch, progress=progress.note)
    detector = network.detector if network.detector is not None else checkpoint.detector
    return Models(
        arch=arch,
        generator=arch.generator(checkpoint.generator),
        encoder=None if checkpoint.encoder is None else arch.encoder(checkpoint.encoder),
        detector=None if detector is None else open_detector(detector),
        files=checkpoint.files,
    )


def find_person(person: Person, models: Models, progress: Progress = SILENT) -> EncodedPerson:
    """Read an identity file, or find the face in a photo and encode it.

    Raises:
        CheckpointError: the identity file is damaged, or of another architecture or encoder.
        PhotoError: the photo or its face cannot be used.
        UsageError: nothing says where the face is, or there is no encoder.
    """
    progress.step("read the face")
    interface = models.arch.INTERFACE
    if person.identity is not None:
        arrays = identity_file.load(person.identity, interface.name)
        if models.encoder is not None and arrays.encoder_sha256 != provenance.weights_sha256(models.encoder.state_dict()):
            raise CheckpointError(
                f"{person.identity.name} was read by another identity encoder than this checkpoint's; it means nothing here",
                hint="read the photo again with mfs identity and this checkpoint",
                kind="identity",
            )
        return EncodedPerson(Identity(arrays.embedding, arrays.feature_map), None)
    assert person.source is not None
    if person.source == DEMO:
        photo = example.source()
        location = find.FaceLocation(photo.landmarks)
        face = find.align_face(photo.image, interface.source_size, location, None, interface.alignment)
    else:
        face = source_face.read(Path(person.source), person.location, models.detector, interface)
    if models.encoder is None:
        raise UsageError(
            "the checkpoint brings no identity encoder, so a photo cannot be read",
            hint="pass --identity-encoder FILE, or --identity FILE",
        )
    return EncodedPerson(models.arch.embed(models.encoder, face.crop), face.crop)


def target_case(options: ParityOptions, person: Person, size: int, models: Models) -> parity.Case:
    """The photo that parity is measured on: the user's; for the demo person a rendered one, with the truth; else a portrait."""
    interface = models.arch.INTERFACE
    truth = None
    if options.target is not None:
        face = find.read_face(options.target, size, options.location, models.detector, interface.alignment)
        face = find.shrink(face, PARITY_FRAME, size, interface.alignment)
    elif person.source == DEMO:
        scene = example.scene()
        points = scene.target.landmarks
        face = find.align_face(scene.target.image, size, find.FaceLocation(points), None, interface.alignment)
        truth, _ = align.align(scene.truth, points, size, interface.alignment)
    else:
        location = find.FaceLocation(portrait.LANDMARKS)
        face = find.align_face(portrait.read_portrait(), size, location, None, interface.alignment)
    return parity.Case("target", face.crop, face.photo, face.back, face.landmarks, truth, interface.paste_back)


def prepare(network: Network, person: Person, options: ParityOptions, progress: Progress = SILENT) -> BakedPerson:
    """Bake and simplify a person's network.  Raises as ``open_models`` and ``find_person``."""
    models = open_models(network, progress)
    encoded = find_person(person, models, progress)
    cases = [target_case(options, person, network.side, models)]
    if options.level == "full":
        cases.append(parity.noise_case(network.side))
    crops = parity.inputs(cases)
    progress.step("bake and simplify")
    weights = models.arch.bake(models.generator, encoded.identity)
    net = models.arch.load(weights)
    return BakedPerson(models, encoded, cases, crops, weights, net, simplify(net))


def check_stages(baked: BakedPerson) -> dict[str, float]:
    """Measure the two steps before any converter: generator to baked network, baked network to simplified graph.

    Returns:
        largest error of either output, by stage.

    Raises:
        ParityError: one is above ``STAGE_MAX_ERROR``, or not a number.
    """
    arch, generator = baked.models.arch, baked.models.generator
    unbaked = run_pytorch(arch.reference(generator, baked.person.identity), baked.crops)
    simplified = run_pytorch(baked.graph, baked.crops)
    stages = {
        "generator_to_baked": _largest_error(unbaked, baked.reference),
        "baked_to_simplified": _largest_error(baked.reference, simplified),
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
