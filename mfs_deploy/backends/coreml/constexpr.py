"""MIL operations that change the type of their data: casts, quantization, and weights that are stored compressed.

Source: coremltools ``ops/defs/iOS16/constexpr_ops.py``, ``iOS17/quantization_ops.py``, ``iOS18/compression.py``.  Arithmetic is in
float32; the result is rounded once to the type of the scale (or table).  Only ``operations.py`` imports this module.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mfs_deploy.backends.coreml.blob import ELEMENT_TYPES, packed_bytes, unpack

DTYPES = {
    "fp16": torch.float16,
    "fp32": torch.float32,
    "bool": torch.bool,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "int32": torch.int32,
}
BY_NAME = {kind.name: kind for kind in ELEMENT_TYPES.values()}


def cast(*, x: Tensor, dtype: str) -> Tensor:
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not known")
    return x.to(DTYPES[dtype])


def quantize(
    *, input: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None, axis: Tensor | None = None
) -> Tensor:
    """clip(round(input / scale) + zero_point), halves to even."""
    if output_dtype not in ("int8", "uint8"):
        raise ValueError(f"output_dtype {output_dtype!r} is neither int8 nor uint8")
    values = torch.round(input.float() / _along(scale, input, axis))
    if zero_point is not None:
        values = values + _along(zero_point, input, axis)
    limits = torch.iinfo(DTYPES[output_dtype])
    return values.clamp(limits.min, limits.max).to(DTYPES[output_dtype])


def dequantize(*, input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
    """scale * (input - zero_point), in the type of ``scale``."""
    values = input.float()
    if zero_point is not None:
        values = values - _along(zero_point, input, axis)
    return (values * _along(scale, input, axis)).to(scale.dtype)


def constexpr_affine_dequantize(*, quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: Tensor) -> Tensor:
    return dequantize(input=quantized_data, scale=scale, zero_point=zero_point, axis=axis)


def constexpr_cast(*, source_val: Tensor, output_dtype: str) -> Tensor:
    if output_dtype not in ("fp16", "fp32"):
        raise ValueError(f"output_dtype {output_dtype!r} is neither fp16 nor fp32")
    return source_val.to(DTYPES[output_dtype])


def constexpr_blockwise_shift_scale(*, data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """scale * (data - offset), where each scale and offset serves a block of data.shape / scale.shape elements."""
    values = data.float()
    if offset is not None:
        values = values - _spread(offset, data.shape).float()
    return (values * _spread(scale, data.shape).float()).to(scale.dtype)


def constexpr_lut_to_dense(
    *, indices: Tensor, lut: Tensor, shape: Tensor | None = None, vector_axis: Tensor | None = None
) -> Tensor:
    """Table look-up.

    With ``shape`` (iOS 16) ``indices`` are bytes of packed indices into the one table ``lut`` (2^bits,).  Without (iOS 18)
    they have the shape of the result and ``lut`` is (*blocks, 2^bits, V): a table for each block, of single values.
    """
    if shape is None:
        if lut.shape[-1] != 1 or vector_axis is not None:
            raise ValueError("tables of vectors are not supported")
        return _lookup_blocks(indices, lut[..., 0])
    sizes = [int(v) for v in shape.tolist()]
    bits = lut.numel().bit_length() - 1
    kind = BY_NAME.get(f"uint{bits}")
    if lut.dim() != 1 or lut.numel() != 1 << bits or kind is None:
        raise ValueError(f"a table of shape {tuple(lut.shape)}, must have 2, 4, 8, 16, 64 or 256 values")
    count = math.prod(sizes)
    if indices.numel() != packed_bytes(kind, count):
        raise ValueError(f"{indices.numel()} bytes of indices, {count} of {bits} bits take {packed_bytes(kind, count)}")
    flat = unpack(indices.numpy().tobytes(), kind, count)
    return lut[torch.from_numpy(flat.astype(np.int64))].reshape(sizes)


def _lookup_blocks(indices: Tensor, lut: Tensor) -> Tensor:
    """indices (*shape), lut (*blocks, entries) to values (*shape)."""
    entries = lut.shape[-1]
    table = torch.arange(lut.numel() // entries).reshape(lut.shape[:-1])
    which = _spread(table, indices.shape) * entries + indices.long()
    if int(indices.max()) >= entries:
        raise ValueError(f"index {int(indices.max())} into a table of {entries}")
    return lut.reshape(-1)[which]


def _along(parameter: Tensor, data: Tensor, axis: Tensor | None) -> Tensor:
    """A scalar, or one value for each index of ``axis``, in float32 and shaped to broadcast over ``data``."""
    if parameter.numel() == 1:
        return parameter.float().reshape([1] * data.dim())
    if parameter.dim() != 1 or axis is None or parameter.numel() != data.shape[int(axis)]:
        raise ValueError(f"a parameter of shape {tuple(parameter.shape)} for data of shape {tuple(data.shape)}")
    shape = [1] * data.dim()
    shape[int(axis)] = -1
    return parameter.float().reshape(shape)


def _spread(blocks: Tensor, shape: torch.Size) -> Tensor:
    """Repeat each element over its block, so that the result has ``shape``."""
    if blocks.dim() != len(shape) or any(size % block for size, block in zip(shape, blocks.shape, strict=True)):
        raise ValueError(f"blocks of shape {tuple(blocks.shape)} do not divide data of shape {tuple(shape)}")
    for dim, size in enumerate(shape):
        blocks = blocks.repeat_interleave(size // blocks.shape[dim], dim)
    return blocks
