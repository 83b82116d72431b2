"""Drop biases that are all zero.  Bound: exact."""

from __future__ import annotations

import torch
from torch import fx, nn

from mfs_deploy.graph.trace import module_of


def apply(graph: fx.GraphModule) -> int:
    dropped = 0
    for node in graph.graph.nodes:
        conv = module_of(graph, node, nn.Conv2d)
        if conv is not None and conv.bias is not None and not torch.any(conv.bias):
            conv.bias = None
            dropped += 1
    return dropped
