"""Kits: one file with templates, generator and identity encoder, for servers without PyTorch and converters.

``mfs_deploy.exporter.kit`` makes a kit.  Here it is used: encoder and generator run in ONNX Runtime, for many people at once, and
each person's weights are stamped into the templates.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mfs_deploy import onnx_runtime
from mfs_deploy.architectures import INTERFACES
from mfs_deploy.architectures.base import Interface
from mfs_deploy.backends.quiet import error_text
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import manifest
from mfs_deploy.bundle.manifest_types import ArtifactEntry, CommonEntry, FileEntry, Manifest, RecipeEntry
from mfs_deploy.bundle.provenance import artifact_entry, weights_sha256
from mfs_deploy.checkpoint import identity_file
from mfs_deploy.checkpoint.identity_file import IdentityArrays
from mfs_deploy.errors import ConversionError
from mfs_deploy.faces import pixels
from mfs_deploy.files import write
from mfs_deploy.quant.recipes import without_name
from mfs_deploy.stamping import template_file
from mfs_deploy.stamping.template import (
    NO_WEIGHTS_SHA256,
    PersonWeights,
    Template,
    stamp,
    write_files,
)

Array = NDArray[Any]
FACE_INPUT = "face"  # input of the identity encoder, (N, 3, S, S) in [0, 1]
GENERATOR, ENCODER, SHARED = "generator.onnx", "identity_encoder.onnx", "shared."
SHARED_TYPES = ("float32", "int64")
MAX_SIDE, MAX_VALUES = 4096, 100_000_000  # of what a network takes, and of one tensor that it gives
MAX_FACTOR = 1e30

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Kit:
    """An opened kit.

    Attributes:
        templates: one for each pair of backend and recipe.
        generator, encoder: ONNX.  The generator's outputs have the names of the baked network's weights, with people in front.
        shared: baked weights that all people have in common.
        common: the manifest's entries that are the same in every bundle.
        encoder_sha256: of the encoder that identities must come from; empty where the checkpoint had none.
        source_size: side S of the faces that the encoder takes, (N, 3, S, S).
    """

    templates: tuple[Template, ...]
    generator: bytes
    encoder: bytes | None
    shared: Mapping[str, Array]
    common: CommonEntry
    encoder_sha256: str
    source_size: int

    @cached_property
    def _generator(self) -> _Network:
        return _Network("generator", self.generator, self._identity)

    @property
    def interface(self) -> Interface:
        return INTERFACES[self.common["architecture"]]

    @property
    def _identity(self) -> dict[str, Shape]:
        """Outputs of the encoder and inputs of the generator: shapes by name, without people."""
        return {name: shape[1:] for name, shape in self.interface.identity.items()}

    @cached_property
    def _encoder(self) -> _Network:
        if self.encoder is None:
            raise kit_error("has no identity encoder, so a photo cannot be read")
        network = _Network("identity encoder", self.encoder, {FACE_INPUT: (3, self.source_size, self.source_size)})
        if network.outputs != self._identity:
            raise kit_error(f"has an identity encoder that gives {network.outputs}")
        return network

    def embed(self, faces: Sequence[pixels.Image]) -> list[IdentityArrays]:
        """Identities of aligned faces, (S, S, 3) uint8 RGB each."""
        small = np.concatenate([pixels.to_tensor(pixels.resize(face, self.source_size)) for face in faces])
        found = self._encoder.run({FACE_INPUT: small})
        return [
            IdentityArrays(
                found["embedding"][i : i + 1],
                found["feature_map"][i : i + 1] if "feature_map" in found else None,
                self.encoder_sha256,
                self.interface.name,
            )
            for i in range(len(faces))
        ]

    def bake(self, people: Sequence[IdentityArrays]) -> Iterator[PersonWeights]:
        """The weights of each person, the generator running once for all."""
        feeds = {name: np.concatenate([getattr(person, name) for person in people]) for name in self._identity}
        values = self._generator.run(feeds)
        for i in range(len(people)):
            baked = {**self.shared, **{name: value[i] for name, value in values.items()}}
            yield PersonWeights(baked, weights_sha256(baked))

    def check(self, templates: Sequence[Template]) -> None:
        """Make a bundle of weights that are all one, without writing it.

        Raises:
            ConversionError: kind template: the kit's parts do not fit together.
        """
        ones = {**self.shared, **{name: np.ones(shape, np.float32) for name, shape in self._generator.outputs.items()}}
        for template in templates:
            if (template.arch, template.size) != (self.common["contract"]["arch"], self.common["contract"]["size"]):
                raise kit_error(f"is for another network than its template for {template.backend}")
            for place in template.places:
                if not all(type(f) in (int, float) and abs(f) < MAX_FACTOR for f in (place.factor, place.times or 0)):
                    raise kit_error(f"multiplies {place.weights} by something that is not a number")
        try:
            files, written = make_bundle(self.common, templates, PersonWeights(ones, NO_WEIGHTS_SHA256))
            manifest.to_json(written)
        except (ConversionError, ValueError, LookupError, TypeError, ArithmeticError) as exc:
            raise kit_error(f"does not fit together: {exc}") from exc
        for name in files:
            if any(name.startswith(f"{other}/") for other in files):
                raise kit_error(f"has a file in a file: {name}")


class _Network:
    """A kit's network in ONNX Runtime.  Inputs and outputs are float32 (N, ...) of fixed shapes, for any number N of people.

    Attributes:
        outputs: shapes by name, without N.
    """

    def __init__(self, title: str, model: bytes, inputs: Mapping[str, Shape]) -> None:
        onnxruntime = onnx_runtime.load()
        self._title = title
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # failures come as exceptions; no second report
        options.intra_op_num_threads = 1  # with many people, one process for each core is faster than several threads in one
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=False)
        except Exception as exc:  # onnxruntime's own classes, whose common base is this
            raise kit_error(f"has a {title} that cannot be opened: {error_text(exc)}") from exc
        if (found := self._shapes(self._session.get_inputs())) != inputs:
            raise kit_error(f"has a {title} that takes {found}, not {inputs}")
        self.outputs = self._shapes(self._session.get_outputs())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        people = len(next(iter(feeds.values())))
        try:
            values = self._session.run(list(self.outputs), dict(feeds))
        except Exception as exc:  # as above
            raise kit_error(f"has a {self._title} that cannot be run: {error_text(exc)}") from exc
        for (name, shape), value in zip(self.outputs.items(), values, strict=True):
            if value.shape != (people, *shape):
                raise kit_error(f"has a {self._title} that gives {name} as {value.shape}, not {(people, *shape)}")
        return dict(zip(self.outputs, values, strict=True))

    def _shapes(self, values: Iterable[Any]) -> dict[str, Shape]:
        found = {}
        for value in values:
            people, *shape = value.shape or [0]
            fixed = all(type(n) is int and n > 0 for n in shape) and math.prod(shape) <= MAX_VALUES
            if value.type != "tensor(float)" or type(people) is int or not fixed:
                raise kit_error(f"has a {self._title} with {value.name} as {value.type} {value.shape}"[:300])
            found[value.name] = tuple(shape)
        return found


def kit_error(why: str) -> ConversionError:
    return ConversionError(f"the kit {why}", hint="make one with mfs kit pack", kind="template")


def save(path: Path, kit: Kit) -> None:
    networks = {GENERATOR: kit.generator} | ({} if kit.encoder is None else {ENCODER: kit.encoder})
    arrays = {name: np.frombuffer(content, np.uint8) for name, content in networks.items()}
    arrays |= {SHARED + name: array for name, array in kit.shared.items()}
    facts = {"common": kit.common, "encoder_sha256": kit.encoder_sha256, "source_size": kit.source_size}
    write(path, template_file.pack(kit.templates, facts, arrays))


def load(path: Path) -> Kit:
    """Read a kit's file.

    Raises:
        ConversionError: kind template: unreadable, or not a kit.
    """
    templates, facts, arrays = template_file.unpack(path)
    if GENERATOR not in arrays or not {"common", "encoder_sha256", "source_size"} <= set(facts):
        raise kit_error(f"{path.name} holds no generator")
    contract = facts["common"].get("contract") if isinstance(facts["common"], dict) else None
    if not isinstance(contract, dict) or not {"arch", "size"} <= set(contract):
        raise kit_error(f"{path.name} does not say what network it is for")
    if facts["common"].get("architecture") != contract["arch"] or contract["arch"] not in INTERFACES:
        raise kit_error(f"{path.name} is for the architecture {contract['arch']!r}"[:300])
    encoder, size = facts["encoder_sha256"], facts["source_size"]
    if not isinstance(encoder, str) or (encoder != "" and not identity_file.HEX_SHA256.fullmatch(encoder)):
        raise kit_error(f"{path.name} does not say which identity encoder it is for")
    if type(size) is not int or not 1 <= size <= MAX_SIDE:
        raise kit_error(f"{path.name} has an identity encoder for faces of {size!r} pixels"[:300])
    for name, array in arrays.items():
        if name.startswith(SHARED) and array.dtype not in SHARED_TYPES:
            raise kit_error(f"{path.name} has {name} in {array.dtype}")
    return Kit(
        templates=templates,
        generator=arrays[GENERATOR].tobytes(),
        encoder=arrays[ENCODER].tobytes() if ENCODER in arrays else None,
        shared={name.removeprefix(SHARED): array for name, array in arrays.items() if name.startswith(SHARED)},
        common=facts["common"],
        encoder_sha256=encoder,
        source_size=size,
    )


def write_bundle(common: CommonEntry, templates: Iterable[Template], weights: PersonWeights, folder: Path) -> Manifest:
    """Stamp one person's bundle into an empty folder: artifacts and manifest, no pictures and no reference tensors.

    Args:
        common: the manifest's entries that are the same in every bundle.

    Returns:
        the manifest.

    Raises:
        ConversionError: a weight is NaN or infinite, or does not fit into a template's formats.
    """
    bad = next((key for key, value in weights.baked.items() if not np.isfinite(value).all()), None)
    if bad is not None:
        raise ConversionError(f"{bad} holds values that are not finite", hint="look at the identity's values", kind="not-finite")
    files, written = make_bundle(common, templates, weights)
    write_files(files, folder)
    manifest.write(folder, written)
    return written


def make_bundle(
    common: CommonEntry, templates: Iterable[Template], weights: PersonWeights
) -> tuple[dict[str, bytearray], Manifest]:
    """Files by relative POSIX path, and their manifest."""
    files: dict[str, bytearray] = {}
    listed: dict[str, FileEntry] = {}
    artifacts: dict[str, ArtifactEntry] = {}
    recipes: dict[str, RecipeEntry] = {}
    versions: dict[str, str] = {}
    for template in templates:
        stamped = stamp(template, weights)
        own: dict[str, FileEntry] = {}
        for name, data in stamped.items():
            own[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        files |= stamped
        listed |= own
        recipe, backend = template.recipe["name"], BACKENDS[template.backend]
        recipes[recipe] = cast(RecipeEntry, without_name(template.recipe))
        versions |= template.versions
        artifacts[template.backend] = artifact_entry(backend.FILES, backend.LAYOUT, recipe, own, template.info, common["contract"])
    written: Manifest = {
        **common,
        "recipes": recipes,
        "calibration": {},
        "artifacts": artifacts,
        "reference": {},
        "stages": {},
        "float16": {},
        "weights": {"sha256": weights.digest},
        "versions": versions,
        "files": dict(sorted(listed.items())),
        "synthetic_media": manifest.DISCLOSURE,
    }
    return files, written
