"""``.pdparams``: a pickled dict of NumPy arrays, as ``paddle.save`` writes a state dict.

Source: PaddlePaddle, ``python/paddle/framework/io.py`` and ``io_utils.py``; NumPy's ``ndarray.__reduce__``,
``ndarray.__setstate__`` and ``dtype.__setstate__``.  Values are arrays, or ``(name, array)``.  Under protocols 2 and 3 bytes are
written as ``_codecs.encode(text, "latin1")`` and arrays over 1 GB are cut up.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.checkpoint.byte_source import Source, shown, unreadable
from mfs_deploy.checkpoint.pickle_reader import (
    Args,
    Budget,
    Buildable,
    Global,
    Vocabulary,
)
from mfs_deploy.checkpoint.pickle_reader import read as read_pickle
from mfs_deploy.checkpoint.stored_array import StoredArray, to_float32
from mfs_deploy.errors import CheckpointError

NAME_TABLE = "StructuredToParameterName@@"
CUT_UP = "UnpackBigParamInfor@@"
MAX_DIMS = 8
# Paddle has no other use for uint16: its NumPy arrays of that type are bfloat16 bit patterns.
DTYPES = {"f2": "float16", "f4": "float32", "f8": "float64", "u2": "bfloat16"}
OTHER_DTYPES = {"b1": "bool", "i1": "int8", "u1": "uint8", "i4": "int32", "i8": "int64", "c8": "complex64", "O8": "object"}
NDARRAY = "numpy.ndarray"


def read(source: Source) -> dict[str, StoredArray]:
    """Arrays by their key in the file.

    Raises:
        CheckpointError: checkpoint-unsafe, checkpoint-unreadable; checkpoint-values where a value is no array.
    """
    found = read_pickle(source, _Arrays(source).vocabulary())
    if type(found) is not dict:
        raise unreadable(source.name, f"holds a {type(found).__name__}, not a dict of arrays", hint="save a state dict")
    if CUT_UP in found:
        raise unreadable(source.name, "holds arrays cut into slices", hint="save it again with protocol 4")
    return {str(key): _stored(source.name, key, value) for key, value in found.items() if key != NAME_TABLE}


def _stored(name: str, key: object, value: object) -> StoredArray:
    if isinstance(value, tuple) and len(value) == 2 and type(value[0]) is str:
        value = value[1]
    if not isinstance(value, _Array) or value.stored is None:
        held = "an array without contents" if isinstance(value, _Array) else f"a {type(value).__name__}, not an array"
        raise CheckpointError(
            f"{shown(name)}: {shown(str(key))} holds {held}",
            hint="save only the network's state dict",
            kind="checkpoint-values",
        )
    return value.stored


class _Dtype(Buildable):
    """Stands for ``numpy.dtype(code)``; the byte order comes with BUILD."""

    def __init__(self, code: str, name: str) -> None:
        self.code = code
        self.order = "<"
        self._name = name

    def build(self, state: object) -> None:
        match state:
            case (3, "<" | ">" | "|" | "=" as order, None, None, None, -1, -1, _):
                self.order = order
            case _ if self.code in DTYPES:
                raise unreadable(self._name, "an array type with fields or an unknown form")


class _Array(Buildable):
    """Stands for an ``ndarray``; its contents come with BUILD, as a tuple, or from ``_frombuffer``."""

    def __init__(self, owner: _Arrays) -> None:
        self.stored: StoredArray | None = None
        self._owner = owner

    def build(self, state: object) -> None:
        match state:
            case (1, tuple(shape), _Dtype() as dtype, bool(fortran), payload):
                self.stored = self._owner.stored(payload, dtype, shape, "F" if fortran else "C")
            case _:
                raise self._owner.unexpected("ndarray.__setstate__")


class _Arrays:
    """The handlers, and what the arrays of one file may add up to."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._budget = Budget(source.name, source.size)
        self._text_budget = Budget(source.name, source.size)

    def vocabulary(self) -> Vocabulary:
        calls = {
            "_codecs.encode": self.encode,
            "builtins.tuple": self.pair,
            "__builtin__.tuple": self.pair,
            "collections.OrderedDict": self.ordered_dict,
            "numpy.dtype": self.dtype,
        }
        for core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
            calls[f"{core}.multiarray._reconstruct"] = self.reconstruct
            calls[f"{core}.numeric._frombuffer"] = self.frombuffer
        return Vocabulary(calls, names=frozenset({NDARRAY}))

    def unexpected(self, call: str) -> CheckpointError:
        return unreadable(self.name, f"unexpected arguments of {call}")

    def encode(self, args: Args) -> bytes:
        match args:
            case (str(text), "latin1"):
                self._text_budget.spend(len(text))
                try:
                    return text.encode("latin1")
                except UnicodeEncodeError:
                    pass
        raise self.unexpected("_codecs.encode")

    def pair(self, args: Args) -> Args:
        match args:
            case ((str(name), value),):
                return (name, value)
        raise self.unexpected("tuple")

    def ordered_dict(self, args: Args) -> dict[str, object]:
        if args:
            raise self.unexpected("OrderedDict")
        return {}

    def reconstruct(self, args: Args) -> _Array:
        match args:
            case (Global("numpy.ndarray"), (0,), b"b"):
                return _Array(self)
        raise self.unexpected("_reconstruct")

    def dtype(self, args: Args) -> _Dtype:
        match args:
            case (str(code), bool() | 0 | 1, bool() | 0 | 1):
                return _Dtype(code, self.name)
        raise self.unexpected("numpy.dtype")

    def frombuffer(self, args: Args) -> _Array:
        match args:
            case (payload, _Dtype() as dtype, tuple(shape), "C" | "F" as order):
                array = _Array(self)
                array.stored = self.stored(payload, dtype, shape, order)
                return array
        raise self.unexpected("_frombuffer")

    def stored(self, payload: object, dtype: _Dtype, shape: tuple[Any, ...], order: Literal["C", "F"]) -> StoredArray:
        """``payload`` as an array, if its length is exactly what type and shape say."""
        if len(shape) > MAX_DIMS or not all(type(n) is int and n >= 0 for n in shape):
            raise unreadable(self.name, "an array with an impossible shape")
        if dtype.code not in DTYPES:
            return StoredArray(OTHER_DTYPES.get(dtype.code, f"NumPy {shown(dtype.code)}"), shape, _never)
        if not isinstance(payload, (bytes, bytearray)):
            raise self.unexpected("ndarray")
        claimed = math.prod(shape) * int(dtype.code[1])
        if claimed != len(payload):
            raise unreadable(self.name, f"an array of shape {shape} and {claimed:,} bytes, with {len(payload):,} bytes of data")
        self._budget.spend(claimed)
        name, in_file = DTYPES[dtype.code], np.dtype(dtype.order.replace("|", "=") + dtype.code)

        def values() -> NDArray[np.float32]:
            flat = np.frombuffer(payload, in_file)
            return to_float32(flat.astype(in_file.newbyteorder("="), copy=False), name).reshape(shape, order=order)

        return StoredArray(name, shape, values)


def _never() -> NDArray[np.float32]:
    raise AssertionError("the type is refused before the numbers are read")
