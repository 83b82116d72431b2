"""Scales and zero points: of values by their range, of weights per channel.

The rules are those of the LiteRT 8-bit quantization specification (ai.google.dev/edge/litert/models/quantization_spec), which ONNX
Runtime's kernels take as well: int8 and uint8 values have a zero point, int16 values have none; weights have a scale per channel
and no zero point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.errors import ConversionError
from mfs_deploy.quant.recipes import Range

LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32767, 32767)}
LARGEST_WEIGHT = 127  # -128 is not used, so that there is no zero point
# A channel far below the others is stored more coarsely than it could be: XNNPACK refuses to rescale by 2^-32 or less, and its step
# could be too small for float32.
SMALLEST_CHANNEL = 1e-6


@dataclass(frozen=True)
class Scale:
    """``dtype`` integers q that stand for (q - zero) * step."""

    dtype: str
    step: float
    zero: int

    def store(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """The nearest integers; values outside the range are clipped."""
        nearest: NDArray[Any] = np.rint(numbers / np.float32(self.step)) + self.zero
        return nearest.clip(*LIMITS[self.dtype]).astype(self.dtype)

    def read(self, integers: NDArray[Any]) -> NDArray[np.float32]:
        return (integers.astype(np.float32) - np.float32(self.zero)) * np.float32(self.step)


def scale_of_range(dtype: str, value_range: Range) -> Scale:
    """The finest scale that holds a range, and zero exactly (padding is zero)."""
    lowest, highest = LIMITS[dtype]
    if dtype == "int16":
        return Scale(dtype, _step(value_range.largest / highest), 0)
    low, high = min(value_range.low, 0.0), max(value_range.high, 0.0)
    step = _step((high - low) / (highest - lowest))
    return Scale(dtype, step, int(np.clip(round(lowest - low / step), lowest, highest)))


def _step(step: float) -> float:
    """As float32, which files hold; 1 for a value that is always zero."""
    return float(np.float32(step)) if step > np.finfo(np.float32).tiny else 1.0


def range_of(ranges: Mapping[str, Range], name: str) -> Range:
    """Raises ConversionError if the node has none."""
    if name not in ranges:
        raise ConversionError(f"{name} has no range, which integers need", hint="calibrate on some crops")
    return ranges[name]


def weights_to_int8(
    weights: NDArray[Any], axis: int, smallest: NDArray[Any] | float = 0.0
) -> tuple[NDArray[np.int8], NDArray[Any]]:
    """Weights in int8, and the step of each channel along ``axis``, none below ``smallest``."""
    largest = np.abs(weights).max(axis=tuple(i for i in range(weights.ndim) if i != axis)).astype(np.float64)
    floor = float(largest.max(initial=0)) * SMALLEST_CHANNEL or 1.0
    steps = np.maximum(np.maximum(largest, floor) / LARGEST_WEIGHT, smallest).astype(np.float32)
    spread = steps.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
    return np.clip(np.rint(weights / spread), -LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.int8), steps
