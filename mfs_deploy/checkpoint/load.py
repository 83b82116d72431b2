"""A checkpoint's path to checked weights: an archive, a folder or single files, in Paddle's or PyTorch's formats."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, cast

import torch

from mfs_deploy.architectures import FILES
from mfs_deploy.architectures.card import ARCHIVE, DETECTOR, ENCODER, GENERATOR, MEMBER, WHOLE, SourceFile
from mfs_deploy.checkpoint import pdparams, safetensors_file, tar_archive, torch_file
from mfs_deploy.checkpoint.byte_source import (
    MAX_FILE_BYTES,
    Readable,
    Source,
    shown,
    unreadable,
)
from mfs_deploy.checkpoint.known_files import describe
from mfs_deploy.checkpoint.match import match_state_dict
from mfs_deploy.errors import CheckpointError

__all__ = ["Checkpoint", "SourceFile", "load", "load_encoder"]

StateDict = dict[str, torch.Tensor]
Progress = Callable[[str], None]

WEIGHT_SUFFIXES = (".pdparams", ".pth", ".pt", ".safetensors")
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")
MAX_DETECTOR_BYTES = 256 << 20
ORDER = (ARCHIVE, GENERATOR, ENCODER, DETECTOR)
STREAMED = (".pdparams", ".onnx")
GET_WEIGHTS = "give the authors' checkpoints.tar, its folder, or a generator file (.pdparams, .pth, .pt, .safetensors)"


@dataclass(frozen=True)
class Checkpoint:
    """Checked weights.

    ``generator`` and ``encoder`` are complete state dicts, float32, of networks in the architecture's ``NETWORKS``; ``encoder`` is
    None when no such file was found.  ``detector`` is the SCRFD model's bytes, when the archive or folder has one.
    """

    generator: StateDict
    encoder: StateDict | None
    detector: bytes | None
    files: tuple[SourceFile, ...]


def load(
    path: Path, encoder: Path | None = None, *, arch: str = "mobilefaceswap", progress: Progress = lambda text: None
) -> Checkpoint:
    """Read and check a checkpoint.

    Args:
        path: the authors' archive (``.tar``, ``.tar.gz``, ``.tgz``), a folder with its files (directly or under ``checkpoints/``),
            or one generator file.
        encoder: identity encoder file; takes the place of the one that the archive or folder has.
        arch: whose checkpoint it is.
        progress: called with a line for each file that is read.

    Raises:
        CheckpointError: kind checkpoint-missing, checkpoint-unreadable, checkpoint-unsafe, checkpoint-keys, checkpoint-shape or
            checkpoint-values.
    """
    for given in (path, encoder):
        if given is not None and not is_there(given):
            raise CheckpointError(f"{shown(given.name)}: no such file or folder", hint=GET_WEIGHTS, kind="checkpoint-missing")
    reader = _Reader(arch, skip={ENCODER} if encoder else set(), progress=progress)
    if path.is_dir():
        try:
            reader.folder(path)
        except PermissionError as exc:
            raise unreadable(path.name, "the folder may not be read", hint="check its permissions") from exc
    elif path.name.lower().endswith(ARCHIVE_SUFFIXES):
        reader.archive(path)
    else:
        reader.file(path, GENERATOR)
    if encoder:
        reader.file(encoder, ENCODER)
    return reader.checkpoint(path.name)


def load_encoder(path: Path, arch: str = "mobilefaceswap") -> tuple[StateDict, SourceFile]:
    """Read and check an identity encoder's file by itself.  Raises as ``load``."""
    reader = _Reader(arch, skip=set(), progress=lambda text: None)
    reader.file(path, ENCODER)
    return reader.networks[ENCODER], reader.files[0]


def is_there(path: Path) -> bool:
    """Whether something is at ``path``.  Raises CheckpointError where that may not even be asked."""
    try:
        return path.exists()
    except PermissionError as exc:
        raise unreadable(path.name, "may not be read by this user", hint="check the permissions of its folder") from exc


def role_of(name: str, arch: str) -> str | None:
    """What a file is, by its path relative to the folder or archive."""
    parts = PurePosixPath(name).parts
    parts = parts[1:] if parts[:1] == ("checkpoints",) else parts
    file = PurePosixPath(parts[-1] if parts else "")
    if len(parts) == 2 and parts[0] == "landmarks" and file.suffix == ".onnx":
        return DETECTOR
    if len(parts) != 1 or file.suffix.lower() not in WEIGHT_SUFFIXES:
        return None
    return next((role for role, pattern in FILES[arch].names.items() if pattern.fullmatch(file.stem.lower())), None)


