"""Quantizes a Core ML program: integer weights, palettes and integer values, as a pass of coremltools.

Weights become ``constexpr_affine_dequantize`` (int8, a scale per output channel) or ``constexpr_lut_to_dense`` (a palette), both of
iOS 16; biases stay floats.  Core ML has no integer operations of its own: an operation on integers is one whose inputs come from
``dequantize`` and whose result goes to ``quantize`` (iOS 17), which a phone's compiler may then compute in int8.  coremltools can
insert these pairs only on macOS, where it can observe the values.  Here the ranges come from PyTorch, and the pairs go where its
own passes put them (``insert_prefix_quantize_dequantize_pair``, ``insert_suffix_quantize_dequantize_pair``, then
``dequantize_quantize_pair_elimination``): around convolutions, linear layers and additions, each with the activation after it.
Other operations compute in float16 between such pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mfs_deploy.backends.coreml import weights as coreml_weights
from mfs_deploy.contract import FLOAT16_MAX, INPUT_NAME
from mfs_deploy.errors import ConversionError
from mfs_deploy.quant import palettes
from mfs_deploy.quant.recipes import Format

if TYPE_CHECKING:
    from mfs_deploy.quant.recipes import Range

PASS = ("mfs_deploy", "quantize")  # namespace and name in coremltools' registry
BITS = {"palette4": 4, "palette6": 6}
# Operations that compute on integers, and which of their inputs must be integers too.
INTEGER = {"conv": ("x",), "linear": ("x",), "add": ("x", "y")}
FUSED = ("leaky_relu", "sigmoid", "tanh")  # computed with the integer operation before them: no pair in between
FLOATS = ("float16", "float32")
FLOAT16_NORMAL = 2.0**-14  # the smallest number of full precision


@dataclass(frozen=True)
class Plan:
    """The number formats for a program.

    Attributes:
        formats: by node of the graph.
        nodes: the graph's node of each operation, by the name that ``ct.convert`` gives it.
        ranges: by node.
        outputs: the nodes that are the network's outputs, which stay floats.
    """

    formats: Mapping[str, Format]
    nodes: Mapping[str, str]
    ranges: Mapping[str, Range]
    outputs: frozenset[str]

    @property
    def is_half(self) -> bool:
        """Whether anything is computed in float16, as everything between integers is."""
        return any(format.activations in ("float16", "int8") for format in self.formats.values())

    @property
    def is_static(self) -> bool:
        """Whether there are integer values, so that iOS 17 is needed."""
        return any(format.is_static for format in self.formats.values())

    def node(self, op: Any) -> str | None:
        """The node that an operation came from; None for those that coremltools added."""
        return self.nodes.get(op.name.removesuffix("_cast_fp16"))

    def is_integer(self, op: Any) -> bool:
        """Whether an operation gives integers."""
        format = self.formats.get(self.node(op) or "")
        return format is not None and format.is_static


@dataclass(frozen=True)
class Number:
    """A value in int8: the float is ``scale`` times (number - ``zero_point``)."""

    value: Any
    scale: np.float16
    zero_point: np.int8


def pipeline(ct: Any, plan: Plan) -> Any:
    """coremltools' default passes, then ``plan``."""
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.pass_registry import register_pass

    class Quantize(AbstractGraphPass):  # type: ignore[misc,unused-ignore]
        def apply(self, prog: Any) -> None:
            apply(prog.functions["main"], plan)

    # coremltools' registry is global: this replaces the plan of an earlier conversion.
    register_pass(namespace=PASS[0], name=PASS[1], override=True)(Quantize)
    passes = ct.PassPipeline.DEFAULT
    passes.append_pass("::".join(PASS))
    return passes


def apply(block: Any, plan: Plan) -> None:
    """Carry out ``plan`` in the block of a program.

    Raises:
        ConversionError: coremltools lost an operation whose weights or values were to be changed, or a range is not known.
    """
    numbers: dict[Any, Number] = {}  # by the float value that it is the number of
    left = {name for name, format in plan.formats.items() if format.weights not in FLOATS}
    with block:
        for op in list(block.operations):
            node = plan.node(op)
            if node is None or node not in plan.formats:
                continue
            left.discard(node)
            if "weight" in op.inputs:
                _store_weight(op, plan.formats[node].weights)
            if plan.is_integer(op) and _reads_values(op):
                _surround(block, op, plan, numbers)
    if left:
        raise ConversionError(f"coremltools lost operations that were to be stored in fewer bits: {', '.join(sorted(left))}")


