"""Weights of a TFLite model in fewer bytes, each behind a DEQUANTIZE operator; arithmetic stays in floats.

TensorFlow's float16 and weight-only conversions write the same, and delegates know it: XNNPACK unpacks such weights once, when the
model is opened.  Biases stay in float32.  ``ai_edge_quantizer`` writes it too, but moves weights behind the FlatBuffer's end, where
older runtimes do not look, and turns weights beyond float16's range into infinity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.backends.tflite import edit
from mfs_deploy.backends.tflite import model as tfl
from mfs_deploy.contract import FLOAT16_MAX
from mfs_deploy.errors import ConversionError
from mfs_deploy.quant.scales import weights_to_int8

CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}  # of OHWI, 1HWO and OI
DEQUANTIZE_FLOAT16, DEQUANTIZE_CHANNELS = 3, 5  # versions that brought them, as in ``quantize``


def shrink(model: tfl.Model, operators: Mapping[str, tfl.Operator], dtypes: Mapping[str, str]) -> None:
    """Store weights in "float16" or "int8".

    Args:
        dtypes: by name of node; other nodes keep their weights.

    Raises:
        ConversionError: a weight beyond float16's 65504.
    """
    graph = model.subgraphs[0]
    wanted = {id(operators[name]): dtype for name, dtype in dtypes.items()}
    converted: dict[tuple[int, str], int] = {}
    changed = []
    for operator in graph.operators:
        kind, dtype = tfl.kind(model, operator), wanted.get(id(operator))
        if dtype is not None and kind in tfl.WEIGHTED:
            source = int(operator.inputs[tfl.FILTER])
            if (source, dtype) not in converted:
                changed.append(_behind_dequantize(model, kind, source, dtype))
                converted[source, dtype] = int(changed[-1].outputs[0])
            operator.inputs[tfl.FILTER] = converted[source, dtype]
        changed.append(operator)
    graph.operators = changed


def _behind_dequantize(model: tfl.Model, kind: str, source: int, dtype: str) -> tfl.Operator:
    """The operator that unpacks weights stored in ``dtype`` to a float32 tensor."""
    weights, tensor = tfl.values(model, source), model.subgraphs[0].tensors[source]
    assert weights is not None
    name = tfl.text(tensor.name)
    result = edit.add_tensor(model, f"{name}_float32", "float32", weights.shape)
    if dtype == "float16":
        stored = edit.add_constant(model, name, _half(name, weights))
    else:
        integers, steps = weights_to_int8(weights, CHANNEL_AXIS[kind])
        stored = edit.add_constant(model, name, integers)
        edit.set_scales(model, stored, steps, axis=CHANNEL_AXIS[kind])
    version = DEQUANTIZE_FLOAT16 if dtype == "float16" else DEQUANTIZE_CHANNELS
    return edit.operator(model, "DEQUANTIZE", version, stored, result)


def _half(name: str, weights: NDArray[Any]) -> NDArray[np.float16]:
    largest = float(np.abs(weights).max(initial=0))
    if largest > FLOAT16_MAX:
        raise ConversionError(
            f"{name} holds {largest:.6g}, beyond float16's 65504", hint="keep its layer in float32, or use the recipe fp32"
        )
    return weights.astype(np.float16)
