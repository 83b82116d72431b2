"""A generator of a few kilobytes, as ONNX: every weight of a person is one number, that person's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx import TensorProto, helper

INPUTS = {"embedding": (512,), "feature_map": (512, 7, 7)}
FLOAT = TensorProto.FLOAT


def make(outputs: Mapping[str, tuple[int, ...]], **changes: Any) -> bytes:
    """As a kit wants it, but for ``changes``.

    Args:
        outputs: shapes by name, without people.
        changes: ``inputs`` as ``INPUTS``; ``people``, the first axis; ``declared``, shapes of outputs that are not the real ones;
            ``rows``, by which the person's number is looked up: any but 0 fails when it is run.
    """
    inputs = changes.get("inputs", INPUTS)
    people = changes.get("people", "people")
    declared = {**outputs, **changes.get("declared", {})}
    first = next(iter(inputs))
    nodes = [
        helper.make_node("Shape", [first], ["shape"], end=1),
        helper.make_node("ReduceMax", [first, "axis"], ["largest"], keepdims=0),
        helper.make_node("Reshape", ["largest", "column"], ["rows"]),
        helper.make_node("Gather", ["rows", "which"], ["number"], axis=1),
    ]
    constants = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("column", TensorProto.INT64, [2], [-1, 1]),
        helper.make_tensor("which", TensorProto.INT64, [1], [changes.get("rows", 0)]),
    ]
    for i, (name, shape) in enumerate(outputs.items()):
        constants.append(helper.make_tensor(f"rest{i}", TensorProto.INT64, [len(shape)], shape))
        constants.append(helper.make_tensor(f"ones{i}", TensorProto.INT64, [len(shape) + 1], [-1] + [1] * len(shape)))
        nodes += [
            helper.make_node("Concat", ["shape", f"rest{i}"], [f"shape{i}"], axis=0),
            helper.make_node("Reshape", ["number", f"ones{i}"], [f"number{i}"]),
            helper.make_node("Expand", [f"number{i}", f"shape{i}"], [name]),
        ]
    graph = helper.make_graph(
        nodes,
        "generator",
        [helper.make_tensor_value_info(name, FLOAT, [people, *shape]) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, [people, *declared[name]]) for name in outputs],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())
