"""Exact rewrites that reduce ncnn's instructions, and the choice of convolutions that are cheaper in int8.

ncnn on arm64 computes eight float16 channels at once; layers with two or three take scalar kernels, which at full size cost more
than the rest of the network.  Instructions a frame, Cortex-A76, of MobileFaceSwap at 224 in float16: see benchmarks/README.md.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mfs_deploy.quant.recipes import Format

if TYPE_CHECKING:
    from torch import fx

    from mfs_deploy.backends.base import Conversion

Formats = dict[str, Format]
INT8_CHANNELS = 16  # with fewer, in or out, an int8 convolution takes more instructions than one in float16
FLOAT16 = Format("float16", "float16")


def rewritten(job: Conversion) -> tuple[fx.GraphModule, Formats]:
    """A rewritten copy of the job's graph, and the formats of its nodes.

    A recipe's default of int8 holds only where it is cheaper; a layer or kind that the recipe sets to int8 is always int8.
    """
    from mfs_deploy.graph.operation_kinds import kinds
    from mfs_deploy.graph.trace import is_part

    graph, formats = copy.deepcopy(job.graph), job.formats
    kind_of = kinds(graph)
    for node in graph.graph.nodes:
        asked = node.name in job.recipe.layers or kind_of.get(node.name) in job.recipe.operations
        if node.name in formats and formats[node.name].is_static and not asked and not _is_cheaper_in_int8(graph, node):
            formats[node.name] = FLOAT16
    rewrite(graph, lambda nodes: len(given := {formats[node.name] for node in nodes}) == 1 and not given.pop().is_static)
    found: Formats = {}
    for node in reversed(graph.graph.nodes):
        if node.op.startswith("call"):  # a new node has the format of its reader
            found[node.name] = formats.get(node.name) or next(found[user.name] for user in node.users if user.name in found)
    return graph, {node.name: found[node.name] for node in graph.graph.nodes if node.name in found and not is_part(node)}


def rewrite(graph: fx.GraphModule, allowed: Callable[[Sequence[fx.Node]], bool]) -> None:
    """Apply the rewrites in place, each only to nodes for which ``allowed`` is true."""
    from mfs_deploy.graph import merge_output_branches, pad_even_kernels, pad_input_channels

    for apply in (pad_input_channels.apply, pad_even_kernels.apply, merge_output_branches.apply):
        apply(graph, allowed)


def _is_cheaper_in_int8(graph: fx.GraphModule, node: fx.Node) -> bool:
    """True for matrix products.  Depthwise convolutions are not cheaper, and ncnn has all other operations in floats only."""
    from torch import nn

    from mfs_deploy.graph.trace import module_of

    conv = module_of(graph, node, nn.Conv2d)
    return conv is not None and conv.groups == 1 and min(conv.in_channels, conv.out_channels) >= INT8_CHANNELS
