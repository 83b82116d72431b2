"""Weights in ncnn's int8 format, or padded to eight channels.  NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 127
PACK = 8  # channels that ncnn computes together in float16
SMALLEST = 1e-30  # smaller values are taken for zero, so that every scale is finite


def scale(largest: NDArray[np.float32] | float) -> NDArray[np.float32]:
    """The factor that maps numbers up to ``largest`` to int8."""
    values = np.asarray(largest, np.float32)
    return np.where(values > SMALLEST, LARGEST / np.maximum(values, np.float32(SMALLEST)), 1).astype(np.float32)


def to_int8(weights: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights (N, ...) as integers of the same shape, halves away from zero, and the scale of each of the N."""
    table = weights.reshape(len(weights), -1)
    scales = scale(np.abs(table).max(axis=1))
    product = table * scales[:, None]
    nearest = np.trunc(product + np.copysign(np.float32(0.5), product))
    return np.clip(nearest, -LARGEST, LARGEST).astype(np.int8).reshape(weights.shape), scales


def widen(weights: NDArray[Any]) -> NDArray[Any] | None:
    """Weights (O, I, H, W) after ``graph.pad_input_channels`` and ``graph.pad_even_kernels``, or None where neither changes them.

    Zeros stand where a channel, or the first row and column of a 5x5 kernel, has none.
    """
    if weights.ndim != 4:
        return None
    outputs, inputs, height, width = weights.shape
    is_depthwise = inputs == 1 and (height, width) == (4, 4)
    more = (0, max(PACK - outputs, 0)), (0, 0), (1, 0), (1, 0)
    if not is_depthwise:
        more = (0, 0), (0, max(PACK - inputs, 0)), (0, 0), (0, 0)
        if (height, width) != (1, 1) or inputs in (1, *range(PACK, inputs + 1)):
            return None
    return np.pad(weights, more)
