"""Changes to a .tflite model as objects: tensors, conversions between number formats, versions.  See ``model``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.backends.tflite.model import Model, Operator, kind


def add_tensor(model: Model, name: str, dtype: str, shape: Sequence[int]) -> int:
    """The index of a new tensor that is computed."""
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name, [int(n) for n in shape], 0
    model.subgraphs[0].tensors.append(tensor)
    set_dtype(model, len(model.subgraphs[0].tensors) - 1, dtype)
    return len(model.subgraphs[0].tensors) - 1


def add_constant(model: Model, name: str, values: NDArray[Any]) -> int:
    """The index of a new tensor with these values."""
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    index = add_tensor(model, name, values.dtype.name, values.shape)
    model.subgraphs[0].tensors[index].buffer = len(model.buffers) - 1
    return index


def set_dtype(model: Model, index: int, dtype: str) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model.subgraphs[0].tensors[index].type = getattr(schema.TensorType, dtype.upper())


def set_scales(model: Model, index: int, steps: Sequence[float] | NDArray[Any], zero: int = 0, axis: int = 0) -> None:
    """Set a tensor's scales: one step, or one for each entry along an axis."""
    from ai_edge_litert import schema_py_generated as schema

    found = schema.QuantizationParametersT()
    found.scale, found.zeroPoint = np.asarray(steps, np.float32), np.full(len(steps), zero, np.int64)
    found.quantizedDimension = axis
    model.subgraphs[0].tensors[index].quantization = found


def operator(model: Model, name: str, version: int, source: int, result: int) -> Operator:
    """A new operator with one input, one output and no options; the caller puts it into the list."""
    from ai_edge_litert import schema_py_generated as schema

    new = schema.OperatorT()
    new.opcodeIndex = _code(model, getattr(schema.BuiltinOperator, name), version)
    new.inputs, new.outputs = [source], [result]
    return new


def raise_version(model: Model, operator: Operator, version: int) -> None:
    """Ask for at least this version of an operator's kernel."""
    from ai_edge_litert import schema_py_generated as schema

    if model.operatorCodes[operator.opcodeIndex].version < version:
        operator.opcodeIndex = _code(model, getattr(schema.BuiltinOperator, kind(model, operator)), version)


def _code(model: Model, number: int, version: int) -> int:
    from ai_edge_litert import schema_py_generated as schema

    for i, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == number and code.version == version:
            return i
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def drop_unused(model: Model) -> None:
    """Delete unused operator codes, tensors and buffers.  Buffer 0, which is empty by convention, stays."""
    graph = model.subgraphs[0]
    entries = [entry for signature in model.signatureDefs or [] for entry in (*signature.inputs, *signature.outputs)]
    used = {int(i) for operator in graph.operators for i in (*operator.inputs, *operator.outputs)} - {-1}
    used |= {int(i) for i in (*graph.inputs, *graph.outputs)} | {int(entry.tensorIndex) for entry in entries}
    graph.tensors, moved = _kept(graph.tensors, used)
    moved[-1] = -1
    for operator in graph.operators:
        operator.inputs, operator.outputs = ([moved[int(i)] for i in indices] for indices in (operator.inputs, operator.outputs))
    graph.inputs, graph.outputs = ([moved[int(i)] for i in indices] for indices in (graph.inputs, graph.outputs))
    for entry in entries:
        entry.tensorIndex = moved[int(entry.tensorIndex)]
    model.operatorCodes, codes = _kept(model.operatorCodes, {operator.opcodeIndex for operator in graph.operators})
    for operator in graph.operators:
        operator.opcodeIndex = codes[operator.opcodeIndex]
    holders = [*graph.tensors, *(model.metadata or [])]
    model.buffers, buffers = _kept(model.buffers, {0, *(holder.buffer for holder in holders)})
    for holder in holders:
        holder.buffer = buffers[holder.buffer]


def _kept(items: list[Any], used: set[int]) -> tuple[list[Any], dict[int, int]]:
    """The items used, and the old index of each to the new one."""
    order = sorted(used)
    return [items[i] for i in order], {old: new for new, old in enumerate(order)}
