"""Layers that a released ncnn computes wrongly, and what to write into ``.param`` so that it does not.

Each is known by what the layer is, so it is found in any graph, whichever network that came from.  ``tests/arm64`` shows each
one wrong without its remedy and right with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mfs_deploy.backends import ncnn_graph
from mfs_deploy.backends.ncnn_format import Layer

FLOAT16_ARITHMETIC = 1  # bit of the feature mask that turns it off (ncnn: get_masked_option in src/net.cpp)


@dataclass(frozen=True)
class Bug:
    """``seen``: versions of ncnn that have it; ``meets`` whether a layer with this output shape does."""

    name: str
    seen: str
    meets: Callable[[Layer, ncnn_graph.Shape], bool]


def _is_wide_stride_2(layer: Layer, output: ncnn_graph.Shape) -> bool:
    """Kernel 3x3, stride 2, channels packed by eight, and an output whose last two columns are computed together."""
    channels, _, width = output
    if layer.type != "ConvolutionDepthWise" or layer.integer(7, 1) != channels or layer.integer(ncnn_graph.INT8):
        return False
    kernel, stride, dilation, _ = ncnn_graph.geometry(layer)
    return (kernel, stride, dilation) == ((3, 3), (2, 2), (1, 1)) and channels % 8 == 0 and width % 4 in (2, 3)


BUGS = (
    # The kernel for two columns reads two of its nine taps in the wrong row (convolutiondepthwise_3x3_pack8_fp16s.h).
    Bug("float16 depthwise 3x3 with stride 2: one column is wrong", "2024-08 to 2026-10, arm64", _is_wide_stride_2),
)


def work_round(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """``layers`` with float16 arithmetic turned off where it would be wrong; all of these bugs are in float16 kernels."""
    shapes = ncnn_graph.shapes(layers)
    return tuple(_masked(x) if any(bug.meets(x, shapes[x.outputs[0]]) for bug in BUGS) else x for x in layers)


def _masked(layer: Layer) -> Layer:
    mask = layer.integer(ncnn_graph.FEATURE_MASK) | FLOAT16_ARITHMETIC
    return replace(layer, params={**layer.params, ncnn_graph.FEATURE_MASK: str(mask)})
