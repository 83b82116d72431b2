"""Compute resizes of the same tensor to the same size once.  Bound: exact."""

from __future__ import annotations

from torch import fx

from mfs_deploy.graph.trace import is_resize


def apply(graph: fx.GraphModule) -> int:
    first: dict[object, fx.Node] = {}
    shared = 0
    for node in list(graph.graph.nodes):
        if not is_resize(node):
            continue
        key = (node.args, tuple(sorted(node.kwargs.items())))
        if key in first:
            node.replace_all_uses_with(first[key])
            graph.graph.erase_node(node)
            shared += 1
        else:
            first[key] = node
    return shared
