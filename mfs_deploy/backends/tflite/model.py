"""A .tflite file as objects: checked reading, names of tensors, writing.

The file is a FlatBuffer of LiteRT's ``tflite/schema/schema.fbs`` (version 3, identifier "TFL3", https://github.com/google-ai-edge/LiteRT).
Its objects are the ``...T`` classes that ai_edge_litert generates from that schema: a Model holds buffers and one SubGraph of
tensors and operators.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mfs_deploy.backends import node_names
from mfs_deploy.errors import ConversionError

if TYPE_CHECKING:
    from torch import fx

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
# Bytes of one tensor and of all: four times and twice our largest network.  XNNPACK allocates whatever a shape says.
LARGEST, LARGEST_TOTAL = 2**26, 2**31
BUFFER_ALIGNMENT = (
    16  # schema.fbs: ``Buffer.data (force_align: 16)``; Python ignores it (https://github.com/google/flatbuffers/issues/5839)
)
FILTER = 1  # position of the weights among the inputs of each operator in WEIGHTED
BIAS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}
WEIGHTED = tuple(BIAS)
INTEGERS = ("int8", "uint8", "int16", "int32", "int64")
KINDS = {
    "CONV_2D": "conv",
    "DEPTHWISE_CONV_2D": "conv",
    "FULLY_CONNECTED": "linear",
    "LEAKY_RELU": "leaky_relu",
    "RESIZE_BILINEAR": "resize",
    "MIRROR_PAD": "pad",
    "CONCATENATION": "concat",
    "LOGISTIC": "sigmoid",
    "TANH": "tanh",
    "ADD": "add",
    "SUB": "sub",
    "MUL": "mul",
    "DIV": "div",
}
Model = Any  # ai_edge_litert.schema_py_generated.ModelT
Operator = Any  # OperatorT


# ---- read and write


def read(data: bytes) -> Model:
    """Unpack a file.  Raises ValueError if it is damaged, or not a .tflite with one subgraph."""
    from ai_edge_litert import schema_py_generated as schema

    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise ValueError(f"bytes 4 to 8 are {data[4:8]!r}, must be {IDENTIFIER!r}")
    try:
        model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
        if model.version != SCHEMA_VERSION or len(model.subgraphs) != 1:
            raise ValueError(f"schema {model.version} with {len(model.subgraphs)} subgraphs, must be {SCHEMA_VERSION} with 1")
        _check_references(model)
    except (struct.error, IndexError, TypeError, AttributeError, OverflowError, MemoryError) as exc:
        raise ValueError(f"an offset leads nowhere ({exc})") from exc
    return model


def _check_references(model: Model) -> None:
    """Every index must be valid and every constant have its tensor's size: not all kernels check before they read."""
    graph = model.subgraphs[0]
    sizes = [_size(tensor) for tensor in graph.tensors]
    if max(sizes) > LARGEST or sum(sizes) > LARGEST_TOTAL:
        raise ValueError(f"its tensors take {sum(sizes)} bytes, the largest {max(sizes)}")
    for tensor in graph.tensors:
        data = model.buffers[_within(tensor.buffer, model.buffers)].data
        if data is not None and len(data) and len(data) != _size(tensor):
            raise ValueError(f"tensor {text(tensor.name)} of shape {shape(tensor)} has {len(data)} bytes")
        _check_scales(tensor)
    for operator in graph.operators:
        _within(operator.opcodeIndex, model.operatorCodes)
        name = kind(model, operator)
        for position, i in enumerate(operator.inputs):
            # -1 is an optional input left out, as a bias may be; XNNPACK uses any other index unchecked.
            _within(0 if i == -1 and position == BIAS.get(name) else i, graph.tensors)
        for i in operator.outputs:
            _within(i, graph.tensors)
        _within(BIAS[name] - 1 if name in BIAS else 0, operator.inputs)
        _within(0, operator.outputs)
        if name == "RESIZE_BILINEAR":
            _check_resize(model, operator)
        if name == "MIRROR_PAD":
            _check_pad(model, operator)
    for signature in model.signatureDefs or []:
        for entry in (*signature.inputs, *signature.outputs):
            _within(entry.tensorIndex, graph.tensors)
    for entry in model.metadata or []:
        _within(entry.buffer, model.buffers)


