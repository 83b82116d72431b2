"""Integers for numbers in TFLite: which scale and zero point each value of a network gets.

The rules are those of the LiteRT 8-bit quantization specification (ai.google.dev/edge/litert/models/quantization_spec) and of its
kernels: int8 and uint8 values have a zero point, int16 values none; weights have a scale per output channel and none either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.backends import tflite_model as tfl
from mfs_deploy.errors import ConversionError
from mfs_deploy.quant.recipe import Format, Range

LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32767, 32767)}
FIXED = {  # what these kernels give, whatever the range: [0, 1) and [-1, 1)
    "LOGISTIC": {"int8": (1 / 256, -128), "int16": (1 / 32768, 0)},
    "TANH": {"int8": (1 / 128, 0), "int16": (1 / 32768, 0)},
}


@dataclass(frozen=True)
class Scale:
    """``dtype`` integers q that stand for (q - zero) * step."""

    dtype: str
    step: float
    zero: int

    def store(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """The nearest integers; what lies outside is cut off."""
        nearest: NDArray[Any] = np.rint(numbers / np.float32(self.step)) + self.zero
        return nearest.clip(*LIMITS[self.dtype]).astype(self.dtype)

    def read(self, integers: NDArray[Any]) -> NDArray[np.float32]:
        return (integers.astype(np.float32) - np.float32(self.zero)) * np.float32(self.step)


def fit(dtype: str, seen: Range) -> Scale:
    """The finest scale that holds a range, and zero exactly (padding is zero)."""
    lowest, highest = LIMITS[dtype]
    if dtype == "int16":
        return Scale(dtype, _step(seen.largest / highest), 0)
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    step = _step((high - low) / (highest - lowest))
    return Scale(dtype, step, int(np.clip(round(lowest - low / step), lowest, highest)))


def _step(step: float) -> float:
    """As float32, which the file holds; of a value that is always zero, anything above zero."""
    return float(np.float32(step)) if step > np.finfo(np.float32).tiny else 1.0


def value_scales(
    model: tfl.Model,
    operations: Sequence[tuple[str, tfl.Operator]],
    formats: Mapping[str, Format],
    ranges: Mapping[str, Range],
    names: Mapping[int, str],
) -> dict[str, Scale]:
    """The scale of what each integer operation gives, by node.

    RESIZE_BILINEAR does not rescale, so its output has its input's scale; CONCATENATION has one scale for its inputs and its
    output, and an input that nobody else reads takes it from the output.

    Args:
        operations: of the graph's nodes, in the order of execution.
        names: by tensor, what ``ranges`` calls it.

    Raises:
        ConversionError: a range is not known.
    """
    readers = Counter(int(i) for operator in model.subgraphs[0].operators for i in operator.inputs)
    readers.update(int(i) for i in model.subgraphs[0].outputs)
    widened = dict(ranges)
    for name, operator in operations:
        if tfl.kind(model, operator) == "CONCATENATION" and formats[name].is_static:
            widened |= {names[int(i)]: range_of(ranges, name) for i in operator.inputs if readers[int(i)] == 1 and int(i) in names}
    found: dict[str, Scale] = {}
    for name, operator in operations:
        dtype, kind = formats[name].activations, tfl.kind(model, operator)
        if not formats[name].is_static:
            continue
        if kind in FIXED:
            found[name] = Scale(dtype, *FIXED[kind][dtype])
        elif kind == "RESIZE_BILINEAR":
            source = names.get(int(operator.inputs[0]), "")
            made = found.get(source)
            found[name] = made if made is not None and made.dtype == dtype else fit(dtype, range_of(widened, source))
        else:
            found[name] = fit(dtype, range_of(widened, name))
    return found


def range_of(ranges: Mapping[str, Range], name: str) -> Range:
    if name not in ranges:
        raise ConversionError(f"the range of {name} is not known, which integers need", hint="calibrate on some crops")
    return ranges[name]
