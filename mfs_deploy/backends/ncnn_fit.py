"""A graph as ncnn runs it in the fewest instructions: exact rewrites that other runtimes do not need, and where int8 pays.

ncnn on arm64 computes eight float16 channels at once; layers with two or three take scalar kernels, which at full size cost more
than the rest of the network.  Instructions a frame, Cortex-A76, of MobileFaceSwap at 224 in float16: see benchmarks/README.md.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mfs_deploy.quant.recipe import Format

if TYPE_CHECKING:
    from torch import fx, nn

Formats = dict[str, Format]
INT8_CHANNELS = 16  # with fewer, in or out, an int8 convolution takes more instructions than one in float16
FLOAT16 = Format("float16", "float16")


def fit(graph: fx.GraphModule, formats: Mapping[str, Format]) -> tuple[fx.GraphModule, Formats]:
    """A rewritten copy of a simplified graph, and the formats of its nodes."""
    from mfs_deploy.graph import merge_tails

    graph, formats = copy.deepcopy(graph), dict(formats)
    for node in graph.graph.nodes:
        if node.op == "call_module" and formats[node.name].is_static and not _pays(graph.get_submodule(str(node.target))):
            formats[node.name] = FLOAT16
    tails = merge_tails.find(graph)
    alike = {formats[node.name] for tail in tails for node in tail.nodes}
    if len(alike) == 1:
        (wanted,) = alike
        merge_tails.apply(graph)
        formats = {node.name: formats.get(node.name, wanted) for node in graph.graph.nodes if node.op.startswith("call")}
    return graph, formats


def _pays(conv: nn.Module) -> bool:
    """Whether an int8 kernel costs less than the float16 one: for products of matrices, and never channel by channel."""
    return conv.groups == 1 and min(conv.in_channels, conv.out_channels) >= INT8_CHANNELS  # type: ignore[operator, arg-type, call-overload]