def _check_resize(model: Model, operator: Operator) -> None:
    """Its size must be its output's: the kernel allocates any other size, 20 GB for one wrong byte."""
    size = values(model, operator.inputs[_within(1, operator.inputs)])
    output = shape(model.subgraphs[0].tensors[operator.outputs[_within(0, operator.outputs)]])
    if size is None or tuple(size.ravel().tolist()) != output[1:3]:
        raise ValueError(f"a resize to {size} gives a tensor of shape {output}")


def _check_pad(model: Model, operator: Operator) -> None:
    """Its padding must give its output's shape, and be smaller than the input that is mirrored."""
    added = values(model, operator.inputs[_within(1, operator.inputs)])
    before = shape(model.subgraphs[0].tensors[operator.inputs[0]])
    after = shape(model.subgraphs[0].tensors[operator.outputs[_within(0, operator.outputs)]])
    if added is None or added.shape != (len(before), 2) or added.min() < 0 or (added.max(1) >= np.maximum(before, 1)).any():
        raise ValueError(f"a pad of {before} by {None if added is None else added.tolist()}")
    if tuple(int(size) for size in before + added.sum(1)) != tuple(after):
        raise ValueError(f"a pad of {before} by {added.tolist()} gives a tensor of shape {after}")


def _check_scales(tensor: Any) -> None:
    """Kernels read as many scales as there are channels."""
    steps, zeros = scales(tensor)
    axis = 0 if tensor.quantization is None else tensor.quantization.quantizedDimension
    allowed = {0, 1, *shape(tensor)[axis : axis + 1]} if axis >= 0 else {0, 1}
    if len(steps) != len(zeros) or len(steps) not in allowed:
        raise ValueError(f"tensor {text(tensor.name)} has {len(steps)} scales and {len(zeros)} zero points, {shape(tensor)}")
    if not all(0 < step < float("inf") for step in steps):
        raise ValueError(f"tensor {text(tensor.name)} has a scale that is not a positive number")
    if (name := dtype(tensor)) in INTEGERS and not all(np.iinfo(name).min <= zero <= np.iinfo(name).max for zero in zeros):
        raise ValueError(f"tensor {text(tensor.name)} has a zero point beyond {name}")  # XNNPACK would abort the process


def _within(index: int, items: Sequence[Any]) -> int:
    if not 0 <= index < len(items):
        raise ValueError(f"index {index} among {len(items)}")
    return index


def _size(tensor: Any) -> int:
    sizes = {"float32": 4, "float16": 2, "int32": 4, "int64": 8, "int8": 1, "uint8": 1, "int16": 2, "bool": 1}
    name = dtype(tensor)
    if name not in sizes:
        raise ValueError(f"tensor {text(tensor.name)} has type {name}")
    if any(n < 0 for n in shape(tensor)):
        raise ValueError(f"tensor {text(tensor.name)} has shape {shape(tensor)}")
    return prod(shape(tensor)) * sizes[name]


def write(model: Model) -> bytes:
    """Pack a model.  Same objects, same bytes."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    buffers = model.buffers
    try:
        model.buffers = [_AlignedBuffer(buffer) for buffer in buffers]
        builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    finally:
        model.buffers = buffers
    return bytes(builder.Output())


class _AlignedBuffer:
    """Packs a buffer so that its data starts at a multiple of 16 bytes of the file."""

    def __init__(self, buffer: Any) -> None:
        self._data = buffer.data

    def Pack(self, builder: Any) -> int:
        from ai_edge_litert import schema_py_generated as schema

        vector = None
        if self._data is not None and len(self._data):
            raw = bytes(bytearray(self._data))
            builder.StartVector(1, len(raw), BUFFER_ALIGNMENT)
            builder.head -= len(raw)
            builder.Bytes[builder.head : builder.head + len(raw)] = raw
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        return int(schema.BufferEnd(builder))


# ---- look


def text(value: bytes | str | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def shape(tensor: Any) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(int(n) for n in tensor.shape)


def dtype(tensor: Any) -> str:
    from ai_edge_litert import schema_py_generated as schema

    return str(next((k for k, v in vars(schema.TensorType).items() if v == tensor.type), tensor.type)).lower()


def scales(tensor: Any) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Scales and zero points: one each, one each per channel, or none."""
    found = tensor.quantization
    steps, zeros = (
        () if found is None or values is None else values for values in (found and found.scale, found and found.zeroPoint)
    )
    return tuple(float(x) for x in steps), tuple(int(x) for x in zeros)


