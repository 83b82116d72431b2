"""Fold the scale of a normalised input, (x - c) / s, into the convolution after it: weights w / s on x - c.

The offset stays before the convolution: its zero padding then still means x = c.  Bound: exact where s is a power of two, as it
is for inputs normalised with 0.5; float32 rounding of the weights otherwise.
"""

from __future__ import annotations

from torch import fx, nn

from mfs_deploy.graph.trace import (
    DIV,
    SUB,
    is_call,
    module_of,
)


def apply(graph: fx.GraphModule) -> int:
    folded = 0
    for node in list(graph.graph.nodes):
        if not (is_call(node, *DIV) and isinstance(node.args[1], (int, float)) and is_call(node.args[0], *SUB)):
            continue
        convs = [module_of(graph, user, nn.Conv2d) for user in node.users]
        if not convs or any(conv is None for conv in convs):
            continue
        for conv in convs:
            conv.weight = nn.Parameter((conv.weight.double() / node.args[1]).float())
        node.replace_all_uses_with(node.args[0])
        graph.graph.erase_node(node)
        folded += 1
    return folded
