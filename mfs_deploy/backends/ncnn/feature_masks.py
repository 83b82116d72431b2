"""Feature masks, by which an ncnn layer says what of float16 it does without: for its range, or because a kernel is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from mfs_deploy.backends.ncnn import operations
from mfs_deploy.backends.ncnn.files import NcnnLayer

FLOAT16_ARITHMETIC = 1  # bit of the mask that turns it off


def keep_float32(layers: tuple[NcnnLayer, ...], names: Iterable[str]) -> tuple[NcnnLayer, ...]:
    """Make ncnn compute the layers called ``names`` in float32, and keep what passes between two of them in float32.

    ``31=3`` turns off float16 arithmetic (bit 0) and float16 blobs (bit 1) for one layer (ncnn: ``get_masked_option`` in
    src/net.cpp).  Bit 1 also turns off the cast of a float16 blob that comes in: on arm64 such a layer then reads half floats as
    floats and gives NaN (seen with 1.0.20261020).  So a Dropout with factor 1, for which ncnn has no float16 kernel, stands before
    it: without a mask of its own it is cast to float32 and otherwise does nothing.  A Split between two such layers is masked too.
    On x86 none of this changes a bit, as ncnn computes in float32 there.
    """
    names = set(names)
    readers = {blob: layer.name for layer in layers for blob in layer.inputs}
    float32: set[str] = set()  # blobs
    out: list[NcnnLayer] = []
    for layer in layers:
        if layer.type == "Input":
            float32 |= set(layer.outputs)
        passes_on = layer.type == "Split" and layer.inputs[0] in float32 and any(readers.get(b) in names for b in layer.outputs)
        if layer.name in names or passes_on:
            for blob in layer.inputs:
                if blob not in float32:
                    out.append(NcnnLayer("Dropout", f"{blob}_to_float32", (blob,), (f"{blob}_float32",), {}))
            inputs = tuple(b if b in float32 else f"{b}_float32" for b in layer.inputs)
            layer = replace(layer, inputs=inputs, params={**layer.params, operations.FEATURE_MASK: "3"})
            float32 |= set(layer.outputs)
        out.append(layer)
    return tuple(out)


# --- layers that a released ncnn computes wrongly: known by what they are, so found in any network's graph


@dataclass(frozen=True)
class Bug:
    """``seen``: versions of ncnn that have it; ``meets`` whether a layer with this output shape does."""

    name: str
    seen: str
    meets: Callable[[NcnnLayer, operations.Shape], bool]


def _is_wide_stride_2(layer: NcnnLayer, output: operations.Shape) -> bool:
    """Kernel 3x3, stride 2, channels packed by eight, and an output whose last two columns are computed together."""
    channels, _, width = output
    if layer.type != "ConvolutionDepthWise" or layer.integer(7, 1) != channels or layer.integer(operations.INT8):
        return False
    kernel, stride, dilation, _ = operations.geometry(layer)
    return (kernel, stride, dilation) == ((3, 3), (2, 2), (1, 1)) and channels % 8 == 0 and width % 4 in (2, 3)


BUGS = (
    # The kernel for two columns reads two of its nine taps in the wrong row (convolutiondepthwise_3x3_pack8_fp16s.h).
    Bug("float16 depthwise 3x3 with stride 2: one column is wrong", "2024-08 to 2026-10, arm64", _is_wide_stride_2),
)


def work_round(layers: tuple[NcnnLayer, ...]) -> tuple[NcnnLayer, ...]:
    """``layers`` with float16 arithmetic turned off where it would be wrong; all of these bugs are in float16 kernels."""
    shapes = operations.shapes(layers)
    return tuple(_masked(x) if any(bug.meets(x, shapes[x.outputs[0]]) for bug in BUGS) else x for x in layers)


def _masked(layer: NcnnLayer) -> NcnnLayer:
    mask = layer.integer(operations.FEATURE_MASK) | FLOAT16_ARITHMETIC
    return replace(layer, params={**layer.params, operations.FEATURE_MASK: str(mask)})
