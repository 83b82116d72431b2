"""The provenance of a bundle: its checkpoint, the tools that made it, the hash of its weights."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata as distributions
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

import mfs_deploy
from mfs_deploy import architectures
from mfs_deploy.architectures.card import DEMO, GENERATOR, SourceFile, card
from mfs_deploy.bundle import manifest
from mfs_deploy.bundle.manifest_types import (
    AlignmentEntry,
    ArtifactEntry,
    CheckpointEntry,
    CommonEntry,
    ContractEntry,
    EllipsePasteEntry,
    FileEntry,
    MaskPasteEntry,
    SpecEntry,
    TensorEntry,
)
from mfs_deploy.contract import Contract
from mfs_deploy.quant.recipes import Recipe

PREVIEW = "preview.png"
WEIGHTS_KEY = "mfs.weights_sha256"  # of an artifact's metadata
TOOLS = ("torch", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class Facts:
    """The contract of an artifact, the files it was made from, and the hash of its weights."""

    contract: Contract
    files: tuple[SourceFile, ...]
    weights_sha256: str


def weights_sha256(weights: Mapping[str, ArrayLike]) -> str:
    """A hash of a network's weights: names and bytes of every array or tensor, in order of names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + b"\0")
        digest.update(np.ascontiguousarray(weights[name]).data)
    return digest.hexdigest()


def metadata(facts: Facts, recipe: Recipe) -> dict[str, str]:
    """Strings for a format's own metadata."""
    checkpoint = {f.role: f.sha256 for f in facts.files}
    return {
        "name": f"{facts.contract.arch} {facts.contract.size} {recipe.name}",
        "version": mfs_deploy.__version__,
        "mfs.architecture": facts.contract.arch,
        "mfs.recipe": recipe.name,
        "mfs.contract": json.dumps(facts.contract.as_dict(), sort_keys=True),
        "mfs.checkpoint_sha256": json.dumps(checkpoint, sort_keys=True),
        WEIGHTS_KEY: facts.weights_sha256,
        "mfs.synthetic_media": manifest.DISCLOSURE["disclosure"],
    }


def common(facts: Facts) -> CommonEntry:
    """The entries that the manifests of all people share."""
    is_demo = any(f.role == GENERATOR and f.recognised == DEMO for f in facts.files)
    weights = card("demo" if is_demo else facts.contract.arch)
    known = architectures.interface(facts.contract.arch)
    return {
        "schema": manifest.SCHEMA,
        "tool": f"mfs-deploy {mfs_deploy.__version__}",
        "architecture": facts.contract.arch,
        "contract": cast(ContractEntry, facts.contract.as_dict()),
        "alignment": cast(AlignmentEntry, known.alignment.as_dict()),
        "paste_back": cast("MaskPasteEntry | EllipsePasteEntry", known.paste_back.as_dict()),
        "checkpoint": [cast(CheckpointEntry, asdict(f)) for f in facts.files],
        "licences": {"code": card(facts.contract.arch)["code_licence"], "weights": weights["weights_licence"]},
        "synthetic_media": manifest.DISCLOSURE,
    }


def artifact_entry(
    files: Sequence[str],
    layout: str,
    recipe: str,
    listed: Mapping[str, FileEntry],
    info: Mapping[str, Any],
    contract: ContractEntry,
) -> ArtifactEntry:
    """An artifact's entry in a manifest, its parity not measured.

    Args:
        files, layout: the backend's ``FILES`` and ``LAYOUT``.
        listed: the artifact's files, as ``manifest.list_files`` gives them.
        info: its ``ArtifactInfo`` as a dict.
    """
    specs = {spec["name"]: spec for spec in (contract["input"], *contract["outputs"])}
    return {
        "files": list(files),
        "bytes": sum(facts["bytes"] for facts in listed.values()),
        "sha256": {name: facts["sha256"] for name, facts in listed.items()},
        "layout": layout,
        "recipe": recipe,
        "format": info["format"],
        "inputs": [tensor_entry(tensor, specs[tensor["name"]]) for tensor in info["inputs"]],
        "outputs": [tensor_entry(tensor, specs[tensor["name"]]) for tensor in info["outputs"]],
        "parameters": info["parameters"],
        "macs": info["macs"],
        "float32_layers": info["float32_layers"],
        "parity": {"runtime": "", "cases": []},
    }


def tensor_entry(info: Mapping[str, Any], spec: SpecEntry) -> TensorEntry:
    """An input or output, ``TensorInfo`` as a dict, with the stored numbers that the contract's range stands for."""
    low, high = (bound / info["scale"] + info["zero_point"] for bound in (spec["low"], spec["high"]))
    is_float = info["element"].startswith("float")
    return {
        "name": info["name"],
        "shape": list(info["shape"]),
        "dtype": info["dtype"],
        "kind": info["kind"],
        "element": info["element"],
        "colour": spec["colour"],
        "scale": info["scale"],
        "zero_point": info["zero_point"],
        "low": low if is_float else round(low),
        "high": high if is_float else round(high),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions of ``TOOLS`` and of the given distributions."""
    return {package: _version(package) for package in sorted({*TOOLS, *packages})}


@functools.cache
def _version(package: str) -> str:
    return distributions.version(package)
