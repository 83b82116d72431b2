"""Fold a BatchNorm into the convolution before it: w' = w * s, b' = b * s + t, with s and t as in ``norm_constants``.

Bound: float32 rounding of the folded weights (folded in float64, stored in float32).
"""

from __future__ import annotations

from torch import fx, nn

from mfs_deploy.graph.trace import module_of, norm_constants, only_user


def apply(graph: fx.GraphModule) -> int:
    folded = 0
    for node in list(graph.graph.nodes):
        norm = module_of(graph, node, nn.BatchNorm2d)
        source = node.args[0] if norm is not None else None
        conv = module_of(graph, source, nn.Conv2d)
        if not isinstance(source, fx.Node) or norm is None or conv is None or only_user(source) is not node:
            continue
        assert isinstance(node, fx.Node)
        scale, shift = norm_constants(norm)
        bias = 0.0 if conv.bias is None else conv.bias.double() * scale
        conv.weight = nn.Parameter((conv.weight.double() * scale[:, None, None, None]).float())
        conv.bias = nn.Parameter((bias + shift).float())
        node.replace_all_uses_with(source)
        graph.graph.erase_node(node)
        folded += 1
    return folded