class _Reader:
    """Collects a checkpoint's files, one for each role."""

    def __init__(self, arch: str, skip: set[str], progress: Progress) -> None:
        self._arch = arch
        self._skip = skip
        self._progress = progress
        self._names: dict[str, str] = {}  # role to the name chosen for it
        self.networks: dict[str, StateDict] = {}
        self._detector: bytes | None = None
        self.files: list[SourceFile] = []

    def checkpoint(self, name: str) -> Checkpoint:
        if GENERATOR not in self.networks:
            raise CheckpointError(
                f"{shown(name)}: no generator in it; it would be called {FILES[self._arch].example}",
                hint=GET_WEIGHTS,
                kind="checkpoint-missing",
            )
        files = tuple(sorted(self.files, key=lambda file: ORDER.index(file.role)))
        return Checkpoint(self.networks[GENERATOR], self.networks.get(ENCODER), self._detector, files)

    def folder(self, folder: Path) -> None:
        places = (folder, folder / "checkpoints", folder / "landmarks", folder / "checkpoints" / "landmarks")
        files = sorted(f for place in places if place.is_dir() for f in place.iterdir() if f.is_file())
        for file in files:
            self._choose(file.relative_to(folder).as_posix(), folder.name)
        for role, name in list(self._names.items()):
            self.file(folder / name, role)

    def archive(self, path: Path) -> None:
        """One pass: hashing, unpacking and reading the members together."""
        with _opened(path) as source:
            inner = source
            if path.suffix.lower() != ".tar":
                unpacked = cast(Readable, gzip.GzipFile(fileobj=cast(Any, _Short(source))))
                inner = Source(unpacked, MAX_FILE_BYTES, path.name, hashed=False)
            try:
                for member in tar_archive.members(inner):
                    role = self._choose(member.name, path.name)
                    if role is not None:
                        self._from_source(member.source, role)
            except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
                raise unreadable(path.name, f"damaged gzip: {shown(str(exc))}") from exc
            whole = describe(ARCHIVE, path.name, source.size, source.sha256())
        if whole.recognised == WHOLE:
            self.files = [replace(file, recognised=MEMBER) for file in self.files]
        self.files.append(whole)

    def file(self, path: Path, role: str) -> None:
        """One file of its own."""
        suffix = path.suffix.lower()
        if role != DETECTOR and suffix not in WEIGHT_SUFFIXES:
            allowed = ", ".join(WEIGHT_SUFFIXES + (ARCHIVE_SUFFIXES if role == GENERATOR else ()))
            raise unreadable(path.name, f"not a kind of file that is read as the {role}; allowed: {allowed}", hint=GET_WEIGHTS)
        with _opened(path) as source:
            if suffix in STREAMED:
                self._from_source(source, role)
                return
            self._announce(source, role)
            opened = safetensors_file.opened if suffix == ".safetensors" else torch_file.opened
            with opened(path, path.name) as stored:
                self.networks[role] = match_state_dict(stored, self._arch, role, path.name)
            self.files.append(describe(role, path.name, source.size, source.sha256()))

    def _choose(self, name: str, where: str) -> str | None:
        """The role of ``name``, unless it has none or the caller has a file for that role."""
        role = role_of(name, self._arch)
        if role is None or role in self._skip:
            return None
        if role in self._names:
            raise CheckpointError(
                f"{shown(where)}: more than one {role}: {shown(self._names[role])} and {shown(name)}",
                hint="keep one of them there, or give the file itself",
                kind="checkpoint-missing",
            )
        self._names[role] = name
        return role

    def _from_source(self, source: Source, role: str) -> None:
        """What can be read front to back: the only kinds that an archive has."""
        name = PurePosixPath(source.name).name
        if not name.lower().endswith(STREAMED):
            raise unreadable(name, f"inside an archive only {', '.join(STREAMED)} are read", hint="unpack it and give the folder")
        self._announce(source, role)
        if role == DETECTOR:
            if source.size > MAX_DETECTOR_BYTES:
                raise unreadable(name, f"a detector of {source.size:,} bytes; at most {MAX_DETECTOR_BYTES:,} make sense")
            self._detector = source.read(source.size)
        else:
            self.networks[role] = match_state_dict(pdparams.read(source), self._arch, role, name)
        self.files.append(describe(role, name, source.size, source.sha256()))

    def _announce(self, source: Source, role: str) -> None:
        self._progress(f"reading the {role} ({source.size / 1e6:.0f} MB)")


class _Short:
    """A source as gzip wants its file: fewer bytes at the end, not an error."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def read(self, size: int) -> bytes:
        return self._source.read(min(size, self._source.left))


@contextmanager
def _opened(path: Path) -> Iterator[Source]:
    """A regular file of a size that makes sense; raises CheckpointError otherwise."""
    if not path.is_file():
        raise unreadable(path.name, "not a regular file", hint=GET_WEIGHTS)
    try:
        with open(path, "rb") as f:
            size = os.fstat(f.fileno()).st_size
            if size > MAX_FILE_BYTES:
                raise unreadable(path.name, f"{size:,} bytes; at most {MAX_FILE_BYTES:,} are read", hint=GET_WEIGHTS)
            yield Source(f, size, path.name)
    except OSError as exc:
        raise unreadable(path.name, f"cannot be read: {exc.strerror or exc}", hint="check the file's permissions") from exc
