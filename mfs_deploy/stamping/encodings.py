"""Every form in which a converter may store one tensor of weights: numbers to bytes.  numpy alone.

Weights are float32 with the output channel first.  A form is one array of a representation (integers and their steps are two forms
of the same weights), in one order of axes.  The rules for integers are those that the converters themselves use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.backends.coreml import weights as coreml_weights
from mfs_deploy.backends.ncnn import weights as ncnn_weights
from mfs_deploy.quant.palettes import to_palette
from mfs_deploy.quant.scales import weights_to_int8

Array = NDArray[Any]
Representation = Callable[[Array], tuple[Array, ...]]
LARGEST_BIAS = 2.0**30


def _palette(bits: int, dtype: Any) -> Representation:
    def represent(weights: Array) -> tuple[Array, ...]:
        table, indices = to_palette(weights.astype(dtype), bits)
        return table, coreml_weights.pack(indices, bits)

    return represent


def _widened(dtype: Any) -> Representation:
    def represent(weights: Array) -> tuple[Array, ...]:
        wide = ncnn_weights.widen(weights)
        return () if wide is None else (wide.astype(dtype),)

    return represent


PALETTES: dict[str, Representation] = {
    f"palette{bits} {name}": _palette(bits, name) for bits in (6, 4) for name in ("float16", "float32")
}
REPRESENTATIONS: dict[str, Representation] = {
    "float32": lambda w: (w,),
    "float16": lambda w: (w.astype(np.float16),),
    "int8": lambda w: weights_to_int8(w, 0),
    "int8 ncnn": ncnn_weights.to_int8,
    "int8 coreml": coreml_weights.to_int8,
    "int8 coreml float16": lambda w: coreml_weights.to_int8(w.astype(np.float16)),
    "float32 ncnn": _widened(np.float32),
    "float16 ncnn": _widened(np.float16),
    **PALETTES,
}


BIASES = {"int32": np.int32, "int64": np.int64}  # a bias that integer kernels add as it is


def to_counts(bias: Array, steps: Array, dtype: str) -> Array:
    """A bias (N,) in ``steps`` (N,), as one of ``BIASES``.

    Raises:
        OverflowError: it is more than 2^30 steps, which a converter would have made larger.
    """
    counts = np.rint(bias.astype(np.float64) / steps)
    if not (np.abs(counts) <= LARGEST_BIAS).all():
        raise OverflowError(f"{np.abs(counts).max():.3g} steps")
    return counts.astype(BIASES[dtype])


# Steps of int8 weights are rounded in several ways, which for a tensor of few channels may all give the same bytes; and palettes
# take long to make.
ONLY = {
    "int8": ("onnx", "tflite"),
    **dict.fromkeys(("int8 ncnn", "float32 ncnn", "float16 ncnn"), ("ncnn",)),
    **dict.fromkeys(("int8 coreml", "int8 coreml float16", *PALETTES), ("coreml",)),
}


def of_backend(backend: str) -> tuple[str, ...]:
    """The representations that its converter may use."""
    return tuple(name for name in REPRESENTATIONS if backend in ONLY.get(name, (backend,)))


@cache
def parts(representation: str) -> int:
    """How many arrays it has."""
    return len(REPRESENTATIONS[representation](np.ones((1, 1, 4, 4), np.float32)))


def orders(array: Array) -> Iterator[tuple[int, ...]]:
    """Orders of axes that may give different bytes."""
    seen = set()
    for axes in permutations(range(array.ndim)):
        moved = tuple(axis for axis in axes if array.shape[axis] > 1)  # where an axis of length one lies changes nothing
        if moved not in seen:
            seen.add(moved)
            yield axes
