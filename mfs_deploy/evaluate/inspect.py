"""Describes a file or folder by its content, not by its name alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mfs_deploy import architectures, files
from mfs_deploy.backends.base import Backend
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import manifest
from mfs_deploy.bundle.manifest_types import FileEntry
from mfs_deploy.errors import CheckpointError, UsageError
from mfs_deploy.progress import SILENT, Progress


def inspect(path: Path, progress: Progress = SILENT) -> dict[str, Any]:
    """Describe a checkpoint, an identity file, an artifact or a bundle.

    Raises:
        UsageError: there is nothing at ``path``.
        MfsError: it is damaged, or of no known kind.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    if path.is_dir() and (path / manifest.NAME).exists():
        return bundle(path)
    artifacts = backends_by_file()
    if backend := artifacts.get(path.name, artifacts.get(path.suffix)):
        return artifact(path, backend)
    if path.suffix == ".safetensors":
        try:
            return identity(path)
        except CheckpointError as exc:
            if exc.kind != "identity":
                raise
    from mfs_deploy.checkpoint.load import ARCHIVE_SUFFIXES, WEIGHT_SUFFIXES

    if path.is_file() and not path.name.lower().endswith((*WEIGHT_SUFFIXES, *ARCHIVE_SUFFIXES)):
        suffixes = sorted(name for name in artifacts if name.startswith("."))
        known = (*suffixes, *WEIGHT_SUFFIXES, *ARCHIVE_SUFFIXES)
        raise UsageError(
            f"{path.name} is none of the files that mfs inspects", hint=f"known are a bundle's folder, {', '.join(known)}"
        )
    first: CheckpointError | None = None
    for arch in architectures.INTERFACES:
        try:
            return checkpoint(path, arch, progress)
        except CheckpointError as exc:
            if exc.kind not in ("checkpoint-keys", "checkpoint-missing"):
                raise
            first = first or exc
    assert first is not None
    if not path.is_file():
        raise first
    return encoder(path, first)


def backends_by_file() -> dict[str, Backend]:
    """By file name and by suffix; where several backends have a suffix, the first in the registry gets it."""
    found: dict[str, Backend] = {}
    for backend in BACKENDS.values():
        for name in backend.FILES:
            found.setdefault(Path(name).suffix, backend)
            found[name] = backend
    return found


def encoder(path: Path, otherwise: CheckpointError) -> dict[str, Any]:
    """Describe an identity encoder's file; raises ``otherwise`` if it is not one."""
    from mfs_deploy.checkpoint.load import load_encoder

    for arch in architectures.INTERFACES:
        try:
            weights, file = load_encoder(path, arch)
            break
        except CheckpointError:
            continue
    else:
        raise otherwise from None
    return {
        "kind": "identity encoder",
        "architecture": arch,
        "files": [asdict(file)],
        "identity_encoder_values": sum(t.numel() for t in weights.values()),
    }


def bundle(path: Path) -> dict[str, Any]:
    from mfs_deploy.evaluate.verify import verify_bundle

    entries = manifest.read(path)
    verify_bundle(path, entries)
    return {
        "kind": "bundle",
        "architecture": entries["architecture"],
        "size": entries["contract"]["size"],
        "checksums": f"all {len(entries['files'])} files are as they were written",
        "artifacts": {
            name: {
                "recipe": facts["recipe"],
                "format": facts["format"],
                "bytes": facts["bytes"],
                "parameters": facts["parameters"],
                "macs": facts["macs"],
            }
            for name, facts in entries["artifacts"].items()
        },
        "checkpoint": entries["checkpoint"],
        "weights_sha256": entries["weights"]["sha256"],
        "versions": entries["versions"],
        "licences": entries["licences"],
        "synthetic_media": entries["synthetic_media"],
    }


def artifact(path: Path, backend: Backend) -> dict[str, Any]:
    main = path.with_suffix(Path(backend.FILES[0]).suffix)
    info = backend.describe(main)
    return {"kind": "artifact", "backend": backend.NAME, "files": _hashes(main, backend), **asdict(info)}


def _hashes(main: Path, backend: Backend) -> dict[str, FileEntry]:
    found: dict[str, FileEntry] = {}
    for name in backend.FILES:
        file = main.with_suffix(Path(name).suffix)
        inner = manifest.list_files(file) if file.is_dir() else None
        if inner is None:
            found[file.name] = {"bytes": file.stat().st_size, "sha256": files.sha256(file)}
        else:
            found |= {f"{file.name}/{key}": value for key, value in inner.items()}
    return found


def identity(path: Path) -> dict[str, Any]:
    from mfs_deploy.checkpoint import identity_file

    arrays = identity_file.load(path)
    return {
        "kind": "identity",
        "architecture": arrays.arch,
        "biometric": True,
        "embedding": list(arrays.embedding.shape),
        **({} if arrays.feature_map is None else {"feature_map": list(arrays.feature_map.shape)}),
        "encoder_sha256": arrays.encoder_sha256,
        "bytes": path.stat().st_size,
        "sha256": files.sha256(path),
    }


def checkpoint(path: Path, name: str, progress: Progress) -> dict[str, Any]:
    import torch

    from mfs_deploy.checkpoint.load import load
    from mfs_deploy.graph import simplify
    from mfs_deploy.graph.cost import cost
    from mfs_deploy.graph.trace import trace

    opened = load(path, arch=name, progress=progress.note)
    arch = architectures.get(name)
    size = arch.INTERFACE.sizes[0]
    net = arch.blank()
    for parameter in net.parameters():  # biases of a blank network are zeros, which a rewrite would drop
        torch.nn.init.uniform_(parameter, 0.1, 1.0)
    return {
        "kind": "checkpoint",
        "architecture": name,
        "files": [asdict(f) for f in opened.files],
        "generator_values": sum(t.numel() for t in opened.generator.values()),
        "identity_encoder_values": None if opened.encoder is None else sum(t.numel() for t in opened.encoder.values()),
        "detector": opened.detector is not None,
        "frame": {
            "size": size,
            "baked": asdict(cost(trace(net), size)),
            "simplified": asdict(cost(simplify(net), size)),
        },
    }
