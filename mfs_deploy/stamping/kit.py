"""All that is needed to make bundles on a machine with numpy and ONNX Runtime alone: templates, and the networks that bake.

A kit is made by ``export.kit.make_kit`` where PyTorch and the converters are, and used here: identity encoder and generator run in
ONNX Runtime, many people at once, and each person's weights are stamped into the templates.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy import onnx_runtime
from mfs_deploy.architectures import INTERFACES
from mfs_deploy.architectures.base import Interface
from mfs_deploy.backends.quiet import last_line
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import manifest
from mfs_deploy.bundle.provenance import artifact_entry, weights_sha256
from mfs_deploy.checkpoint import identity_file
from mfs_deploy.checkpoint.identity_file import IdentityArrays
from mfs_deploy.errors import ConversionError
from mfs_deploy.faces import pixels
from mfs_deploy.files import write
from mfs_deploy.quant.recipe import without_name
from mfs_deploy.stamping import template_file as store
from mfs_deploy.stamping.template import (
    NOBODY,
    Template,
    Weights,
    stamp,
    write_files,
)

Array = NDArray[Any]
SOURCE = "face"  # input of the identity encoder, (N, 3, S, S) in [0, 1]
GENERATOR, ENCODER, SHARED = "generator.onnx", "identity_encoder.onnx", "shared."
SHARED_TYPES = ("float32", "int64")
MAX_SIDE, MAX_VALUES = 4096, 100_000_000  # of what a network takes, and of one tensor that it gives
MAX_FACTOR = 1e30

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Kit:
    """
    Attributes:
        templates: by backend and recipe, as many as there are.
        generator, encoder: ONNX. The generator's outputs are named as the baked network's weights, with people in front.
        shared: baked weights that all people have in common.
        common: what every bundle's manifest says alike.
        encoder_sha256: of the encoder that identities must come from; empty where the checkpoint had none.
    """

    templates: tuple[Template, ...]
    generator: bytes
    encoder: bytes | None
    shared: Mapping[str, Array]
    common: dict[str, Any]
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
            raise refused("has no identity encoder, so a photo cannot be read")
        network = _Network("identity encoder", self.encoder, {SOURCE: (3, self.source_size, self.source_size)})
        if network.outputs != self._identity:
            raise refused(f"has an identity encoder that gives {network.outputs}")
        return network

    def embed(self, faces: Sequence[pixels.Image]) -> list[IdentityArrays]:
        """Identities of aligned faces, (S, S, 3) uint8 RGB each."""
        small = np.concatenate([pixels.to_tensor(pixels.resize(face, self.source_size)) for face in faces])
        found = self._encoder.run({SOURCE: small})
        return [
            IdentityArrays(
                found["embedding"][i : i + 1],
                found["feature_map"][i : i + 1] if "feature_map" in found else None,
                self.encoder_sha256,
                self.interface.name,
            )
            for i in range(len(faces))
        ]

    def bake(self, people: Sequence[IdentityArrays]) -> Iterator[Weights]:
        """The weights of each person, the generator running once for all."""
        feeds = {name: np.concatenate([getattr(person, name) for person in people]) for name in self._identity}
        values = self._generator.run(feeds)
        for i in range(len(people)):
            baked = {**self.shared, **{name: value[i] for name, value in values.items()}}
            yield Weights(baked, weights_sha256(baked))

    def check(self, templates: Sequence[Template]) -> None:
        """Make a bundle of nobody, without writing it.

        Raises:
            ConversionError: kind template: no bundle can come of what is in this kit.
        """
        nobody = {**self.shared, **{name: np.ones(shape, np.float32) for name, shape in self._generator.outputs.items()}}
        for template in templates:
            if (template.arch, template.size) != (self.common["contract"]["arch"], self.common["contract"]["size"]):
                raise refused(f"is for another network than its template for {template.backend}")
            for slot in template.slots:
                if not all(type(f) in (int, float) and abs(f) < MAX_FACTOR for f in (slot.factor, slot.times or 0)):
                    raise refused(f"multiplies {slot.weights} by what is no number")
        try:
            files, said = make_bundle(self.common, templates, Weights(nobody, NOBODY))
            manifest.encode(said)
        except (ConversionError, ValueError, LookupError, TypeError, ArithmeticError) as exc:
            raise refused(f"does not fit together: {exc}") from exc
        for name in files:
            if any(name.startswith(f"{other}/") for other in files):
                raise refused(f"has a file in a file: {name}")


class _Network:
    """One of a kit's, in ONNX Runtime.  It takes and gives float32 with people in front, in shapes known beforehand.

    Attributes:
        outputs: shapes by name, without people.
    """

    def __init__(self, title: str, model: bytes, inputs: Mapping[str, Shape]) -> None:
        onnxruntime = onnx_runtime.load()
        self._title = title
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # failures come as exceptions; nothing needs saying twice
        options.intra_op_num_threads = 1  # people are many: one process a core is faster than several cores a process
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=False)
        except Exception as exc:  # onnxruntime's own classes, whose common base is this
            raise refused(f"has a {title} that cannot be opened: {last_line(exc)}") from exc
        if (found := self._shapes(self._session.get_inputs())) != inputs:
            raise refused(f"has a {title} that takes {found}, not {inputs}")
        self.outputs = self._shapes(self._session.get_outputs())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        people = len(next(iter(feeds.values())))
        try:
            values = self._session.run(list(self.outputs), dict(feeds))
        except Exception as exc:
            raise refused(f"has a {self._title} that cannot be run: {last_line(exc)}") from exc
        for (name, shape), value in zip(self.outputs.items(), values, strict=True):
            if value.shape != (people, *shape):
                raise refused(f"has a {self._title} that gives {name} as {value.shape}, not {(people, *shape)}")
        return dict(zip(self.outputs, values, strict=True))

    def _shapes(self, values: Iterable[Any]) -> dict[str, Shape]:
        found = {}
        for value in values:
            people, *shape = value.shape or [0]
            known = all(type(n) is int and n > 0 for n in shape) and math.prod(shape) <= MAX_VALUES
            if value.type != "tensor(float)" or type(people) is int or not known:
                raise refused(f"has a {self._title} with {value.name} as {value.type} {value.shape}"[:300])
            found[value.name] = tuple(shape)
        return found


def refused(why: str) -> ConversionError:
    return ConversionError(f"the kit {why}", hint="make one with mfs kit pack", kind="template")


def save(path: Path, kit: Kit) -> None:
    networks = {GENERATOR: kit.generator} | ({} if kit.encoder is None else {ENCODER: kit.encoder})
    arrays = {name: np.frombuffer(content, np.uint8) for name, content in networks.items()}
    arrays |= {SHARED + name: array for name, array in kit.shared.items()}
    facts = {"common": kit.common, "encoder_sha256": kit.encoder_sha256, "source_size": kit.source_size}
    write(path, store.pack(kit.templates, facts, arrays))


def load(path: Path) -> Kit:
    """
    Raises:
        ConversionError: kind template: unreadable, or not a kit.
    """
    templates, facts, arrays = store.unpack(path)
    if GENERATOR not in arrays or not {"common", "encoder_sha256", "source_size"} <= set(facts):
        raise refused(f"{path.name} holds no generator, so it is none")
    contract = facts["common"].get("contract") if isinstance(facts["common"], dict) else None
    if not isinstance(contract, dict) or not {"arch", "size"} <= set(contract):
        raise refused(f"{path.name} does not say what network it is for")
    if facts["common"].get("architecture") != contract["arch"] or contract["arch"] not in INTERFACES:
        raise refused(f"{path.name} is for the architecture {contract['arch']!r}"[:300])
    encoder, size = facts["encoder_sha256"], facts["source_size"]
    if not isinstance(encoder, str) or (encoder != "" and not identity_file.HEX_SHA256.fullmatch(encoder)):
        raise refused(f"{path.name} does not say which identity encoder it is for")
    if type(size) is not int or not 1 <= size <= MAX_SIDE:
        raise refused(f"{path.name} has an identity encoder for faces of {size!r} pixels"[:300])
    for name, array in arrays.items():
        if name.startswith(SHARED) and array.dtype not in SHARED_TYPES:
            raise refused(f"{path.name} has {name} in {array.dtype}")
    return Kit(
        templates=templates,
        generator=arrays[GENERATOR].tobytes(),
        encoder=arrays[ENCODER].tobytes() if ENCODER in arrays else None,
        shared={name.removeprefix(SHARED): array for name, array in arrays.items() if name.startswith(SHARED)},
        common=facts["common"],
        encoder_sha256=encoder,
        source_size=size,
    )


def write_bundle(common: Mapping[str, Any], templates: Iterable[Template], weights: Weights, folder: Path) -> dict[str, Any]:
    """Stamp one person's bundle into an empty folder: artifacts and manifest, no pictures and no reference tensors.

    Args:
        common: what every bundle's manifest says alike.

    Returns:
        the manifest.

    Raises:
        ConversionError: a weight is NaN or infinite, or does not fit into a template's formats.
    """
    bad = next((key for key, value in weights.baked.items() if not np.isfinite(value).all()), None)
    if bad is not None:
        raise ConversionError(f"{bad} holds values that are not finite", hint="look at the identity's values", kind="not-finite")
    files, said = make_bundle(common, templates, weights)
    write_files(files, folder)
    manifest.write(folder, said)
    return said


def make_bundle(
    common: Mapping[str, Any], templates: Iterable[Template], weights: Weights
) -> tuple[dict[str, bytearray], dict[str, Any]]:
    """Files by relative POSIX path, and the manifest that accounts for them."""
    files: dict[str, bytearray] = {}
    listed: dict[str, dict[str, Any]] = {}
    artifacts: dict[str, Any] = {}
    recipes: dict[str, Any] = {}
    versions: dict[str, str] = {}
    for template in templates:
        stamped = stamp(template, weights)
        own = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in stamped.items()}
        files |= stamped
        listed |= own
        recipes[template.recipe["name"]] = without_name(template.recipe)
        versions |= template.versions
        backend = BACKENDS[template.backend]
        artifacts[template.backend] = artifact_entry(backend.FILES, backend.LAYOUT, template.recipe["name"], own, template.info)
    said = {
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
    return files, said
