"""Move a 1x1 convolution from after a bilinear resize to before it, where it has a quarter of the pixels.

Each resized pixel is a mean with weights that sum to one, so weights and bias both pass through.  Only if the convolution does not
have more outputs than inputs, since the resize would cost more.  Bound: float32 rounding.
"""

from __future__ import annotations

from torch import fx, nn

from mfs_deploy.graph.trace import is_resize, module_of


def apply(graph: fx.GraphModule) -> int:
    moved = 0
    for node in list(graph.graph.nodes):
        conv = module_of(graph, node, nn.Conv2d)
        if conv is None or not _pointwise(conv) or not is_resize(node.args[0]):
            continue
        resize = node.args[0]
        with graph.graph.inserting_before(node):
            first = graph.graph.call_module(str(node.target), resize.args)
            then = graph.graph.call_function(resize.target, (first, *resize.args[1:]), dict(resize.kwargs))
        node.replace_all_uses_with(then)
        graph.graph.erase_node(node)
        graph.graph.eliminate_dead_code()
        moved += 1
    return moved


def _pointwise(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == (1, 1)
        and conv.stride == (1, 1)
        and conv.padding == (0, 0)
        and conv.groups == 1
        and conv.out_channels <= conv.in_channels
    )
