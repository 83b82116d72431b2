"""One array of a file, with type and shape; its numbers are read later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class StoredArray:
    """``dtype`` by its plain name; ``read`` gives float32 of ``shape``, and may be called only if ``dtype`` is in ``FLOATS``.

    ``read`` raises ``CheckpointError`` where the numbers cannot be read.
    """

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], NDArray[np.float32]]


def from_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bfloat16 is the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_float32(array: NDArray[np.generic], dtype: str) -> NDArray[np.float32]:
    """Native float32; without a copy where it already is."""
    if dtype == "bfloat16":
        return from_bfloat16(array.astype(np.uint16, copy=False))
    with np.errstate(over="ignore"):  # becomes infinite; ``match`` refuses that, with the key
        return array.astype(np.float32, copy=False)
