"""Quantizes an ONNX model, operation by operation, with given ranges, in QDQ format.

In this format the output of an integer operation passes a QuantizeLinear and a DequantizeLinear node, and its weights a
DequantizeLinear node.  A runtime with integer kernels fuses these nodes into the operation; others compute the same in floats.

``onnxruntime.quantization.QDQQuantizer`` is not used: it has no convolutions with int8 weights and float activations, sets formats
by tensor and not by operation, and does not take given scales for inputs and outputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.quant.recipes import Range
from mfs_deploy.quant.scales import (
    Scale,
    range_of,
    scale_of_range,
    weights_to_int8,
)

if TYPE_CHECKING:
    import onnx

    from mfs_deploy.backends.base import Conversion

# Types of values, by the recipe's word.  With a zero point, int8 and uint8 hold the same numbers.  ONNX Runtime's x86 kernels take
# uint8, and it converts int8 only where a single node reads the value, so that other operations stay in floats.
STORED = {"int8": "uint8", "int16": "int16"}
LARGEST_BIAS = 2.0**30  # in int32, leaves room for the sum that it starts
INT16_OPSET, INT16_IR = 21, 10  # the first whose QuantizeLinear takes int16; ONNX Runtime 1.18 and later read it
WEIGHTED = ("Conv", "Gemm")
WEIGHT, BIAS = 1, 2  # positions among their inputs
SAME_SCALE = ("Resize", "Pad")  # with one scale before and after, a runtime can drop the nodes around it


def quantize(model: onnx.ModelProto, job: Conversion) -> None:
    """Change ``model`` in place to the integer formats of ``job``.  Needs a fresh shape inference afterwards.

    Raises:
        ConversionError: a range is not known.
    """
    makers = {output: node.name for node in model.graph.node for output in node.output}
    rewriting = _Rewriting(model.graph, job.value_ranges, makers)
    formats = job.formats
    for node in list(model.graph.node):
        wanted = formats.get(node.name)
        dtype = STORED[wanted.activations] if wanted is not None and wanted.is_static else None
        rewriting.take(node, dtype, wanted is not None and wanted.weights == "int8")
    rewriting.finish()
    if any(wanted.activations == "int16" for wanted in formats.values()):
        model.ir_version = max(model.ir_version, INT16_IR)
        for opset in model.opset_import:
            if opset.domain in ("", "ai.onnx"):
                opset.version = max(opset.version, INT16_OPSET)


class _Rewriting:
    """A graph while it is rewritten.

    ``made``: the scale that a value has been rounded to by its maker; ``forms``: the tensor that holds a value on a scale.
    """

    def __init__(self, graph: onnx.GraphProto, ranges: Mapping[str, Range], makers: Mapping[str, str]) -> None:
        from onnx import TensorProto, numpy_helper

        self.graph, self.ranges, self.makers = graph, ranges, makers
        self.constants = {w.name: numpy_helper.to_array(w) for w in graph.initializer if w.data_type == TensorProto.FLOAT}
        self.readers = Counter(name for node in graph.node for name in node.input)
        self.outputs = {output.name for output in graph.output}
        self.made: dict[str, Scale] = {}
        self.forms: dict[tuple[str, Scale], str] = {}
        self.read: dict[str, str] = {}  # the tensor to read in place of a value
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []

    def take(self, node: onnx.NodeProto, dtype: str | None, is_stored_int8: bool) -> None:
        """Add a node whose output is integers of type ``dtype``, or floats if that is None."""
        values = range(1 if node.op_type in (*WEIGHTED, *SAME_SCALE) else len(node.input))
        scale = None
        for i in values:
            if dtype is not None:
                scale = self._own_scale(node.input[i], dtype)
                node.input[i] = self._form(node.input[i], scale)
            else:
                node.input[i] = self.read.get(node.input[i], node.input[i])
        if is_stored_int8 and node.op_type in WEIGHTED:
            self._store_weights(node, scale)
        self.nodes.append(node)
        if dtype is not None:
            own = scale if node.op_type in SAME_SCALE and scale is not None else scale_of_range(dtype, self._range(node.output[0]))
            self._round_output(node, own)

    def finish(self) -> None:
        used = {name for node in self.nodes for name in node.input}
        replaced = {w.name for w in self.stored}
        kept = [w for w in self.graph.initializer if w.name in used - replaced]
        self.graph.ClearField("initializer")
        self.graph.initializer.extend([*kept, *self.stored])
        self.graph.ClearField("node")
        self.graph.node.extend(self.nodes)

    def _range(self, value: str) -> Range:
        return range_of(self.ranges, self.makers.get(value, value))

    def _own_scale(self, value: str, dtype: str) -> Scale:
        """The scale that a value already has in this type, else the one that fits it."""
        if value in self.constants:
            constant = self.constants[value]
            return scale_of_range(dtype, Range(float(constant.min()), float(constant.max())))
        made = self.made.get(value)
        return made if made is not None and made.dtype == dtype else scale_of_range(dtype, self._range(value))

    def _form(self, value: str, scale: Scale) -> str:
        """The float tensor of a value rounded to a scale."""
        if self.made.get(value) == scale:
            return self.read[value]
        if (value, scale) not in self.forms:
            if value in self.constants:
                integers = scale.store(self.constants[value])
                self.forms[value, scale] = self._dequantized(value, integers, scale.step, scale.zero)
            else:
                name = f"{self.makers.get(value, value)}_{scale.dtype}"
                self.forms[value, scale] = self._round(self.read.get(value, value), name, f"{name}_float32", scale)
        return self.forms[value, scale]

    def _round_output(self, node: onnx.NodeProto, scale: Scale) -> None:
        """Round what a node gives; an output of the graph keeps its name, so the node then writes elsewhere."""
        value, name = node.output[0], f"{node.name}_{scale.dtype}"
        if value in self.outputs:
            node.output[0] = node.name
        self.made[value] = scale
        self.read[value] = self._round(node.output[0], name, value if value in self.outputs else f"{name}_float32", scale)

    def _round(self, source: str, name: str, result: str, scale: Scale) -> str:
        """Round a float tensor to the integers ``name`` and put the numbers they stand for into ``result``."""
        from onnx import helper

        step, zero = self._store_scale(name, np.float32(scale.step), np.asarray(scale.zero, scale.dtype))
        self.nodes.append(helper.make_node("QuantizeLinear", [source, step, zero], [name], name=f"quantize_{name}"))
        self.nodes.append(helper.make_node("DequantizeLinear", [name, step, zero], [result], name=f"dequantize_{name}"))
        return result

    # ---- constants

    def _store_weights(self, node: onnx.NodeProto, scale: Scale | None) -> None:
        """int8 weights; with an input on ``scale`` also an int32 bias in steps of both, which kernels add as it is."""
        weight, bias = node.input[WEIGHT], node.input[BIAS] if len(node.input) > BIAS else ""
        axis = 1 if node.op_type == "Gemm" and not any(a.name == "transB" and a.i for a in node.attribute) else 0
        values, offset = self.constants[weight], self.constants.get(bias)
        smallest: NDArray[Any] | float = 0.0
        if scale is not None and offset is not None:
            # A channel of tiny weights with a bias would have steps too small to count the bias in.
            smallest = np.abs(offset).astype(np.float64) / (LARGEST_BIAS * scale.step)
        integers, steps = weights_to_int8(values, axis, smallest)
        node.input[WEIGHT] = self._dequantized(weight, integers, steps, axis=axis)
        if scale is not None and offset is not None:
            bias_steps = (steps * np.float32(scale.step)).astype(np.float32)
            counted = np.rint(offset.astype(np.float64) / bias_steps).astype(np.int32)
            node.input[BIAS] = self._dequantized(bias, counted, bias_steps, axis=0)

    def _dequantized(self, name: str, integers: NDArray[Any], steps: Any, zero: int = 0, axis: int | None = None) -> str:
        """The float tensor of a constant stored in integers, with one step or one for each entry along ``axis``."""
        from onnx import helper, numpy_helper

        stored = name if self.readers[name] == 1 else f"{name}_{integers.dtype}_{len(self.stored)}"
        scale = np.asarray(steps, np.float32)
        inputs = [stored, *self._store_scale(stored, scale, np.full(scale.shape, zero, integers.dtype))]
        self.stored.append(numpy_helper.from_array(integers, stored))
        attributes = {} if axis is None else {"axis": axis}
        node = helper.make_node("DequantizeLinear", inputs, [f"{stored}_float32"], name=f"dequantize_{stored}", **attributes)
        self.nodes.append(node)
        return f"{stored}_float32"

    def _store_scale(self, name: str, steps: Any, zeros: Any) -> tuple[str, str]:
        from onnx import numpy_helper

        self.stored.append(numpy_helper.from_array(np.asarray(steps), f"{name}_scale"))
        self.stored.append(numpy_helper.from_array(np.asarray(zeros), f"{name}_zero_point"))
        return f"{name}_scale", f"{name}_zero_point"
