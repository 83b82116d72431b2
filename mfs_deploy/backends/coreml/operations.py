"""The MIL operations that can be evaluated: a table from name to function.  Parameters are named as MIL names them.

Source: the operation definitions in coremltools ``converters/mil/mil/ops/defs``.  ``evaluator.py`` imports this module; it
needs torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mfs_deploy.backends.coreml import constexpr, image_operations
from mfs_deploy.backends.coreml.image_operations import integers

# ---- elementwise


def _unary(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def apply(*, x: Tensor) -> Tensor:
        return function(x)

    return apply


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def apply(*, x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)

    return apply


def leaky_relu(*, x: Tensor, alpha: Tensor) -> Tensor:
    return F.leaky_relu(x, float(alpha))


def prelu(*, x: Tensor, alpha: Tensor) -> Tensor:
    """alpha (C,)."""
    return F.prelu(x, alpha)


def clip(*, x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return x.clamp(float(alpha), float(beta))


def rsqrt(*, x: Tensor, epsilon: Tensor | None = None) -> Tensor:
    return torch.rsqrt(x + (float(epsilon) if epsilon is not None else 1e-12))


# ---- shape


def concat(*, values: tuple[Tensor, ...], axis: Tensor, interleave: Tensor | None = None) -> Tensor:
    dim = int(axis) % values[0].dim()
    if interleave is not None and bool(interleave):
        return torch.stack(values, dim + 1).flatten(dim, dim + 1)
    return torch.cat(values, dim)


def split(*, x: Tensor, axis: Tensor, num_splits: Tensor | None = None, split_sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    dim = int(axis)
    if split_sizes is not None:
        return torch.split(x, integers(split_sizes), dim)
    if num_splits is None or x.shape[dim] % int(num_splits):
        raise ValueError(f"{x.shape[dim]} elements cannot be split into {num_splits} equal parts")
    return torch.split(x, x.shape[dim] // int(num_splits), dim)


def reshape(*, x: Tensor, shape: Tensor) -> Tensor:
    """0 takes the size of the same dimension of ``x``, -1 what is left."""
    sizes = integers(shape)
    if 0 in sizes and len(sizes) != x.dim():
        raise ValueError(f"shape {sizes} has a 0, but another rank than {tuple(x.shape)}")
    return x.reshape([size or x.shape[i] for i, size in enumerate(sizes)])


def transpose(*, x: Tensor, perm: Tensor) -> Tensor:
    return x.permute(integers(perm)).contiguous()


def expand_dims(*, x: Tensor, axes: Tensor) -> Tensor:
    """``axes`` are dimensions of the result."""
    dims = integers(axes)
    rank = x.dim() + len(dims)
    for dim in sorted(d % rank for d in dims):
        x = x.unsqueeze(dim)
    return x


def squeeze(*, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze(tuple(integers(axes))) if axes is not None else x.squeeze()


def slice_by_index(
    *,
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    """x[begin:end:stride] in every dimension; a mask drops the begin, the end, or the dimension itself."""
    rank = x.dim()
    steps = integers(stride) if stride is not None else [1] * rank
    if min(steps) < 1:
        raise ValueError(f"stride {steps}, must be positive")
    no_begin, no_end, single = (
        [bool(v) for v in mask.tolist()] if mask is not None else [False] * rank for mask in (begin_mask, end_mask, squeeze_mask)
    )
    index: list[int | slice] = []
    for i, (first, last) in enumerate(zip(integers(begin), integers(end), strict=True)):
        if single[i]:
            index.append(first)
        else:
            index.append(slice(None if no_begin[i] else first, None if no_end[i] else last, steps[i]))
    return x[tuple(index)].contiguous()


# ---- sums of products


def _reduce(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def apply(*, x: Tensor, axes: Tensor | None = None, keep_dims: Tensor | None = None) -> Tensor:
        dims = integers(axes) if axes is not None else list(range(x.dim()))
        return function(x, dims, keepdim=bool(keep_dims) if keep_dims is not None else False)

    return apply


def linear(*, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (*, in), weight (out, in)."""
    return F.linear(x, weight, bias)


def matmul(*, x: Tensor, y: Tensor, transpose_x: Tensor | None = None, transpose_y: Tensor | None = None) -> Tensor:
    if transpose_x is not None and bool(transpose_x) and x.dim() > 1:
        x = x.transpose(-1, -2)
    if transpose_y is not None and bool(transpose_y) and y.dim() > 1:
        y = y.transpose(-1, -2)
    return torch.matmul(x, y)


# ---- the tables

# The result has the type of the data; float16 data is computed in float32 and rounded once.
SAME_TYPE: dict[str, Callable[..., Any]] = {
    "add": _binary(torch.add),
    "batch_norm": image_operations.batch_norm,
    "clip": clip,
    "concat": concat,
    "conv": image_operations.conv,
    "exp": _unary(torch.exp),
    "expand_dims": expand_dims,
    "identity": _unary(lambda x: x),
    "instance_norm": image_operations.instance_norm,
    "leaky_relu": leaky_relu,
    "linear": linear,
    "matmul": matmul,
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "mul": _binary(torch.mul),
    "pad": image_operations.pad,
    "prelu": prelu,
    "real_div": _binary(torch.true_divide),
    "reduce_mean": _reduce(torch.mean),
    "reduce_sum": _reduce(torch.sum),
    "relu": _unary(torch.relu),
    "reshape": reshape,
    "resize_bilinear": image_operations.resize_bilinear,
    "rsqrt": rsqrt,
    "sigmoid": _unary(torch.sigmoid),
    "slice_by_index": slice_by_index,
    "split": split,
    "sqrt": _unary(torch.sqrt),
    "square": _unary(torch.square),
    "squeeze": squeeze,
    "sub": _binary(torch.sub),
    "tanh": _unary(torch.tanh),
    "transpose": transpose,
    "upsample_bilinear": image_operations.upsample_bilinear,
    "upsample_nearest_neighbor": image_operations.upsample_nearest_neighbor,
}

# The result has a type of its own.
OWN_TYPE: dict[str, Callable[..., Any]] = {
    "cast": constexpr.cast,
    "constexpr_affine_dequantize": constexpr.constexpr_affine_dequantize,
    "constexpr_blockwise_shift_scale": constexpr.constexpr_blockwise_shift_scale,
    "constexpr_cast": constexpr.constexpr_cast,
    "constexpr_lut_to_dense": constexpr.constexpr_lut_to_dense,
    "dequantize": constexpr.dequantize,
    "quantize": constexpr.quantize,
}

OPERATIONS = SAME_TYPE | OWN_TYPE
