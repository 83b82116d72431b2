"""Replace a BatchNorm that cannot be folded into a convolution by a depthwise 1x1 convolution: one multiply-add a channel.

Every runtime has that operation in every number format, and fuses an activation into it.  Bound: float32 rounding of scale and
shift (computed in float64).
"""

from __future__ import annotations

import torch
from torch import fx, nn

from mfs_deploy.graph.trace import module_of, norm_constants


def apply(graph: fx.GraphModule) -> int:
    rewritten = 0
    for node in list(graph.graph.nodes):
        norm = module_of(graph, node, nn.BatchNorm2d)
        if norm is None:
            continue
        scale, shift = norm_constants(norm)
        conv = nn.Conv2d(norm.num_features, norm.num_features, 1, groups=norm.num_features)
        with torch.no_grad():
            conv.weight.copy_(scale[:, None, None, None])
            conv.bias.copy_(shift)  # type: ignore[union-attr]
        graph.set_submodule(str(node.target), conv.eval())
        rewritten += 1
    return rewritten