def kind(model: Model, operator: Operator) -> str:
    """The builtin operator's name, such as "CONV_2D"."""
    from ai_edge_litert import schema_py_generated as schema

    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)  # the older field ends at 127
    return next((k for k, v in vars(schema.BuiltinOperator).items() if v == number and k.isupper()), f"operator {number}")


def weighted(model: Model) -> Iterator[tuple[str, Operator]]:
    """(kind, operator) of every convolution and linear layer."""
    return ((k, o) for o in model.subgraphs[0].operators if (k := kind(model, o)) in WEIGHTED)


def values(model: Model, index: int) -> np.ndarray | None:
    """A tensor's constant, in its shape; None if it is computed."""
    tensor = model.subgraphs[0].tensors[index]
    data = model.buffers[tensor.buffer].data
    if data is None or not len(data):
        return None
    return np.frombuffer(bytes(bytearray(data)), dtype(tensor)).reshape(shape(tensor))


# ---- change


def name_tensors(model: Model, graph: fx.GraphModule, input_name: str, output_names: tuple[str, ...]) -> dict[str, Operator]:
    """Name tensors after the graph's nodes, weights after its modules, inputs and outputs after the contract.

    Returns:
        the operator of each node, by the node's name.

    Raises:
        ConversionError: the model has other operators than the graph, or a convolution has another's weights.
    """
    subgraph = model.subgraphs[0]
    signature = model.signatureDefs[0]
    names = {entry.tensorIndex: text(entry.name) for entry in (*signature.inputs, *signature.outputs)}
    if sorted(names.values()) != sorted((input_name, *output_names)):
        raise ConversionError(f"the converted model has {sorted(names.values())}, not {sorted((input_name, *output_names))}")
    found = [(KINDS[k], operator) for operator in subgraph.operators if (k := kind(model, operator)) in KINDS]
    pairs = node_names.match(graph, found)
    for node, operator in pairs:
        names.setdefault(int(operator.outputs[0]), node.name)
        if node.op == "call_module":
            names |= _weight_names(model, graph, node, operator)
        for i, tensor in enumerate(operator.inputs):
            if values(model, int(tensor)) is not None:
                names.setdefault(int(tensor), f"{node.name}.{i}")
    for index, name in names.items():
        subgraph.tensors[index].name = name
    return {node.name: operator for node, operator in pairs}


def _weight_names(model: Model, graph: fx.GraphModule, node: fx.Node, operator: Operator) -> dict[int, str]:
    module: Any = graph.get_submodule(str(node.target))
    stored, weight = values(model, int(operator.inputs[FILTER])), module.weight.detach().numpy()
    if weight.ndim == 4:
        depthwise = kind(model, operator) == "DEPTHWISE_CONV_2D"
        weight = weight.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1))  # OIHW to IHWO or OHWI
    if stored is None or not np.array_equal(stored, weight):
        raise ConversionError(f"the operator matched with {node.name} does not have the weights of {node.target}")
    bias = int(operator.inputs[BIAS[kind(model, operator)]])
    length = shape(model.subgraphs[0].tensors[bias])[0]
    bias_name = f"zero_bias_{length}" if module.bias is None else f"{node.target}.bias"
    return {int(operator.inputs[FILTER]): f"{node.target}.weight", bias: bias_name}


def set_metadata(model: Model, entries: dict[str, str]) -> None:
    """Add named UTF-8 texts, sorted by name; an entry of the same name is replaced."""
    from ai_edge_litert import schema_py_generated as schema

    model.metadata = [entry for entry in model.metadata or [] if text(entry.name) not in entries]
    for name in sorted(entries):
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(entries[name].encode("utf-8"), np.uint8)
        model.buffers.append(buffer)
        entry.name, entry.buffer = name, len(model.buffers) - 1
        model.metadata.append(entry)


def metadata(model: Model) -> dict[str, str]:
    """All named texts; the converter pads its own with zero bytes."""
    return {text(e.name): text(_raw(model.buffers[e.buffer])).rstrip("\0") for e in model.metadata or []}


def _raw(buffer: Any) -> bytes:
    return b"" if buffer.data is None else bytes(bytearray(buffer.data))
