"""Weights and values inside a TFLite artifact.  See ``base.Layered``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mfs_deploy.backends.base import (
    Array,
    ConvWeights,
    check_target,
    differences,
    threads,
)
from mfs_deploy.backends.tflite import model as tfl
from mfs_deploy.backends.tflite import runner as tflite
from mfs_deploy.backends.tflite.blocks import blocks, joined
from mfs_deploy.backends.tflite.describe import stored
from mfs_deploy.contract import Contract
from mfs_deploy.quant.scales import Scale


def weights(path: Path) -> ConvWeights:
    _, model = tflite.read(path)
    origin, made_of = stored(model), blocks(model)
    found: ConvWeights = {}
    for kind, operator in tfl.weighted(model):
        made, bias = int(operator.outputs[0]), int(operator.inputs[tfl.BIAS[kind]])
        name = tfl.text(model.subgraphs[0].tensors[made_of.get(made, made)].name)
        weight, added = (
            _floats(model, origin[int(operator.inputs[tfl.FILTER])]),
            None if bias == -1 else _floats(model, origin[bias]),
        )
        if made in made_of:
            weight, added = joined(weight), None if added is None else joined(added)
        if weight.ndim == 4:
            weight = weight.transpose((3, 0, 1, 2) if kind == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2))  # IHWO or OHWI to OIHW
        found[name] = np.ascontiguousarray(weight), added
    return found


def values(path: Path, contract: Contract, target: Array) -> dict[str, Array]:
    """Runs a copy of the model in which every computed tensor is an output."""
    check_target(target, contract)
    _, model = tflite.read(path)
    graph = model.subgraphs[0]
    constants = stored(model)
    graph.outputs = np.array(
        [int(o.outputs[0]) for o in graph.operators if constants[int(o.outputs[0])] == int(o.outputs[0])], np.int32
    )
    model.signatureDefs = []
    interpreter = _fed(model, target)
    interpreter.invoke()
    found = {}
    for entry in interpreter.get_output_details():
        value, tensor = interpreter.get_tensor(entry["index"]), graph.tensors[entry["index"]]
        floats = value if value.dtype == np.float32 else _scale(tensor).read(value)
        found[tfl.text(tensor.name)] = np.ascontiguousarray(floats.transpose(0, 3, 1, 2))
    return found


def _scale(tensor: Any) -> Scale:
    steps, zeros = tfl.scales(tensor)
    return Scale(tfl.dtype(tensor), steps[0], zeros[0])


def _floats(model: tfl.Model, index: int) -> Array:
    """A constant as floats; integers times their scales, one each along the tensor's own axis."""
    values, tensor = tfl.values(model, index), model.subgraphs[0].tensors[index]
    assert values is not None
    steps, _ = tfl.scales(tensor)
    if not steps:
        return values.astype(np.float32)
    along = [1] * values.ndim
    along[tensor.quantization.quantizedDimension if len(steps) > 1 else 0] = len(steps)
    return (values * np.array(steps, np.float64).reshape(along)).astype(np.float32)


def sections(path: Path, contract: Contract, target: Array) -> Iterator[tuple[str, Callable[[], object]]]:
    """Networks that each have one operator more than the one before; their unread values are their outputs."""
    check_target(target, contract)
    _, model = tflite.read(path)
    graph = model.subgraphs[0]
    operators, constants, within, model.signatureDefs = list(graph.operators), stored(model), blocks(model), []
    for end in range(1, len(operators) + 1):
        graph.operators = operators[:end]
        made = [int(i) for operator in graph.operators for i in operator.outputs]
        last = made[-1]
        if constants[last] != last or last in within:
            continue  # weights being unpacked, once and not for every frame; or half of a layer
        read = {int(i) for operator in graph.operators for i in operator.inputs}
        graph.outputs = np.array([i for i in made if i not in read and constants[i] == i], np.int32)
        interpreter = _fed(model, target)
        interpreter.invoke()
        yield tfl.text(graph.tensors[last].name), interpreter.invoke


layer_costs = differences


def _fed(model: tfl.Model, target: Array) -> Any:
    """An interpreter with one frame as its input."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=tfl.write(model), num_threads=threads())
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    frame = np.ascontiguousarray(target.transpose(0, 2, 3, 1))
    is_integer = entry["dtype"] != np.float32
    interpreter.set_tensor(entry["index"], _scale(model.subgraphs[0].tensors[entry["index"]]).store(frame) if is_integer else frame)
    return interpreter
