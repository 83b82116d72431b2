"""Pad the kernel of a depthwise 4x4 convolution with stride 2 to 5x5 by a row and a column of zeros.

Not among ``graph.REWRITES``: for runtimes that have a fast kernel for 5x5 and none for 4x4; a backend says where it is ``allowed``.
Bound: exact, except for the order in which zeros and terms are added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import fx, nn

from mfs_deploy.graph.trace import module_of

PACK = 8  # with fewer channels the runtime has no kernel for 5x5 either


def apply(graph: fx.GraphModule, allowed: Callable[[Sequence[fx.Node]], bool] = bool) -> int:
    rewritten = 0
    for node in graph.graph.nodes:
        conv = module_of(graph, node, nn.Conv2d)
        if (
            conv is None
            or conv.in_channels % PACK
            or conv.groups != conv.in_channels
            or conv.kernel_size != (4, 4)
            or conv.stride != (2, 2)
            or conv.padding != (1, 1)
        ):
            continue
        if not allowed((node,)):
            continue
        odd = nn.Conv2d(conv.in_channels, conv.out_channels, 5, stride=2, padding=2, groups=conv.groups, bias=conv.bias is not None)
        with torch.no_grad():
            odd.weight.copy_(nn.functional.pad(conv.weight, (1, 0, 1, 0)))
            if conv.bias is not None and odd.bias is not None:
                odd.bias.copy_(conv.bias)
        graph.set_submodule(str(node.target), odd.eval())
        rewritten += 1
    return rewritten
