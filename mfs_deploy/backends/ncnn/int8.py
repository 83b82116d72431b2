"""int8 convolutions as ncnn's own tool ``ncnn2int8`` writes them, which is not in the wheel.

A scale is 127 over the largest absolute value, so that ``integer = round(value * scale)``, halves away from zero, within +-127;
there is no zero point.  A convolution multiplies integers and divides the sum by both scales; bias and activation are in float.
The output is float, or int8 again where only int8 convolutions read it: their input has one scale, so the numbers are the same as
if they had rounded it themselves.  All other layers compute in floats.

Source: ncnn 1.0.20261020, https://github.com/Tencent/ncnn: ``forward_int8`` in src/layer/convolution.cpp and
convolutiondepthwise.cpp.  Its x86 kernel for depthwise layers whose channels are a multiple of 8 divides by ``rcpps``, which is off
by up to 4e-4 of the value; arm64 divides exactly.
How far int8 is from torch, and where that comes from: tests/backends/ncnn/test_int8.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.backends.ncnn.files import NcnnLayer, NcnnWeights, TaggedArray
from mfs_deploy.backends.ncnn.operations import CONVOLUTIONS, INT8, REQUANTIZED
from mfs_deploy.backends.ncnn.weights import scale, to_int8
from mfs_deploy.contract import FLOAT16_HEADROOM, FLOAT16_MAX
from mfs_deploy.errors import CalibrationError

if TYPE_CHECKING:
    from torch import fx

    from mfs_deploy.quant.recipes import Format, Range

FORMS = {"Convolution": 2, "ConvolutionDepthWise": 1}  # parameter 8 as ncnn's own tool writes it: a scale per channel or group


def inputs(graph: fx.GraphModule, formats: Mapping[str, Format], ranges: Mapping[str, Range]) -> dict[str, float]:
    """The largest absolute value that each int8 convolution of ``graph`` reads, by node name.

    Raises:
        CalibrationError: the input of one of them has no range.
    """
    found = {}
    for node in graph.graph.nodes:
        if node.op == "call_module" and formats[node.name].activations == "int8":
            source = node.all_input_nodes[0].name
            if source not in ranges:
                raise CalibrationError(f"{node.name} is to read int8, and the range of {source} is not known")
            found[node.name] = ranges[source].largest
    return found


def beyond_float16(graph: fx.GraphModule, ranges: Mapping[str, Range]) -> set[str]:
    """Operations whose range overflows float16: around int8, ncnn on arm64 computes in float16 by default."""
    large = {name for name, seen in ranges.items() if seen.largest * FLOAT16_HEADROOM > FLOAT16_MAX}
    return {
        node.name
        for node in graph.graph.nodes
        if node.op.startswith("call") and not large.isdisjoint((node.name, *(n.name for n in node.all_input_nodes)))
    }


def quantize(
    layers: tuple[NcnnLayer, ...], weights: NcnnWeights, largest: Mapping[str, float], floating: Set[str]
) -> tuple[tuple[NcnnLayer, ...], NcnnWeights]:
    """Make the convolutions named in ``largest`` int8; ``weights`` are float32.

    Args:
        largest: largest absolute input of each of them.
        floating: layers between which values must stay float.
    """
    weights = dict(weights)
    out = []
    for layer in layers:
        if layer.name in largest:
            followers = _readers(layer.outputs[0], layers)
            stays = bool(followers) and all(f.name in largest and f.name not in floating for f in (layer, *followers))
            scales = [scale(largest[layer.name])]
            if stays:
                scales.append(scale(largest[followers[0].name]))  # all of them read the same values
            weight, *bias = weights[layer.name]
            integers, per_channel = _rounded(layer, weight.values)
            weights[layer.name] = (
                TaggedArray(integers, True),
                *bias,
                *(TaggedArray(np.atleast_1d(s).astype(np.float32), False) for s in (per_channel, *scales)),
            )
            layer = replace(layer, params={**layer.params, INT8: str(FORMS[layer.type] + REQUANTIZED * stays)})
        out.append(layer)
    return tuple(out), weights


def _readers(blob: str, layers: tuple[NcnnLayer, ...]) -> list[NcnnLayer]:
    """The layers that read a blob, whichever copy of it.  Empty where a copy is an output of the network."""
    found = []
    for layer in layers:
        if blob not in layer.inputs:
            continue
        behind = [_readers(copy, layers) for copy in layer.outputs] if layer.type == "Split" else [[layer]]
        if not all(behind):
            return []
        found += [reader for readers in behind for reader in readers]
    return found


def _rounded(layer: NcnnLayer, values: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights as integers, and the scale of each output channel, or of each group where there are groups."""
    assert layer.type in CONVOLUTIONS
    rows = layer.integer(7, 1) if layer.type == "ConvolutionDepthWise" else layer.integer(0)
    integers, scales = to_int8(values.reshape(rows, -1))
    return integers.ravel(), scales
