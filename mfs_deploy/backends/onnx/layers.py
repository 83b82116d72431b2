"""Weights and values inside an ONNX artifact.  See ``base.Layered``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mfs_deploy.backends.base import (
    Array,
    ConvWeights,
    check_target,
    differences,
)
from mfs_deploy.backends.onnx import describe, runner
from mfs_deploy.backends.onnx.backend import KINDS
from mfs_deploy.contract import Contract

if TYPE_CHECKING:
    import onnx


def weights(path: Path) -> ConvWeights:
    graph = describe.load(path).graph
    constants = _constants(graph)
    found: ConvWeights = {}
    for node in graph.node:
        if node.op_type == "Conv":
            weight, *bias = (constants[name] for name in node.input[1:])
            found[node.name] = weight, bias[0] if bias else None
    return found


def _constants(graph: onnx.GraphProto) -> dict[str, Array]:
    """Initializers, and the outputs of their DequantizeLinear and Cast nodes, as floats."""
    from onnx import numpy_helper

    raw = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = dict(raw)
    for node in graph.node:
        if node.input and node.input[0] in found and node.op_type == "Cast":
            found[node.output[0]] = found[node.input[0]]
        if node.input and node.input[0] in raw and node.op_type == "DequantizeLinear":
            integers, steps = raw[node.input[0]], raw[node.input[1]].astype(np.float64)
            along = [1] * integers.ndim
            if steps.ndim:
                along[next((a.i for a in node.attribute if a.name == "axis"), 1)] = steps.size
            found[node.output[0]] = integers * steps.reshape(along)
    return {name: value.astype(np.float32) for name, value in found.items()}


def values(path: Path, contract: Contract, target: Array) -> dict[str, Array]:
    """Runs a copy of the model in which every node's value is an output."""
    check_target(target, contract)
    model = describe.load(path)
    graph = model.graph
    infos = {value.name: value for value in graph.value_info}
    named = [(node.name, node.output[0]) for node in graph.node if node.op_type in KINDS]
    outputs = {value.name for value in graph.output}
    graph.output.extend(infos[blob] for _, blob in named if blob not in outputs and blob in infos)
    session = runner.session(path, model.SerializeToString())
    shown = [(name, blob) for name, blob in named if blob in outputs or blob in infos]
    arrays = session.run([blob for _, blob in shown], {contract.input.name: target})
    return {name: array.astype(np.float32) for (name, _), array in zip(shown, arrays, strict=True)}


def sections(path: Path, contract: Contract, target: Array) -> Iterator[tuple[str, Callable[[], object]]]:
    """Networks that each have one operation more than the one before; their unread values are their outputs."""
    check_target(target, contract)
    whole = describe.load(path)
    infos = {value.name: value for value in (*whole.graph.value_info, *whole.graph.output)}
    for end, last in enumerate(whole.graph.node, start=1):
        if last.op_type not in KINDS or last.output[0] not in infos:
            continue
        model = copy.deepcopy(whole)
        del model.graph.node[end:]
        read = {name for node in model.graph.node for name in node.input}
        leaves = [name for node in model.graph.node for name in node.output if name not in read and name in infos]
        del model.graph.output[:]
        model.graph.output.extend(infos[name] for name in leaves)
        session = runner.session(path, model.SerializeToString())
        run = partial(session.run, leaves, {contract.input.name: target})
        run()
        yield last.name, run


layer_costs = differences
