"""Replace (1 + tanh z) / 2 by sigmoid(2 z), and fold the 2 into the convolution that gives z.

Bound: the doubling is exact; what remains is the rounding of two different transcendental functions, about 1e-7.
"""

from __future__ import annotations

import torch
from torch import fx, nn

from mfs_deploy.graph.trace import (
    ADD,
    DIV,
    is_call,
    module_of,
    only_user,
)


def apply(graph: fx.GraphModule) -> int:
    rewritten = 0
    for node in list(graph.graph.nodes):
        if not (is_call(node, *DIV) and node.args[1] == 2 and is_call(node.args[0], *ADD)):
            continue
        terms = node.args[0].args
        if 1 not in terms:
            continue
        tanh = terms[1] if terms[0] == 1 else terms[0]
        if not is_call(tanh, torch.tanh):
            continue
        source = tanh.args[0]
        conv = module_of(graph, source, nn.Conv2d)
        if conv is None or only_user(source) is not tanh or only_user(tanh) is not node.args[0]:
            continue
        conv.weight = nn.Parameter(conv.weight * 2)
        if conv.bias is not None:
            conv.bias = nn.Parameter(conv.bias * 2)
        with graph.graph.inserting_before(node):
            sigmoid = graph.graph.call_function(torch.sigmoid, (source,))
        node.replace_all_uses_with(sigmoid)
        graph.graph.eliminate_dead_code()
        rewritten += 1
    return rewritten
