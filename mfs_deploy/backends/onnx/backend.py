"""ONNX, through PyTorch's own exporter; run by ONNX Runtime.

One self-contained file.  Input ``target`` and outputs ``swapped`` and ``mask`` are float32, NCHW, in [0, 1], whatever the recipe.
Nodes bear the names of the simplified graph's nodes, and weights those of the PyTorch modules.

What integers mean is in ``onnx_quantize.py``; how ONNX Runtime executes them, at ``OnnxRunner``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfs_deploy import __version__, onnx_runtime
from mfs_deploy.backends import node_names as fx_order
from mfs_deploy.backends.base import (
    Array,
    ArtifactInfo,
    Conversion,
    TensorInfo,
    check_target,
    threads,
)
from mfs_deploy.backends.onnx.float16 import to_float16
from mfs_deploy.backends.onnx.quantize import quantize
from mfs_deploy.backends.quiet import last_line, quiet
from mfs_deploy.contract import Contract
from mfs_deploy.errors import BundleError, ConversionError, MissingExtra
from mfs_deploy.quant.recipe import Format

if TYPE_CHECKING:
    import onnx
    from torch import fx

NAME = "onnx"
TITLE = "ONNX"
EXTRA = "onnx"
PACKAGES: tuple[str, ...] = ("onnx", "onnxruntime", "onnxscript")
LAYOUT = "NCHW"
RUNS_HERE = True
FILES: tuple[str, ...] = ("swap.onnx",)

# What an operation can be given.
FORMATS: tuple[Format, ...] = (
    Format("float32", "float32"),
    Format("float16", "float16"),
    Format("int8", "float32"),
    Format("int8", "float16"),  # computed in float32: ONNX Runtime unpacks the weights to that
    Format("int8", "int8"),
    Format("int8", "int16"),
)

OPSET = 20  # what the exporter of torch 2.13 writes without translating; ONNX Runtime 1.17 and later read it
KINDS = {
    "Conv": "conv",
    "Gemm": "linear",
    "LeakyRelu": "leaky_relu",
    "Resize": "resize",
    "Pad": "pad",
    "Concat": "concat",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
}


# ---- convert


def convert(job: Conversion, directory: Path) -> None:
    """Write ``swap.onnx``.  Raises ConversionError."""
    fx_order.check_names(job.graph, job.keep_float32)
    model = _export(job.graph, job.contract)
    _strip(model)
    name_nodes(model, job.graph)
    formats = job.formats
    if any(wanted.weights == "int8" for wanted in formats.values()):
        quantize(model, job)
    if halves := {name for name, wanted in formats.items() if wanted.weights == "float16"}:
        to_float16(model, frozenset(node.name for node in model.graph.node) - halves)
    model = _checked(model)
    for key in sorted(job.metadata):
        model.metadata_props.add(key=key, value=job.metadata[key])
    (directory / FILES[0]).write_bytes(model.SerializeToString(deterministic=True))


def _export(graph: fx.GraphModule, contract: Contract) -> onnx.ModelProto:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as exc:
        raise MissingExtra(EXTRA, str(exc.name), "the ONNX export") from exc
    import torch

    with quiet():
        try:
            program = torch.onnx.export(
                graph,
                (torch.zeros(contract.input.shape),),
                dynamo=True,
                opset_version=OPSET,
                input_names=[contract.input.name],
                output_names=[output.name for output in contract.outputs],
                external_data=False,
                verbose=False,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as exc:
            raise ConversionError(f"torch.onnx.export failed: {last_line(exc)}") from exc
    assert program is not None
    return program.model_proto  # type: ignore[no-any-return,unused-ignore]


def _strip(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes to itself: source paths, module scopes, PyTorch's build.  Shapes are inferred again later."""
    model.producer_name, model.producer_version, model.doc_string = "mfs-deploy", __version__, ""
    model.ClearField("metadata_props")
    graph = model.graph
    graph.name = "swap"
    for field in ("metadata_props", "value_info", "doc_string"):
        graph.ClearField(field)
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")


