"""Feature masks: per-layer switches of ncnn that turn float16 off, where values overflow or a kernel is wrong.

See https://github.com/Tencent/ncnn/issues/4273.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from mfs_deploy.backends.ncnn import operations
from mfs_deploy.backends.ncnn.files import NcnnLayer

FLOAT16_ARITHMETIC = 1  # bit of the mask that turns it off


def keep_float32(layers: tuple[NcnnLayer, ...], names: Iterable[str]) -> tuple[NcnnLayer, ...]:
    """Make ncnn compute the layers called ``names`` in float32, and keep the values between two of them in float32.

    ``31=3`` turns off float16 arithmetic (bit 0) and float16 blobs (bit 1) for one layer (``get_masked_option`` in ncnn's
    src/net.cpp).  Bit 1 also turns off the cast of a float16 input: on arm64 the layer then reads half floats as floats and gives
    NaN (ncnn 1.0.20261020).  So a Dropout with factor 1 is put before it.  ncnn has no float16 kernel for Dropout, so it casts the
    input to float32, and the factor changes nothing.  A Split between two such layers is masked too.
    On x86 ncnn computes in float32, so these masks change no bit there.
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


# ---- layers that a released ncnn computes wrongly, recognised in any network's graph by type, parameters and shape


@dataclass(frozen=True)
class Bug:
    """``versions`` of ncnn that have it; ``affects`` tells whether a layer with this output shape is computed wrongly."""

    name: str
    versions: str
    affects: Callable[[NcnnLayer, operations.Shape], bool]


def _is_wide_stride_2(layer: NcnnLayer, output: operations.Shape) -> bool:
    """Kernel 3x3, stride 2, channels packed by eight, and an output whose last two columns are computed together."""
    channels, _, width = output
    if layer.type != "ConvolutionDepthWise" or layer.integer(7, 1) != channels or layer.integer(operations.INT8):
        return False
    kernel, stride, dilation, _ = operations.geometry(layer)
    return (kernel, stride, dilation) == ((3, 3), (2, 2), (1, 1)) and channels % 8 == 0 and width % 4 in (2, 3)


BUGS = (
    # The kernel for two columns loads two of its nine inputs, r14 and r24, from the row of r04.  Delete this once it is fixed:
    # https://github.com/Tencent/ncnn/blob/52f71e01fde59b65f104a2589d05b37656870968/src/layer/arm/convolutiondepthwise_3x3_pack8_fp16s.h
    Bug("float16 depthwise 3x3 with stride 2: one column is wrong", "2024-08 to 2026-10, arm64", _is_wide_stride_2),
)


def work_round(layers: tuple[NcnnLayer, ...]) -> tuple[NcnnLayer, ...]:
    """``layers`` without float16 arithmetic where a bug affects them; all of these bugs are in float16 kernels."""
    shapes = operations.shapes(layers)
    return tuple(_masked(x) if any(bug.affects(x, shapes[x.outputs[0]]) for bug in BUGS) else x for x in layers)


def _masked(layer: NcnnLayer) -> NcnnLayer:
    mask = layer.integer(operations.FEATURE_MASK) | FLOAT16_ARITHMETIC
    return replace(layer, params={**layer.params, operations.FEATURE_MASK: str(mask)})
