"""``.pth`` and ``.pt``: the zip that ``torch.save`` writes since PyTorch 1.6.

``data.pkl`` names tensors by storage, offset, size and stride; each storage is an uncompressed member ``data/<key>``.  Source:
PyTorch, ``torch/serialization.py`` and ``torch/_utils.py``.  Read with the same inert pickle reader as ``.pdparams`` and not with
``torch.load``: see ``pickle_reader.py``.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from mfs_deploy.checkpoint.byte_source import (
    Readable,
    Source,
    shown,
    unreadable,
    unsafe,
)
from mfs_deploy.checkpoint.pickle_reader import (
    Args,
    Budget,
    Global,
    Vocabulary,
)
from mfs_deploy.checkpoint.pickle_reader import read as read_pickle
from mfs_deploy.checkpoint.stored_array import StoredArray, to_float32
from mfs_deploy.errors import CheckpointError

WRAPPER = "state_dict"
MAX_PICKLE_BYTES = 16 << 20
MAX_DIMS = 8
STORAGES = {
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.DoubleStorage": "float64",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}
IN_FILE = {"float16": "<f2", "bfloat16": "<u2", "float32": "<f4", "float64": "<f8"}
SAVE_AGAIN = "save it again with torch.save(network.state_dict(), ...)"


@dataclass(frozen=True)
class Storage:
    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class Tensor:
    """A window on a storage; offset and stride in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@contextmanager
def opened(path: Path, name: str) -> Iterator[dict[str, StoredArray]]:
    """Arrays by their key in the file, readable while the context lasts.

    Raises:
        CheckpointError: checkpoint-unsafe, checkpoint-unreadable, checkpoint-keys where a dict holds no state dict.
    """
    with open(path, "rb") as f:
        if f.read(4) != b"PK\x03\x04":
            raise unreadable(name, "not a zip: damaged, or written before PyTorch 1.6", hint=SAVE_AGAIN)
    with _damage(name):
        archive = zipfile.ZipFile(path)
    with archive:
        yield _arrays(archive, path.stat().st_size, name)


def _arrays(archive: zipfile.ZipFile, size: int, name: str) -> dict[str, StoredArray]:
    root = _root(archive, name)
    with _damage(name):
        if f"{root}/byteorder" in archive.namelist() and _member(archive, f"{root}/byteorder", name, 6) != b"little":
            raise unreadable(name, "written on a big-endian machine", hint="save it again on another")
        data = _member(archive, f"{root}/data.pkl", name, MAX_PICKLE_BYTES)
    source = Source(io.BytesIO(data), len(data), name, hashed=False)
    tensors = _state_dict(read_pickle(source, _Tensors(name).vocabulary()), name)
    budget = Budget(name, size)
    return {key: _stored(archive, f"{root}/data/{t.storage.key}", t, name, budget) for key, t in tensors.items()}


def _state_dict(found: object, name: str) -> dict[str, Tensor]:
    """The tensors themselves: flat, or under the one wrapper that is common."""
    if type(found) is dict and type(found.get(WRAPPER)) is dict:
        found = found[WRAPPER]
    if type(found) is not dict:
        raise unreadable(name, f"holds a {type(found).__name__}, not a dict of tensors", hint=SAVE_AGAIN)
    strange = [key for key, value in found.items() if not isinstance(value, Tensor)]
    if strange:
        listed = ", ".join(f"{shown(str(key))} ({type(found[key]).__name__})" for key in strange[:3])
        raise CheckpointError(
            f'{shown(name)}: neither a flat dict of tensors nor {{"{WRAPPER}": ...}}; found {listed}',
            hint=SAVE_AGAIN,
            kind="checkpoint-keys",
        )
    return {str(key): value for key, value in found.items()}


# The zip


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """What ``zipfile`` raises for damaged files, as one kind of error."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        OverflowError,
        struct.error,
    ) as exc:
        raise unreadable(name, f"damaged zip: {shown(str(exc))}") from exc


def _root(archive: zipfile.ZipFile, name: str) -> str:
    roots = [entry[: -len("/data.pkl")] for entry in archive.namelist() if entry.count("/") == 1 and entry.endswith("/data.pkl")]
    if len(roots) != 1:
        raise unreadable(name, "a zip, but not one that torch.save wrote", hint=SAVE_AGAIN)
    return roots[0]


def _member(archive: zipfile.ZipFile, entry: str, name: str, limit: int) -> bytearray:
    """One uncompressed member; a compressed one could expand without bound, and torch.save writes none."""
    try:
        info = archive.getinfo(entry)
    except KeyError:
        raise unreadable(name, f"lacks its member {shown(entry)}") from None
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise unsafe(name, f"compressed member {shown(entry)}")
    if info.file_size > limit:
        raise unreadable(name, f"member {shown(entry)} has {info.file_size:,} bytes; at most {limit:,} make sense")
    with archive.open(info) as f:
        return Source(cast(Readable, f), info.file_size, name, hashed=False).payload(info.file_size)


def _stored(archive: zipfile.ZipFile, entry: str, tensor: Tensor, name: str, budget: Budget) -> StoredArray:
    storage = tensor.storage
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride, strict=True))
    if math.prod(tensor.shape) == 0 or last >= storage.count:
        raise unreadable(name, f"a tensor of shape {tensor.shape} outside its storage of {storage.count:,} numbers")

    def values() -> NDArray[np.float32]:
        in_file = np.dtype(IN_FILE[storage.dtype])
        count = storage.count * in_file.itemsize
        budget.spend(count)
        with _damage(name):
            data = _member(archive, entry, name, count)
        if len(data) != count:
            raise unreadable(name, f"member {shown(entry)} has {len(data):,} bytes, expected {count:,}")
        flat = np.frombuffer(data, in_file)
        steps = tuple(step * in_file.itemsize for step in tensor.stride)
        return to_float32(as_strided(flat[tensor.offset :], tensor.shape, steps), storage.dtype)

    return StoredArray(storage.dtype, tensor.shape, values)


# What the pickle may say


class _Tensors:
    def __init__(self, name: str) -> None:
        self.name = name

    def vocabulary(self) -> Vocabulary:
        calls = {
            "collections.OrderedDict": self.ordered_dict,
            "torch._utils._rebuild_tensor_v2": self.rebuild,
            "torch._utils._rebuild_parameter": self.parameter,
        }
        return Vocabulary(calls, frozenset(STORAGES), self.storage)

    def unexpected(self, call: str) -> CheckpointError:
        return unreadable(self.name, f"unexpected arguments of {call}")

    def ordered_dict(self, args: Args) -> dict[str, object]:
        if args:
            raise self.unexpected("OrderedDict")
        return {}

    def storage(self, identifier: object) -> Storage:
        match identifier:
            case ("storage", Global(path), str(key), str(), int(count)) if path in STORAGES and count >= 0:
                return Storage(STORAGES[path], key, count)
        raise self.unexpected("a storage")

    def rebuild(self, args: Args) -> Tensor:
        match args:
            case (Storage() as storage, int(offset), tuple(shape), tuple(stride), bool(), dict(), *_):
                if offset >= 0 and len(shape) == len(stride) <= MAX_DIMS and _naturals(shape) and _naturals(stride):
                    return Tensor(storage, offset, shape, stride)
        raise self.unexpected("_rebuild_tensor_v2")

    def parameter(self, args: Args) -> Tensor:
        match args:
            case (Tensor() as tensor, bool(), dict()):
                return tensor
        raise self.unexpected("_rebuild_parameter")


def _naturals(numbers: tuple[Any, ...]) -> bool:
    return all(type(n) is int and n >= 0 for n in numbers)
