"""What TFLite's pass over blocks of pixels makes of a network, in size and work alone."""

from __future__ import annotations

import copy

from torch import fx, nn


def over_blocks(graph: fx.GraphModule) -> fx.GraphModule:
    """A copy in which 3x3 convolutions with up to four outputs have four times those, 4x4 weights and stride 2."""
    graph = copy.deepcopy(graph)
    for name, conv in list(graph.named_modules()):
        if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3) and conv.groups == 1 and conv.out_channels <= 4:
            blocks = nn.Conv2d(conv.in_channels, 4 * conv.out_channels, 4, stride=2, padding=1)
            graph.set_submodule(name, nn.Sequential(blocks, nn.PixelShuffle(2)))
    return fx.symbolic_trace(graph)
