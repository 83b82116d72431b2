"""MIL operations over images: convolutions, resizes, padding, normalisation.  Parameters are named as MIL names them.

Source: the operation definitions in coremltools ``converters/mil/mil/ops/defs``.  Only ``operations.py`` imports this module.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}  # by number of spatial dimensions


def integers(value: Tensor) -> list[int]:
    return [int(v) for v in value.flatten().tolist()]


def conv(
    *,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Tensor | None = None,
    pad_type: str = "valid",
    pad: Tensor | None = None,
    dilations: Tensor | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    """x (N, C, *spatial), weight (out, C / groups, *kernel)."""
    rank = x.dim() - 2
    stride = integers(strides) if strides is not None else [1] * rank
    dilation = integers(dilations) if dilations is not None else [1] * rank
    if pad_type == "valid":
        pads = [0] * 2 * rank
    elif pad_type == "custom":
        pads = integers(pad) if pad is not None else [0] * 2 * rank
    elif pad_type in ("same", "same_lower"):
        spans = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
        pads = _same_pads(x.shape[2:], spans, stride, lower=pad_type == "same_lower")
    else:
        raise ValueError(f"pad_type {pad_type!r} is not known")
    if any(pads):
        x = F.pad(x, _torch_order(pads))
    count = int(groups) if groups is not None else 1
    return CONVOLUTIONS[rank](x, weight, bias, stride=stride, dilation=dilation, groups=count)


def _same_pads(sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int], *, lower: bool) -> list[int]:
    """Before, after for each dimension, so that the output has ceil(size / stride); an odd rest goes after, or before."""
    pads = []
    for size, span, stride in zip(sizes, spans, strides, strict=True):
        total = max((math.ceil(size / stride) - 1) * stride + span - size, 0)
        half = total // 2
        pads += [total - half, half] if lower else [half, total - half]
    return pads


def _torch_order(pads: Sequence[int]) -> list[int]:
    """MIL lists dimensions first to last, torch last to first."""
    return [value for i in range(len(pads) - 2, -1, -2) for value in pads[i : i + 2]]


def pad(*, x: Tensor, pad: Tensor, mode: str = "constant", constant_val: Tensor | None = None) -> Tensor:
    """``pad`` holds before, after for the last N dimensions."""
    pads = integers(pad)
    if mode == "constant":
        return F.pad(x, _torch_order(pads), value=float(constant_val) if constant_val is not None else 0.0)
    if mode not in ("reflect", "replicate"):
        raise ValueError(f"mode {mode!r} is not known")
    while len(pads) >= 2 and pads[:2] == [0, 0]:
        del pads[:2]  # torch reflects the last dimensions only
    return F.pad(x, _torch_order(pads), mode=mode) if pads else x.clone()


# ---- resizes: a list of source positions for each axis, then linear interpolation


def upsample_bilinear(
    *,
    x: Tensor,
    scale_factor_height: Tensor | None = None,
    scale_factor_width: Tensor | None = None,
    align_corners: Tensor | None = None,
    half_pixel_centers: Tensor | None = None,
) -> Tensor:
    """Corners are aligned by default; pixel centres are at halves exactly where corners are not aligned."""
    aligned = bool(align_corners) if align_corners is not None else True
    halves = bool(half_pixel_centers) if half_pixel_centers is not None else not aligned
    if aligned and halves:
        raise ValueError("align_corners and half_pixel_centers are both true, which MIL does not define")
    mode = "STRICT_ALIGN_CORNERS" if aligned else "UNALIGN_CORNERS" if halves else "DEFAULT"
    height = _scaled(x.shape[-2], scale_factor_height)
    return _resize(x, height, _scaled(x.shape[-1], scale_factor_width), mode)


def resize_bilinear(
    *,
    x: Tensor,
    target_size_height: Tensor | None = None,
    target_size_width: Tensor | None = None,
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    height = int(target_size_height) if target_size_height is not None else 1
    width = int(target_size_width) if target_size_width is not None else 1
    return _resize(x, height, width, sampling_mode)


def upsample_nearest_neighbor(
    *, x: Tensor, scale_factor_height: Tensor | None = None, scale_factor_width: Tensor | None = None
) -> Tensor:
    """By whole factors; for others MIL does not say which pixel is the nearest."""
    for dim, factor in ((-2, scale_factor_height), (-1, scale_factor_width)):
        by = float(factor) if factor is not None else 1.0
        if by != int(by) or by < 1:
            raise ValueError(f"scale factor {by}, must be a whole number")
        x = x.repeat_interleave(int(by), dim)
    return x


def _scaled(size: int, factor: Tensor | None) -> int:
    return size if factor is None else math.floor(size * float(factor))


def _positions(size: int, out: int, mode: str) -> Tensor:
    """Where each of ``out`` samples lies on a grid of ``size`` pixels, (out,) float64 in [0, size - 1]."""
    i = torch.arange(out, dtype=torch.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        alone = (size - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0
        grid = i * (size - 1) / (out - 1) if out > 1 else torch.full_like(i, alone)
    elif mode == "DEFAULT":
        grid = i * size / out
    elif mode == "OFFSET_CORNERS":
        grid = (i + 0.5) * max(1, size - 1) / out
    elif mode == "UNALIGN_CORNERS":
        grid = (i + 0.5) * size / out - 0.5
    else:
        raise ValueError(f"sampling_mode {mode!r} is not known")
    return grid.clamp(0, size - 1)


def _resize(x: Tensor, height: int, width: int, mode: str) -> Tensor:
    for dim, out in ((-2, height), (-1, width)):
        size = x.shape[dim]
        if out < 1:
            raise ValueError(f"target size {out}, must be positive")
        if out == size and mode != "OFFSET_CORNERS":
            continue  # every sample lies on its pixel
        grid = _positions(size, out, mode)
        low = grid.floor().long().clamp(max=max(size - 2, 0))
        weight = (grid - low).to(x.dtype)
        if dim == -2:
            weight = weight[:, None]
        x = torch.lerp(x.index_select(dim, low), x.index_select(dim, (low + 1).clamp(max=size - 1)), weight)
    return x


# ---- normalisation


def batch_norm(
    *,
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: Tensor | None = None,
) -> Tensor:
    return F.batch_norm(x, mean, variance, gamma, beta, eps=float(epsilon) if epsilon is not None else 1e-5)


def instance_norm(*, x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: Tensor | None = None) -> Tensor:
    eps = float(epsilon) if epsilon is not None else 1e-5
    return F.instance_norm(x, weight=gamma, bias=beta, eps=eps)
