"""Convolutions as one matrix product for a whole batch, for features of a few pixels.

ONNX Runtime takes a batch one sample after another, so a convolution whose weights are larger than its features reads all its
weights from memory for every sample.  Pixels of all samples as rows of one matrix read them once.  Same sums, in another order.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchConv(nn.Module):
    """``conv`` (stride 1, no groups, no dilation) as a product of patches (N * H * W, k * k * C) and weights (k * k * C, O)."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert conv.stride == (1, 1)
        assert conv.groups == 1
        assert conv.dilation == (1, 1)
        assert isinstance(conv.padding, tuple)
        self.kernel, self.padding, self.out_channels = conv.kernel_size, conv.padding, conv.out_channels
        weight = conv.weight.detach().permute(3, 2, 1, 0).reshape(-1, conv.out_channels)
        self.weight = nn.Parameter(weight.contiguous())
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        (high, wide), (top, left) = self.kernel, self.padding
        x = F.pad(x, (left, left, top, top)).permute(0, 2, 3, 1)
        height, width = x.shape[1] - high + 1, x.shape[2] - wide + 1
        rows = torch.cat([x.narrow(1, i, height) for i in range(high)], dim=3)  # in two steps: a third of the slices
        patches = torch.cat([rows.narrow(2, j, width) for j in range(wide)], dim=3)
        y = patches.flatten(0, 2) @ self.weight
        if self.bias is not None:
            y = y + self.bias
        return y.reshape(-1, height, width, self.out_channels).permute(0, 3, 1, 2)


def with_patches(net: nn.Module) -> nn.Module:
    """A copy of a network whose plain convolutions with kernels beyond 1x1 are ``PatchConv``."""
    net = copy.deepcopy(net)
    for parent in list(net.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, nn.Conv2d) and conv.kernel_size != (1, 1) and conv.groups == 1 and conv.stride == (1, 1):
                setattr(parent, name, PatchConv(conv))
    return net
