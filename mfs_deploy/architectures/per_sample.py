"""Convolutions whose every sample has weights of its own, as training a weight predictor needs them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def pointwise(x: Tensor, weights: Tensor) -> Tensor:
    """1x1 convolution of (N, C, H, W) with (N, O, C, 1, 1)."""
    n, _, h, w = x.shape
    return torch.bmm(weights.flatten(2), x.flatten(2)).reshape(n, -1, h, w)


def depthwise(x: Tensor, kernels: Tensor, *, stride: int) -> Tensor:
    """Depthwise convolution, padding 1, of (N, C, H, W) with (N, C, k, k); H and W are multiples of ``stride``."""
    y: Tensor = _Depthwise.apply(x, kernels, stride)  # type: ignore[no-untyped-call]
    return y


class _Depthwise(torch.autograd.Function):
    """One grouped convolution forward; backward by two more, since autograd's own is three times slower on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, kernels)
        ctx.stride = stride
        n, c, h, w = x.shape
        k = kernels.shape[-1]
        y = F.conv2d(x.reshape(1, n * c, h, w), kernels.reshape(n * c, 1, k, k), stride=stride, padding=1, groups=n * c)
        return y.reshape(n, c, *y.shape[2:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, kernels = ctx.saved_tensors
        n, c, h, w = x.shape
        k = kernels.shape[-1]
        (above,) = gradients
        one = above.reshape(1, n * c, *above.shape[2:])
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = F.conv_transpose2d(one, kernels.reshape(n * c, 1, k, k), stride=ctx.stride, padding=1, groups=n * c)
            of_x = of_x.reshape(x.shape)
        # A kernel's gradient is the correlation of what went in with what comes back, at the forward stride's spacing.
        padded = F.pad(x, (1, 1, 1, 1)).reshape(1, n * c, h + 2, w + 2)
        of_kernels = F.conv2d(padded, one.transpose(0, 1), dilation=ctx.stride, groups=n * c)
        return of_x, of_kernels[..., :k, :k].reshape(kernels.shape), None
