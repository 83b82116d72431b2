"""Merge a depthwise convolution and the 1x1 convolution after it, if that has few outputs, into one over all channels.

    depthwise 3x3 (C) -> 1x1 (C -> N)   =>   3x3 (C -> N), weights P[n, c] * D[c], bias P b + p

Not among ``graph.REWRITES``: it adds multiply-adds, and is faster only in a runtime that is slow on depthwise convolutions; a
backend says where it is ``allowed``. Bound: exact, except for the order in which terms are multiplied and added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import fx, nn

from mfs_deploy.graph.trace import module_of, only_user, tidy

MAX_OUTPUTS = 2


def apply(graph: fx.GraphModule, allowed: Callable[[Sequence[fx.Node]], bool] = bool) -> int:
    rewritten = 0
    for node in list(graph.graph.nodes):
        depthwise, reader = module_of(graph, node, nn.Conv2d), only_user(node)
        pointwise = module_of(graph, reader, nn.Conv2d)
        if depthwise is None or pointwise is None or reader is None:
            continue
        if not _fits(depthwise, pointwise) or not allowed((node, reader)):
            continue
        graph.set_submodule(str(reader.target), _merged(depthwise, pointwise))
        reader.args = node.args
        tidy(graph)
        rewritten += 1
    return rewritten


def _fits(depthwise: nn.Conv2d, pointwise: nn.Conv2d) -> bool:
    channelwise = depthwise.groups == depthwise.in_channels == depthwise.out_channels > 1 and depthwise.padding_mode == "zeros"
    mixes = pointwise.kernel_size == pointwise.stride == (1, 1) and pointwise.groups == 1 and pointwise.padding == (0, 0)
    return channelwise and mixes and pointwise.out_channels <= MAX_OUTPUTS


def _merged(depthwise: nn.Conv2d, pointwise: nn.Conv2d) -> nn.Conv2d:
    conv = nn.Conv2d(
        depthwise.in_channels,
        pointwise.out_channels,
        depthwise.kernel_size,  # type: ignore[arg-type]
        depthwise.stride,  # type: ignore[arg-type]
        depthwise.padding,  # type: ignore[arg-type]
        depthwise.dilation,  # type: ignore[arg-type]
    )
    with torch.no_grad():
        mix = pointwise.weight[:, :, 0, 0].double()
        conv.weight.copy_(mix[:, :, None, None] * depthwise.weight[:, 0].double())
        bias = torch.zeros(pointwise.out_channels, dtype=torch.float64)
        if depthwise.bias is not None:
            bias += mix @ depthwise.bias.double()
        if pointwise.bias is not None:
            bias += pointwise.bias.double()
        conv.bias.copy_(bias)  # type: ignore[union-attr]
    return conv.eval()
