"""Pad the three channels of the input to eight, five of them zero, before the first depthwise convolution.

    x - c -> depthwise (3) -> 1x1 (3 -> N)   =>   1x1 (3 -> 8), bias -c -> depthwise (8) -> 1x1 (8 -> N)

Not among ``graph.REWRITES``: faster only in a runtime that packs channels by eight and computes three of them one number at a
time; a backend says where it is ``allowed``.  Bound: exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import fx, nn

from mfs_deploy.graph.trace import (
    SUB,
    is_call,
    module_of,
    only_user,
    tidy,
)

WIDTH = 8


def apply(graph: fx.GraphModule, allowed: Callable[[Sequence[fx.Node]], bool] = bool) -> int:
    rewritten = 0
    for node in list(graph.graph.nodes):
        if not is_call(node, *SUB) or not isinstance(node.args[1], (int, float)):
            continue
        first = only_user(node)
        reader = only_user(first)
        depthwise = module_of(graph, first, nn.Conv2d)
        pointwise = module_of(graph, reader, nn.Conv2d)
        if first is None or reader is None or depthwise is None or pointwise is None or not _fits(depthwise, pointwise):
            continue
        if not allowed((node, first, reader)):
            continue
        channels = depthwise.in_channels
        graph.add_submodule("widened", _widening(channels, -float(node.args[1])))
        with graph.graph.inserting_before(node):
            wide = graph.graph.create_node("call_module", "widened", (node.args[0],), name=f"{node.name}_widened")
        node.replace_all_uses_with(wide)
        graph.set_submodule(str(first.target), _padded(depthwise, WIDTH, rows=True))
        graph.set_submodule(str(reader.target), _padded(pointwise, WIDTH, rows=False))
        tidy(graph)
        rewritten += 1
    return rewritten


def _fits(depthwise: nn.Conv2d, pointwise: nn.Conv2d) -> bool:
    narrow = depthwise.in_channels == depthwise.out_channels == depthwise.groups < WIDTH
    return narrow and pointwise.kernel_size == (1, 1) and pointwise.groups == 1 and pointwise.stride == (1, 1)


def _widening(channels: int, bias: float) -> nn.Conv2d:
    conv = nn.Conv2d(channels, WIDTH, 1)
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.zero_()  # type: ignore[union-attr]
        for i in range(channels):
            conv.weight[i, i] = 1
            conv.bias[i] = bias  # type: ignore[index]
    return conv.eval()


def _padded(conv: nn.Conv2d, channels: int, *, rows: bool) -> nn.Conv2d:
    """``conv`` with more channels, whose weights are zero: more outputs of a depthwise one (``rows``), or more inputs."""
    outputs = channels if rows else conv.out_channels
    wide = nn.Conv2d(channels, outputs, conv.kernel_size, conv.stride, conv.padding, groups=channels if rows else 1)  # type: ignore[arg-type]
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[: conv.out_channels, : conv.weight.shape[1]] = conv.weight
        if conv.bias is None:
            wide.bias = None
        else:
            wide.bias.zero_()  # type: ignore[union-attr]
            wide.bias[: conv.out_channels] = conv.bias  # type: ignore[index]
    return wide.eval()
