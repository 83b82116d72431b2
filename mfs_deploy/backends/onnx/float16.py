"""An ONNX model in float16 with named nodes in float32.

``onnxruntime.transformers.float16`` (and onnxconverter-common, its origin) is not used: it casts every edge to float16, also
between two nodes kept in float32, so that the overflow still happens; it silently clips weights beyond float16's range; and it
appends its casts out of topological order, which ``onnx.checker`` refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mfs_deploy.contract import FLOAT16_MAX
from mfs_deploy.errors import ConversionError

if TYPE_CHECKING:
    import onnx

# Operations whose float inputs and outputs all have one type T that may be float16 (ONNX operator specification, opset 20) ...
ONE_TYPE = ("Conv", "Gemm", "LeakyRelu", "Resize", "Pad", "Concat", "Sigmoid", "Tanh", "Add", "Sub", "Mul", "Div")
ROUNDING = ("QuantizeLinear", "DequantizeLinear")  # ... which integer operations have around them, in float32 ...
NO_VALUES = {"Pad": 1}  # ... from this position on, inputs that say what to do, and are no floats ...
ALWAYS_FLOAT32 = {"Resize": (2,)}  # ... and these inputs by position: Resize's scales


def to_float16(model: onnx.ModelProto, keep: frozenset[str]) -> None:
    """Change ``model`` in place: float16 weights and arithmetic, float32 inputs and outputs, nodes named in ``keep`` in float32.

    A tensor is cast once, where it first passes between the two types.  Needs a fresh shape inference afterwards.

    Raises:
        ConversionError: an operation not in ``ONE_TYPE``, or a weight beyond float16's 65504 in a node that is not kept.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    for node in graph.node:
        if node.op_type not in (*ONE_TYPE, *ROUNDING):
            raise ConversionError(f"node {node.name}: how {node.op_type} behaves in float16 is not known; add it to ONE_TYPE")
    _rename_float16_outputs(graph, keep)
    wanted = {(node.name, i): _wanted(node, i, keep) for node in graph.node for i in range(len(node.input))}
    weights = _typed_weights(graph, wanted)
    types = {i.name: i.type.tensor_type.elem_type for i in graph.input} | {w.name: w.data_type for w in graph.initializer}

    nodes: list[onnx.NodeProto] = []

    def cast(source: str, target: str, to: int) -> str:
        if target not in types:
            nodes.append(helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=to))
            types[target] = to
        return target

    for node in graph.node:
        for i, name in enumerate(node.input):
            to = wanted[node.name, i]
            if to is not None and (name, to) in weights:
                node.input[i] = weights[name, to]
            elif to is not None and name and types[name] != to:
                node.input[i] = cast(name, f"{name}_{_suffix(to)}", to)
        nodes.append(node)
        types |= dict.fromkeys(node.output, TensorProto.FLOAT if node.name in keep else TensorProto.FLOAT16)
    for output in graph.output:
        if output.name not in types:
            cast(f"{output.name}_float16", output.name, TensorProto.FLOAT)
    graph.ClearField("node")
    graph.node.extend(nodes)


def _suffix(to: int) -> str:
    from onnx import TensorProto

    return "float16" if to == TensorProto.FLOAT16 else "float32"


def _wanted(node: onnx.NodeProto, position: int, keep: frozenset[str]) -> int | None:
    """The type that a node wants an input in; None: the one it has."""
    from onnx import TensorProto

    if node.op_type == "DequantizeLinear" or (node.op_type == "QuantizeLinear" and position > 0):
        return None
    if position >= NO_VALUES.get(node.op_type, len(node.input)):
        return None
    kept = node.name in keep or position in ALWAYS_FLOAT32.get(node.op_type, ())
    return int(TensorProto.FLOAT if kept else TensorProto.FLOAT16)


def _rename_float16_outputs(graph: onnx.GraphProto, keep: frozenset[str]) -> None:
    """The graph's outputs keep their names in float32, so what float16 nodes produce is called something else."""
    outputs = {output.name for output in graph.output}
    renamed = {n: f"{n}_float16" for node in graph.node if node.name not in keep for n in node.output if n in outputs}
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]


def _typed_weights(graph: onnx.GraphProto, wanted: dict[tuple[str, int], int | None]) -> dict[tuple[str, int], str]:
    """Store each float32 initializer in the types its readers want; (name, type) to the name it then has."""
    from onnx import TensorProto, numpy_helper

    readers: dict[str, dict[int | None, str]] = {}  # initializer: type: a node that wants it so
    for node in graph.node:
        for i, name in enumerate(node.input):
            readers.setdefault(name, {}).setdefault(wanted[node.name, i], node.name)
    names: dict[tuple[str, int], str] = {}
    stored: list[onnx.TensorProto] = []
    for weight in graph.initializer:
        kinds = readers.get(weight.name, {}) if weight.data_type == TensorProto.FLOAT else {}
        if TensorProto.FLOAT16 not in kinds:
            stored.append(weight)
            continue
        if TensorProto.FLOAT in kinds:
            stored.append(weight)
        name = f"{weight.name}_float16" if TensorProto.FLOAT in kinds else weight.name
        names[weight.name, TensorProto.FLOAT16] = name
        half = _half(numpy_helper.to_array(weight), weight.name, kinds[TensorProto.FLOAT16])
        stored.append(numpy_helper.from_array(half, name))
    graph.ClearField("initializer")
    graph.initializer.extend(stored)
    return names


def _half(values: np.ndarray, weight: str, node: str) -> np.ndarray:
    largest = float(np.abs(values).max(initial=0))
    if largest > FLOAT16_MAX:
        raise ConversionError(
            f"{weight} holds {largest:.6g}, beyond float16's 65504", hint=f"keep {node} in float32, or use the recipe fp32"
        )
    return values.astype(np.float16)
