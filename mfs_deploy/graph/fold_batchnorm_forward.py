"""Fold a BatchNorm into the convolution after it: w' = w * s, b' = b + the sum of w * t, with s and t as in ``norm_constants``.

Also through a bilinear resize and a reflecting pad between them: their pixels are means of pixels with weights that sum to one, so
scale and shift pass through.  Never into a convolution that pads with zeros: the zeros are added after the normalisation, so fewer
inputs carry the shift at the border, and no single bias is right for border and inside.

Bound: float32 rounding of the folded weights (folded in float64, stored in float32).
"""

from __future__ import annotations

from torch import fx, nn

from mfs_deploy.graph.trace import (
    is_reflecting_pad,
    is_resize,
    module_of,
    norm_constants,
    only_user,
)


def apply(graph: fx.GraphModule) -> int:
    folded = 0
    for node in list(graph.graph.nodes):
        norm = module_of(graph, node, nn.BatchNorm2d)
        reader = only_user(node)
        while is_resize(reader) or is_reflecting_pad(reader):
            reader = only_user(reader)
        conv = module_of(graph, reader, nn.Conv2d)
        if norm is None or conv is None or conv.padding != (0, 0) or conv.groups != 1:
            continue
        scale, shift = norm_constants(norm)
        bias = 0.0 if conv.bias is None else conv.bias.double()
        conv.bias = nn.Parameter((bias + (conv.weight.double() * shift[:, None, None]).sum(dim=(1, 2, 3))).float())
        conv.weight = nn.Parameter((conv.weight.double() * scale[:, None, None]).float())
        node.replace_all_uses_with(node.args[0])
        graph.graph.erase_node(node)
        folded += 1
    return folded