def name_nodes(model: onnx.ModelProto, graph: fx.GraphModule) -> None:
    """Give each node, and the tensor it makes, the name of the graph's node it came from.  Outputs keep the contract's names.

    Raises:
        ConversionError: the model has other operations than the graph, or a convolution has another's weights.
    """
    operations = [(KINDS[node.op_type], node) for node in model.graph.node if node.op_type in KINDS]
    outputs = {output.name for output in model.graph.output}
    renamed = {}
    for node, operation in fx_order.pair(graph, operations):
        if node.op == "call_module" and operation.input[1] != f"{node.target}.weight":
            raise ConversionError(f"node {node.name} has the weights {operation.input[1]}, must be {node.target}.weight")
        operation.name = node.name
        if operation.output[0] not in outputs:
            renamed[operation.output[0]] = node.name
    for operation in model.graph.node:
        for names in (operation.input, operation.output):
            names[:] = [renamed.get(name, name) for name in names]


def _checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shape and type of every tensor, found valid."""
    import onnx

    try:
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        onnx.checker.check_model(model)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as exc:
        raise ConversionError(f"the exported ONNX model is not valid: {last_line(exc)}") from exc
    return model


# ---- open


class OnnxRunner:
    """A session on the CPU with ``OMP_NUM_THREADS`` threads, else one.

    What float16 means here: on x86, ONNX Runtime has float16 kernels for none of these operations.  It casts around every node
    and then drops the casts between nodes (in the graph that it writes to ``optimized_model_filepath``, every inserted cast but
    the last two reads a weight).  So weights are those of float16, but arithmetic and the tensors between nodes are float32;
    an overflow of float16 cannot be seen, and a frame takes no less time.  On arm64 with half-precision arithmetic there are
    float16 kernels: 57 dB against PyTorch where x86 has 75, and a network that overflows gives NaN (emulated Cortex-A76).

    What integers mean here: with 8-bit activations every operation but resizes and subtractions is fused into an integer kernel.
    Weights in int8 alone are unpacked for every frame unless the option below is set, which an app must set, too; on x86 it
    must also ask for exact products (``session``).  16-bit
    activations are rounded to 16 bits and computed in floats, which costs time and gives what an accelerator would.
    """

    pixels = False

    def __init__(self, session: Any, contract: Contract, version: str) -> None:
        self.runtime = f"ONNX Runtime {version} (CPU)"
        self._session = session
        self._contract = contract
        self._outputs = [output.name for output in contract.outputs]

    def run(self, target: Array) -> tuple[Array, ...]:
        check_target(target, self._contract)
        return tuple(self._session.run(self._outputs, {self._contract.input.name: target}))

    def frame(self, target: Array) -> Callable[[], object]:
        check_target(target, self._contract)
        return partial(self._session.run, self._outputs, {self._contract.input.name: target})


def open(path: Path, contract: Contract) -> OnnxRunner:
    """Open an artifact in ONNX Runtime.  Raises BundleError."""
    opened = session(path, _read(path))
    _check_contract(path, opened, contract)
    return OnnxRunner(opened, contract, version("onnxruntime"))


def session(path: Path, data: bytes) -> Any:
    """Of a model's bytes; ``path`` is for the words of errors."""
    try:
        onnxruntime = onnx_runtime.load()
    except ImportError as exc:
        raise MissingExtra(EXTRA, str(exc.name), "running ONNX") from exc
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # failures come as exceptions; nothing needs saying twice
    # x86 without VNNI adds pairs of 8-bit products in 16 bits, which cuts large ones off; this takes kernels that do not.
    options.add_session_config_entry("session.x64quantprecision", "1")
    state = onnxruntime.capi.onnxruntime_pybind11_state
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NotImplemented", "RuntimeException")
    refusals = (UnicodeDecodeError, *(getattr(state, name) for name in names))  # the former while quoting a damaged name
    if b"QuantizeLinear" not in data:  # only then: it also keeps ONNX Runtime from fusing integer operations
        options.add_session_config_entry("session.disable_quant_qdq", "1")  # weights are unpacked once, not for every frame
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=False)
    except refusals as exc:
        raise BundleError(f"{path.name} is damaged or not ONNX: {last_line(exc)}", hint="export it again") from exc


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise BundleError(f"cannot read {path.name}: {exc.strerror}") from exc


