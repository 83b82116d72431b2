"""Weights of a Core ML program: the MIL blob storage format, version 2, read with every offset checked against the file.

Layout, little-endian (``StorageFormat.hpp`` and ``BlobDataType.hpp`` below
https://github.com/apple/coremltools/blob/f391218c2714481cd2e964b18492a490fed23a79/mlmodel/src/MILBlob/Blob/)::

    file      = header, then per blob: metadata, data      each starts at a multiple of 64
    header    = u32 count | u32 version = 2 | 56 bytes reserved
    metadata  = u32 sentinel = 0xDEADBEEF | u32 data type | u64 size in bytes | u64 offset of the data
                | u64 unused bits at the end (types smaller than a byte) | 32 bytes reserved

A constant of the program names the offset of the metadata.  Elements smaller than a byte are packed from the lowest bit up.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.errors import BundleError

ALIGNMENT = 64
SENTINEL = 0xDEADBEEF
VERSION = 2
HEADER = struct.Struct("<II56x")
METADATA = struct.Struct("<IIQQQ32x")


@dataclass(frozen=True)
class ElementType:
    """A MIL data type.

    Attributes:
        name: as MIL operations spell it.
        bits: per element as stored.
        numpy: the type that holds one element once unpacked.
        blob: its number in blob metadata; None where it is never stored in a blob.
    """

    name: str
    bits: int
    numpy: type[np.generic]
    blob: int | None


# By number in MIL.proto's enum DataType.
ELEMENT_TYPES = {
    1: ElementType("bool", 8, np.bool_, None),
    2: ElementType("string", 0, np.str_, None),
    10: ElementType("fp16", 16, np.float16, 1),
    11: ElementType("fp32", 32, np.float32, 2),
    21: ElementType("int8", 8, np.int8, 4),
    22: ElementType("int16", 16, np.int16, 6),
    23: ElementType("int32", 32, np.int32, 14),
    25: ElementType("int4", 4, np.int8, 8),
    31: ElementType("uint8", 8, np.uint8, 3),
    32: ElementType("uint16", 16, np.uint16, 7),
    33: ElementType("uint32", 32, np.uint32, 15),
    35: ElementType("uint4", 4, np.uint8, 11),
    36: ElementType("uint2", 2, np.uint8, 10),
    37: ElementType("uint1", 1, np.uint8, 9),
    38: ElementType("uint6", 6, np.uint8, 13),
    39: ElementType("uint3", 3, np.uint8, 12),
}


def packed_bytes(kind: ElementType, count: int) -> int:
    """Bytes that ``count`` elements take."""
    return -(-count * kind.bits // 8)


def unpack(raw: bytes, kind: ElementType, count: int) -> NDArray[Any]:
    """``count`` elements from their packed form.  ``raw`` must be exactly ``packed_bytes`` long."""
    if len(raw) != packed_bytes(kind, count):
        raise ValueError(f"{len(raw)} bytes for {count} values of {kind.name}, must be {packed_bytes(kind, count)}")
    if kind.bits >= 8:
        return np.frombuffer(raw, np.dtype(kind.numpy).newbyteorder("<")).astype(kind.numpy)
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=count * kind.bits, bitorder="little")
    values = bits.reshape(count, kind.bits) @ (1 << np.arange(kind.bits))
    if kind.name == "int4":
        values = np.where(values >= 8, values - 16, values)
    return values.astype(kind.numpy)


class BlobFile:
    """A ``weight.bin``, mapped, not loaded."""

    def __init__(self, path: Path) -> None:
        """Raises BundleError where the file is missing or is not blob storage of version 2."""
        self.path = path
        try:
            self.size = path.stat().st_size
            self._data = np.memmap(path, np.uint8, "r") if self.size else np.zeros(0, np.uint8)
        except OSError as exc:
            raise BundleError(f"{path.name} cannot be read: {exc.strerror or exc}") from exc
        if self.size < HEADER.size:
            raise BundleError(f"{path.name} has {self.size} bytes, fewer than its header of {HEADER.size}")
        self.count, version = HEADER.unpack(self._bytes(0, HEADER.size))
        if version != VERSION:
            raise BundleError(f"{path.name} is blob storage of version {version}; version {VERSION} is readable")

    def read(self, offset: int, kind: ElementType, count: int) -> NDArray[Any]:
        """The blob whose metadata lies at ``offset``, flat.

        Raises:
            BundleError: metadata or data lie outside the file, or are not ``count`` elements of ``kind``.
        """
        where = f"{self.path.name}: blob at {offset}"
        if offset % ALIGNMENT or not HEADER.size <= offset <= self.size - METADATA.size:
            raise BundleError(f"{where}: not a multiple of {ALIGNMENT} inside the file of {self.size} bytes")
        sentinel, number, size, start, _ = METADATA.unpack(self._bytes(offset, METADATA.size))
        if sentinel != SENTINEL:
            raise BundleError(f"{where}: sentinel is {sentinel:#010x}, must be {SENTINEL:#010x}")
        if number != kind.blob:
            raise BundleError(f"{where}: data type {number}, but the program says {kind.name} ({kind.blob})")
        if size != packed_bytes(kind, count):
            raise BundleError(f"{where}: {size} bytes, but {count} values of {kind.name} take {packed_bytes(kind, count)}")
        if start % ALIGNMENT or start < HEADER.size or start + size > self.size:
            raise BundleError(f"{where}: data at {start} with {size} bytes, but the file has {self.size} bytes")
        return unpack(self._bytes(start, size), kind, count)

    def _bytes(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size].tobytes()
