"""Weights in eight bits and fewer, as Core ML stores them: numpy arrays in, numpy arrays out, the same for the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LARGEST = 127  # of an int8 without -128, so that the numbers lie as far below zero as above


def to_int8(weight: Array) -> tuple[NDArray[np.int8], Array]:
    """Weights (out, ...) as whole numbers of the same shape, and the scale of each output channel (out,) in the weights' type."""
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    exact = np.abs(flat).max(1) / LARGEST
    exact = np.where(exact > 0, exact, 1.0)
    scale = exact.astype(weight.dtype)
    # Up, not to the nearest: a tiny scale has few digits in float16, and one that is too small would cut off the largest weights.
    scale = np.where(scale < exact, np.nextafter(scale, np.inf, dtype=weight.dtype), scale)
    # Divided by the scale as it is stored, not as it would be: what is lost in rounding the scale is not lost twice.
    numbers = np.rint(flat / scale.astype(np.float64)[:, None]).clip(-LARGEST, LARGEST)
    return numbers.astype(np.int8).reshape(weight.shape), scale


def pack(indices: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Indices below 2 ** bits as bytes, each from its lowest bit up, one right behind the other."""
    return np.packbits(np.unpackbits(indices[:, None], axis=1, count=bits, bitorder="little"), bitorder="little")
