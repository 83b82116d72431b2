"""Weights in int8 as ncnn has them: numpy arrays in, numpy arrays out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 127
SMALLEST = 1e-30  # what never exceeds this is taken for zero, so that every scale is finite


def scale(largest: NDArray[np.float32] | float) -> NDArray[np.float32]:
    """What numbers up to ``largest`` are multiplied by to become integers."""
    values = np.asarray(largest, np.float32)
    return np.where(values > SMALLEST, LARGEST / np.maximum(values, np.float32(SMALLEST)), 1).astype(np.float32)


def to_int8(weights: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights (N, ...) as integers of the same shape, halves away from zero, and the scale of each of the N."""
    table = weights.reshape(len(weights), -1)
    scales = scale(np.abs(table).max(axis=1))
    product = table * scales[:, None]
    nearest = np.trunc(product + np.copysign(np.float32(0.5), product))
    return np.clip(nearest, -LARGEST, LARGEST).astype(np.int8).reshape(weights.shape), scales