def _check_contract(path: Path, session: Any, contract: Contract) -> None:
    found = {(v.name, tuple(v.shape), v.type) for v in (*session.get_inputs(), *session.get_outputs())}
    wanted = {(spec.name, spec.shape, "tensor(float)") for spec in (contract.input, *contract.outputs)}
    if found != wanted or [v.name for v in session.get_inputs()] != [contract.input.name]:
        raise BundleError(
            f"{path.name} has {sorted(found - wanted, key=str)} where the contract says {sorted(wanted - found, key=str)}",
            hint=f"it was made for another architecture or size than {contract.arch} at {contract.size}",
        )


# ---- describe


def load(path: Path) -> onnx.ModelProto:
    """The model of a file, checked, with the shape and type of every tensor.  Raises BundleError."""
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
    except ImportError as exc:
        raise MissingExtra(EXTRA, str(exc.name), "reading ONNX") from exc
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load_from_string(_read(path)), check_type=True, strict_mode=True)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as exc:
        raise BundleError(f"{path.name} is damaged or not ONNX: {last_line(exc)}", hint="export it again") from exc
    return model


def describe(path: Path) -> ArtifactInfo:
    """Read an artifact's own account of itself.  Raises BundleError."""
    model = load(path)
    graph = model.graph
    stored = _stored(graph)
    weighted = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    dtypes = {node.name: _dtype(stored[node.input[1]].data_type) for node in weighted if node.input[1] in stored}
    mixed = set(dtypes.values()) != {"float32"}
    return ArtifactInfo(
        format=f"ONNX opset {max(o.version for o in model.opset_import if o.domain in ('', 'ai.onnx'))}",
        inputs=tuple(_tensor_info(v) for v in graph.input),
        outputs=tuple(_tensor_info(v) for v in graph.output),
        parameters=_parameters(stored, weighted),
        macs=_macs(graph, stored, weighted),
        metadata={p.key: p.value for p in model.metadata_props},
        float32_layers=tuple(node.name for node in weighted if mixed and dtypes.get(node.name) == "float32"),
    )


def _dtype(data_type: int) -> str:
    import onnx

    return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(data_type)))


def _tensor_info(value: onnx.ValueInfoProto) -> TensorInfo:
    tensor = value.type.tensor_type
    return TensorInfo(value.name, tuple(d.dim_value for d in tensor.shape.dim), _dtype(tensor.elem_type))


def _stored(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Each constant tensor to what is stored for it: itself, or what a DequantizeLinear node makes it from."""
    stored = {w.name: w for w in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            stored[node.output[0]] = stored[node.input[0]]
    return stored


def _parameters(stored: dict[str, onnx.TensorProto], weighted: list[onnx.NodeProto]) -> dict[str, int]:
    """Weights and biases of convolutions and linear layers; what several read is counted once."""
    read = {stored[name].name: stored[name] for node in weighted for name in node.input[1:] if name in stored}
    counts: Counter[str] = Counter()
    for weight in read.values():
        counts[_dtype(weight.data_type)] += prod(weight.dims)
    return dict(sorted(counts.items()))


def _macs(graph: onnx.GraphProto, stored: dict[str, onnx.TensorProto], weighted: list[onnx.NodeProto]) -> int:
    """Per output value, one multiply-add for each weight that goes into it."""
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.value_info, *graph.output)}
    total = 0
    for node in weighted:
        weight = stored.get(node.input[1])
        if weight is None or node.output[0] not in shapes:
            raise BundleError(f"{node.op_type} {node.name!r} has no stored weight or no known shape; not a file of ours")
        channels = shapes[node.output[0]][1]
        total += prod(shapes[node.output[0]]) * prod(weight.dims) // channels
    return total
