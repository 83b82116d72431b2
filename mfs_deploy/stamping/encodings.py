"""Every encoding in which a converter may store one weight tensor: numbers to bytes.  NumPy only.

Weights are float32 with the output channel first.  A representation is one or more arrays (integers and their steps are two), each
stored in some order of axes.  The rules for integers are those of the converters.
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


BIASES = {"int32": np.int32, "int64": np.int64}  # of a bias that integer kernels add


def quantized(bias: Array, steps: Array, dtype: str) -> Array:
    """A bias (N,) as integers of ``steps`` (N,), in one of ``BIASES``.

    Raises:
        OverflowError: a value has more than 2^30 steps; a converter would have chosen larger ones.
    """
    counts = np.rint(bias.astype(np.float64) / steps)
    if not (np.abs(counts) <= LARGEST_BIAS).all():
        raise OverflowError(f"{np.abs(counts).max():.3g} steps")
    return counts.astype(BIASES[dtype])


# Searched only in the files of these backends: converters round the steps of int8 weights differently, and for a tensor of few
# channels the bytes may still be equal; and palettes are slow to compute.
ONLY = {
    "int8": ("onnx", "tflite"),
    **dict.fromkeys(("int8 ncnn", "float32 ncnn", "float16 ncnn"), ("ncnn",)),
    **dict.fromkeys(("int8 coreml", "int8 coreml float16", *PALETTES), ("coreml",)),
}


def of_backend(backend: str) -> tuple[str, ...]:
    """The representations that a backend's converter may use."""
    return tuple(name for name in REPRESENTATIONS if backend in ONLY.get(name, (backend,)))


@cache
def parts(representation: str) -> int:
    """How many arrays a representation has."""
    return len(REPRESENTATIONS[representation](np.ones((1, 1, 4, 4), np.float32)))


def orders(array: Array) -> Iterator[tuple[int, ...]]:
    """The orders of axes that may give different bytes."""
    seen = set()
    for axes in permutations(range(array.ndim)):
        moved = tuple(axis for axis in axes if array.shape[axis] > 1)  # the position of an axis of length one changes nothing
        if moved not in seen:
            seen.add(moved)
            yield axes
