"""Quantizes a TFLite model, operation by operation, with given ranges; QUANTIZE and DEQUANTIZE stand in between.

``ai_edge_quantizer`` (https://github.com/google-ai-edge/ai-edge-quantizer) is not used.  It does not know LEAKY_RELU and leaves it
in float32, so a frame crosses between integers and floats 38 times and no integer accelerator can run it whole (on an x86 CPU a
frame takes as long, at 51.1 dB against PyTorch where this gives 51.3).  Its int16 files do not open, because it leaves
``pot_scale_int16`` on, which requires scales that are powers of two.  And it moves weights behind the FlatBuffer's end, where older
runtimes do not look.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count, product
from typing import TYPE_CHECKING

import numpy as np

from mfs_deploy.backends.tflite import edit
from mfs_deploy.backends.tflite import model as tfl
from mfs_deploy.backends.tflite.scales import KEEP_SCALE, value_scales
from mfs_deploy.backends.tflite.weights import CHANNEL_AXIS
from mfs_deploy.errors import UsageError
from mfs_deploy.quant.recipes import Range
from mfs_deploy.quant.scales import (
    Scale,
    range_of,
    scale_of_range,
    weights_to_int8,
)

if TYPE_CHECKING:
    from mfs_deploy.backends.base import Conversion

# Operators with integer kernels in LiteRT, and the versions that brought them, so that an older runtime refuses the file:
# https://github.com/tensorflow/tensorflow/blob/a84bf5bcd0f8531fd8dbe8bdd52fbaf5df60bccc/tensorflow/lite/tools/versioning/op_version.cc
VERSIONS = {
    "CONV_2D": {"int8": 3, "int16": 4},
    "DEPTHWISE_CONV_2D": {"int8": 3, "int16": 5},
    "FULLY_CONNECTED": {"int8": 4, "int16": 7},
    "LEAKY_RELU": {"int8": 1, "int16": 2},
    "RESIZE_BILINEAR": {"int8": 2, "int16": 4},
    "MIRROR_PAD": {"int8": 2, "int16": 3},
    "CONCATENATION": {"int8": 2, "int16": 3},
    "LOGISTIC": {"int8": 2, "int16": 3},
    "TANH": {"int8": 2, "int16": 3},
    "ADD": {"int8": 2, "int16": 3},
    "SUB": {"int8": 2, "int16": 5},
    "MUL": {"int8": 3, "int16": 4},
}
QUANTIZE_VERSIONS = {"int8": 1, "uint8": 1, "int16": 2}  # by the type of the result
DEQUANTIZE_VERSIONS = {"int8": 2, "uint8": 1, "int16": 3}  # by the type of the input
WITHOUT_FLOATS = {*product(("int8", "int16"), ("int8", "int16")), ("int8", "uint8"), ("uint8", "int8")}  # that QUANTIZE can go
BIAS_DTYPES = {"int8": "int32", "int16": "int64"}
LARGEST_BIAS = {"int32": 2.0**30, "int64": 2.0**46}  # leaves room for the sum that it starts
POT_SCALES = ("ADD", "SUB")  # whose int16 kernels take scales for powers of two unless told otherwise


def quantize(model: tfl.Model, operators: Mapping[str, tfl.Operator], job: Conversion) -> None:
    """Change ``model`` in place to the integer activations of ``job``, and its input and outputs to ``job.tflite_io``.

    Args:
        operators: of each node of the graph, by its name.

    Raises:
        UsageError: an operation has no kernel for its format.
        ConversionError: a range is not known.
    """
    formats, graph = job.formats, model.subgraphs[0]
    nodes = {id(operator): name for name, operator in operators.items()}
    order = [(nodes[id(operator)], operator) for operator in graph.operators if id(operator) in nodes]
    for name, operator in order:
        if formats[name].is_static and tfl.kind(model, operator) not in VERSIONS:
            raise UsageError(
                f"TFLite has no {formats[name].activations} kernel for {name}, which is a {tfl.kind(model, operator)}",
                hint=f'leave it in floats: [layers.{name}] weights = "float32", activations = "float32"',
            )
    names = {int(operator.outputs[0]): name for name, operator in order}
    names |= {int(i): tfl.text(graph.tensors[int(i)].name) for i in graph.inputs}
    ranges = job.value_ranges
    made = value_scales(model, order, formats, ranges, names)
    _Rewriting(model, names, ranges, {id(operators[name]): scale for name, scale in made.items()}).run(job.tflite_io)


class _Rewriting:
    """A model while it is rewritten.

    ``forms`` has for each value, by its tensor before, the tensors that hold it by their scale (None: float32); first of them
    the one that was made.
    """

    def __init__(self, model: tfl.Model, names: Mapping[int, str], ranges: Mapping[str, Range], made: Mapping[int, Scale]) -> None:
        self.model, self.names, self.ranges, self.made = model, names, ranges, made
        self.forms: dict[int, dict[Scale | None, int]] = {}
        self.floats = {i for i, tensor in enumerate(model.subgraphs[0].tensors) if tfl.dtype(tensor) == "float32"}
        self.changed: list[tfl.Operator] = []

    def run(self, io: str) -> None:
        """``made``: the scale of each integer operator's output, by its id; the others compute in floats."""
        graph = self.model.subgraphs[0]
        for i in map(int, graph.inputs):
            border = None if io == "float32" else scale_of_range(io, self.ranges[self.names[i]])
            self._set_scale(i, border)
            self.forms[i] = {border: i}
        for operator in graph.operators:
            scale = self.made.get(id(operator))
            if scale is None:
                operator.inputs = [self._form(i, None) if i in self.floats else i for i in map(int, operator.inputs)]
            else:
                self._take_integers(operator, scale)
            self.changed.append(operator)
            for position, i in enumerate(map(int, operator.outputs)):
                if i in self.floats:
                    operator.outputs[position] = self._give(i, scale, io)
        graph.operators = self.changed

    def _take_integers(self, operator: tfl.Operator, scale: Scale) -> None:
        """Connect an integer operator's inputs; its output has ``scale``."""
        kind = tfl.kind(self.model, operator)
        heavy = kind in tfl.WEIGHTED
        for position, i in enumerate(map(int, operator.inputs[: 1 if heavy else None])):
            if i in self.floats:
                shared = kind in ("CONCATENATION", *KEEP_SCALE)
                operator.inputs[position] = self._form(i, scale if shared else self._own_scale(i, scale.dtype))
        if heavy:
            self._store_weights(operator, kind, scale.dtype)
        if kind in POT_SCALES:
            operator.builtinOptions.potScaleInt16 = False
        edit.raise_version(self.model, operator, VERSIONS[kind][scale.dtype])

    def _own_scale(self, i: int, dtype: str) -> Scale:
        """The scale that a value already has in this type, else the one that fits it."""
        if (constant := tfl.values(self.model, i)) is not None:
            return scale_of_range(dtype, Range(float(constant.min()), float(constant.max())))
        there = [scale for scale in self.forms[i] if scale is not None and scale.dtype == dtype]
        return there[0] if there else scale_of_range(dtype, range_of(self.ranges, self.names[i]))

    def _store_weights(self, operator: tfl.Operator, kind: str, dtype: str) -> None:
        tensors, bias_dtype = self.model.subgraphs[0].tensors, BIAS_DTYPES[dtype]
        weights, bias = (tfl.values(self.model, int(operator.inputs[p])) for p in (tfl.FILTER, tfl.BIAS[kind]))
        assert weights is not None
        assert bias is not None
        ((step,), _) = tfl.scales(tensors[int(operator.inputs[0])])
        # A channel of tiny weights with a bias would have steps too small to count the bias in.
        smallest = np.abs(bias).astype(np.float64) / (LARGEST_BIAS[bias_dtype] * step)
        integers, steps = weights_to_int8(weights, CHANNEL_AXIS[kind], smallest)
        bias_steps = (steps * np.float32(step)).astype(np.float32)
        name = tfl.text(tensors[int(operator.inputs[tfl.FILTER])].name)
        operator.inputs[tfl.FILTER] = edit.add_constant(self.model, name, integers)
        edit.set_scales(self.model, operator.inputs[tfl.FILTER], steps, axis=CHANNEL_AXIS[kind])
        counted = np.rint(bias.astype(np.float64) / bias_steps).astype(bias_dtype)
        operator.inputs[tfl.BIAS[kind]] = edit.add_constant(self.model, f"{name.removesuffix('.weight')}.bias", counted)
        edit.set_scales(self.model, operator.inputs[tfl.BIAS[kind]], bias_steps)

    def _give(self, i: int, scale: Scale | None, io: str) -> int:
        """The tensor that an operator is to write value ``i`` into."""
        graph = self.model.subgraphs[0]
        border = self._border(i, scale, io) if i in map(int, graph.outputs) else scale
        self._set_scale(i, border)
        if border == scale:
            self.forms[i] = {scale: i}
            return i
        # The name is the contract's, so what the operator makes is called after its node.
        dtype = "float32" if scale is None else scale.dtype
        inner = edit.add_tensor(self.model, self.names[i], dtype, tfl.shape(graph.tensors[i]))
        self._set_scale(inner, scale)
        self.forms[i] = {scale: inner}
        self._fill(i, i, border)
        self.forms[i][border] = i
        return inner

    def _border(self, i: int, scale: Scale | None, io: str) -> Scale | None:
        """The scale of an output, given the one its maker gives."""
        if io == "float32":
            return None
        if scale is not None and scale.dtype == "int8":
            return scale if io == "int8" else Scale("uint8", scale.step, scale.zero + 128)
        return scale_of_range(io, self.ranges[self.names[i]])

    def _form(self, i: int, wanted: Scale | None) -> int:
        """The tensor that holds value ``i`` on a scale."""
        tensor = self.model.subgraphs[0].tensors[i]
        forms = self.forms.setdefault(i, {None: i})
        if wanted not in forms:
            dtype = "float32" if wanted is None else wanted.dtype
            name = self._free(f"{self.names.get(i, tfl.text(tensor.name))}_{dtype}")
            if wanted is not None and (constant := tfl.values(self.model, i)) is not None:
                forms[wanted] = edit.add_constant(self.model, name, wanted.store(constant))
                self._set_scale(forms[wanted], wanted)
            else:
                index = edit.add_tensor(self.model, name, dtype, tfl.shape(tensor))
                self._set_scale(index, wanted)
                self._fill(i, index, wanted)
                forms[wanted] = index
        return forms[wanted]

    def _fill(self, i: int, index: int, wanted: Scale | None) -> None:
        """Put value ``i`` into a tensor of another scale."""
        source, made = next(iter(self.forms[i].items()))
        if source is not None and wanted is not None and (source.dtype, wanted.dtype) not in WITHOUT_FLOATS:
            source, made = None, self._form(i, None)
        if wanted is None:
            assert source is not None
            name, version = "DEQUANTIZE", DEQUANTIZE_VERSIONS[source.dtype]
        else:
            name, version = "QUANTIZE", QUANTIZE_VERSIONS[wanted.dtype]
        self.changed.append(edit.operator(self.model, name, version, made, index))

    def _set_scale(self, i: int, scale: Scale | None) -> None:
        if scale is not None:
            edit.set_dtype(self.model, i, scale.dtype)
            edit.set_scales(self.model, i, [scale.step], scale.zero)

    def _free(self, name: str) -> str:
        """``name``, or with a number behind it if a value is held on several scales of one type."""
        taken = {tfl.text(tensor.name) for tensor in self.model.subgraphs[0].tensors}
        return name if name not in taken else next(f"{name}_{k}" for k in count(1) if f"{name}_{k}" not in taken)