def _reads_values(op: Any) -> bool:
    """Whether an operation is one of ``INTEGER``, and none of what it would read as integers is a constant."""
    return op.op_type in INTEGER and all(op.inputs[name].val is None for name in INTEGER[op.op_type])


def _store_weight(op: Any, weights: str) -> None:
    """Replace the weight of a convolution or linear layer by one in fewer bits."""
    from coremltools.converters.mil import Builder as mb

    weight = op.inputs["weight"]
    options = {"before_op": op, "name": f"{weight.name}_{weights}"}
    if weights == "int8":
        data, scale = coreml_weights.to_int8(weight.val)
        # The type has no use for a zero point, but the operation asks for one.
        zero = np.zeros(len(scale), np.int8)
        small = mb.constexpr_affine_dequantize(quantized_data=data, zero_point=zero, scale=scale, axis=np.int32(0), **options)
    elif weights in BITS:
        table, indices = palettes.to_palette(weight.val, BITS[weights])
        packed = coreml_weights.pack(indices, BITS[weights])
        small = mb.constexpr_lut_to_dense(indices=packed, lut=table, shape=np.array(weight.shape, np.uint32), **options)
    else:
        return
    op.enclosing_block.replace_uses_of_var_after_op(anchor_op=small.op, end_op=op, old_var=weight, new_var=small)


def _surround(block: Any, op: Any, plan: Plan, numbers: dict[Any, Number]) -> None:
    """Make an operation's inputs and its output integers, for all of its readers."""
    for value in dict.fromkeys(op.inputs[name] for name in INTEGER[op.op_type]):
        if value not in numbers:
            numbers[value] = _quantize(value, _source(value, plan), plan, op)
        # Each reader has a dequantize of its own, as in coremltools' pattern.
        floats = _dequantize(numbers[value], op)
        block.replace_uses_of_var_after_op(anchor_op=floats.op, end_op=op, old_var=value, new_var=floats)
    last = _last(block, op, plan)
    value, node = last.outputs[0], plan.node(last)
    if node in plan.outputs or not value.child_ops:
        return
    operations = list(block.operations)
    following = operations[operations.index(last) + 1]
    number = _quantize(value, node, plan, following)
    floats = _dequantize(number, following)
    block.replace_uses_of_var_after_op(anchor_op=floats.op, old_var=value, new_var=floats)
    numbers[floats] = number


def _last(block: Any, op: Any, plan: Plan) -> Any:
    """The activation after an operation where both are computed as one; else the operation itself."""
    value = op.outputs[0]
    if len(value.child_ops) != 1 or value in block.outputs:
        return op
    (child,) = value.child_ops
    return child if child.op_type in FUSED and plan.is_integer(child) else op


def _source(value: Any, plan: Plan) -> str | None:
    """The node that a value came from, through changes of type."""
    while value.op is not None and value.op.op_type == "cast":
        value = value.op.inputs["x"]
    if value.op is None:
        return INPUT_NAME if value.name == INPUT_NAME else None
    return plan.node(value.op)


def _quantize(value: Any, node: str | None, plan: Plan, before: Any) -> Number:
    """A float16 value in int8."""
    from coremltools.converters.mil import Builder as mb

    seen = plan.ranges.get(node or "")
    if seen is None:
        raise ConversionError(f"the range of {node or value.name} is not known")
    if seen.largest > FLOAT16_MAX:
        raise ConversionError(
            f"{node} reaches {seen.largest:.3g}: beyond float16, which Core ML computes in between integers",
            hint="keep it and what reads it in float32",
        )
    scale, zero = scale_and_zero_point(seen)
    options = {"output_dtype": "int8", "before_op": before, "name": f"{value.name}_int8"}
    return Number(mb.quantize(input=value, scale=scale, zero_point=zero, **options), scale, zero)


def scale_and_zero_point(seen: Range) -> tuple[np.float16, np.int8]:
    """For values in a range; zero, which convolutions pad with, is always exact.

    With a zero point (coremltools' mode "linear") the demo network is 3 to 7 dB nearer to PyTorch than without one (its default,
    "linear_symmetric"): behind a LeakyReLU nearly all values lie on one side.
    """
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    # Below its full precision float16 has few digits for a scale, and phones may take it for zero.
    scale = np.float16(max((high - low) / 255, FLOAT16_NORMAL))
    return scale, np.int8(np.clip(np.rint(-128 - low / float(scale)), -128, 127))


def _dequantize(number: Number, before: Any) -> Any:
    from coremltools.converters.mil import Builder as mb

    options = {"before_op": before, "name": f"{number.value.name}_float"}
    return mb.dequantize(input=number.value, scale=number.scale, zero_point=number.zero_point, **options)
