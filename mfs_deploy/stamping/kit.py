"""All that is needed to make bundles on a machine with numpy and ONNX Runtime alone: templates, and the networks that bake.

A kit is made by ``templating.make_kit`` where PyTorch and the converters are, and used here: identity encoder and generator run in
ONNX Runtime, many people at once, and each person's weights are stamped into the templates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy import images, manifest
from mfs_deploy.backends.all import BACKENDS
from mfs_deploy.checkpoint.identity_file import IdentityArrays
from mfs_deploy.errors import ConversionError
from mfs_deploy.stamping import store
from mfs_deploy.stamping.template import Template, Weights, stamp

Array = NDArray[Any]
SOURCE = "face"  # input of the identity encoder, (N, 3, S, S) in [0, 1]
IDENTITY = ("embedding", "feature_map")  # outputs of the encoder, inputs of the generator
GENERATOR, ENCODER, SHARED = "generator.onnx", "identity_encoder.onnx", "shared."


@dataclass(frozen=True)
class Kit:
    """
    Attributes:
        templates: by backend and recipe, as many as there are.
        generator, encoder: ONNX. The generator's outputs are named as the baked network's weights, with people in front.
        shared: baked weights that all people have in common.
        common: what every bundle's manifest says alike.
        encoder_sha256: of the encoder that identities must come from.
    """

    templates: tuple[Template, ...]
    generator: bytes
    encoder: bytes | None
    shared: Mapping[str, Array]
    common: dict[str, Any]
    encoder_sha256: str
    source_size: int

    @cached_property
    def _generator(self) -> Any:
        return _session(self.generator)

    @cached_property
    def _encoder(self) -> Any:
        if self.encoder is None:
            raise ConversionError("the kit has no identity encoder, so a photo cannot be read", kind="template")
        return _session(self.encoder)

    def encode(self, faces: Sequence[images.Image]) -> list[IdentityArrays]:
        """Identities of aligned faces, (S, S, 3) uint8 RGB each."""
        small = np.concatenate([images.to_tensor(images.resize(face, self.source_size)) for face in faces])
        embeddings, maps = self._encoder.run(IDENTITY, {SOURCE: small})
        return [IdentityArrays(embeddings[i : i + 1], maps[i : i + 1], self.encoder_sha256) for i in range(len(faces))]

    def bake(self, people: Sequence[IdentityArrays]) -> Iterator[Weights]:
        """The weights of each person, the generator running once for all."""
        feeds = {name: np.concatenate([getattr(person, name) for person in people]) for name in IDENTITY}
        names = [output.name for output in self._generator.get_outputs()]
        values = self._generator.run(names, feeds)
        for i in range(len(people)):
            baked = {**self.shared, **{name: value[i] for name, value in zip(names, values, strict=True)}}
            yield Weights(baked, digest(baked))


def artifact_entry(backend: str, recipe: str, own: Mapping[str, Mapping[str, Any]], info: Mapping[str, Any]) -> dict[str, Any]:
    """An artifact's entry in a manifest, its parity not measured.

    Args:
        own: its files, as ``list_files`` gives them.
        info: its ``ArtifactInfo`` as a dict.
    """
    module = BACKENDS[backend]
    return {
        "files": list(module.FILES),
        "bytes": sum(facts["bytes"] for facts in own.values()),
        "sha256": {name: facts["sha256"] for name, facts in own.items()},
        "layout": module.LAYOUT,
        "recipe": recipe,
        **{key: info[key] for key in ("format", "inputs", "outputs", "parameters", "macs", "float32_layers")},
        "parity": {"runtime": "", "cases": []},
    }


def digest(baked: Mapping[str, Array]) -> str:
    """A hash of a baked network: names and bytes of every tensor, in order of names."""
    found = hashlib.sha256()
    for name in sorted(baked):
        found.update(name.encode() + b"\0")
        found.update(np.ascontiguousarray(baked[name]).data)
    return found.hexdigest()


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # people are many: one process a core is faster than several cores a process
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime's own classes, whose common base is this
        raise ConversionError(f"the kit's network cannot be opened: {str(exc).splitlines()[0]}", kind="template") from exc


def save(path: Path, kit: Kit) -> None:
    networks = {GENERATOR: kit.generator} | ({} if kit.encoder is None else {ENCODER: kit.encoder})
    arrays = {name: np.frombuffer(content, np.uint8) for name, content in networks.items()}
    arrays |= {SHARED + name: array for name, array in kit.shared.items()}
    facts = {"common": kit.common, "encoder_sha256": kit.encoder_sha256, "source_size": kit.source_size}
    store.write(path, store.pack(kit.templates, facts, arrays))


def load(path: Path) -> Kit:
    """
    Raises:
        ConversionError: kind template: unreadable, or not a kit.
    """
    templates, facts, arrays = store.unpack(path)
    types = {"common": dict, "encoder_sha256": str, "source_size": int}
    if GENERATOR not in arrays or not all(isinstance(facts.get(name), wanted) for name, wanted in types.items()):
        raise ConversionError(
            f"{path.name} holds no generator, so it is no kit", hint="make one with mfs template pack", kind="template"
        )
    return Kit(
        templates=templates,
        generator=arrays[GENERATOR].tobytes(),
        encoder=arrays[ENCODER].tobytes() if ENCODER in arrays else None,
        shared={name.removeprefix(SHARED): array for name, array in arrays.items() if name.startswith(SHARED)},
        common=facts["common"],
        encoder_sha256=facts["encoder_sha256"],
        source_size=facts["source_size"],
    )


def write_bundle(common: Mapping[str, Any], templates: Iterable[Template], weights: Weights, folder: Path) -> dict[str, Any]:
    """Stamp one person's bundle into an empty folder: artifacts and manifest, no pictures and no reference tensors.

    Args:
        common: what every bundle's manifest says alike.

    Returns:
        the manifest.
    """
    files: dict[str, dict[str, Any]] = {}
    artifacts: dict[str, Any] = {}
    recipes: dict[str, Any] = {}
    versions: dict[str, str] = {}
    for template in templates:
        own = {}
        for name, content in stamp(template, weights).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            own[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        files |= own
        recipe = dict(template.recipe)
        recipes[recipe["name"]] = {key: value for key, value in recipe.items() if key != "name"}
        versions |= template.versions
        artifacts[template.backend] = artifact_entry(template.backend, template.recipe["name"], own, template.info)
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
        "files": dict(sorted(files.items())),
    }
    manifest.write(folder, said)
    return said
