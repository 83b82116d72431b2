"""ONNX, through PyTorch's own exporter; run by ONNX Runtime.

One self-contained file.  Input ``target`` and outputs ``swapped`` and ``mask`` are float32, NCHW, in [0, 1], whatever the recipe.
Nodes have the names of the simplified graph's nodes, weights those of the PyTorch modules.

``quantize.py`` explains integers in the file, ``runner.OnnxRunner`` how ONNX Runtime executes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mfs_deploy import __version__
from mfs_deploy.backends import node_names
from mfs_deploy.backends.base import Conversion
from mfs_deploy.backends.onnx.describe import EXTRA as EXTRA
from mfs_deploy.backends.onnx.describe import describe as describe
from mfs_deploy.backends.onnx.float16 import to_float16
from mfs_deploy.backends.onnx.quantize import quantize
from mfs_deploy.backends.onnx.runner import open as open
from mfs_deploy.backends.quiet import error_text, quiet
from mfs_deploy.contract import Contract
from mfs_deploy.errors import ConversionError, MissingExtra
from mfs_deploy.quant.recipes import Format

if TYPE_CHECKING:
    import onnx
    from torch import fx

NAME = "onnx"
TITLE = "ONNX"
PACKAGES: tuple[str, ...] = ("onnx", "onnxruntime", "onnxscript")
LAYOUT = "NCHW"
RUNS_HERE = True
FILES: tuple[str, ...] = ("swap.onnx",)

# Number formats that an operation can have.
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


def convert(job: Conversion, directory: Path) -> None:
    """Write ``swap.onnx``.  Raises ConversionError."""
    node_names.check_names(job.graph, job.keep_float32)
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
            raise ConversionError(f"torch.onnx.export failed: {error_text(exc)}") from exc
    assert program is not None
    return program.model_proto  # type: ignore[no-any-return,unused-ignore]


def _strip(model: onnx.ModelProto) -> None:
    """Drop what the exporter adds: source paths, module scopes, PyTorch's build.  Shapes are inferred again later."""
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
    """Give each node and its output the name of the graph's node it came from.  Outputs keep the contract's names.

    Raises:
        ConversionError: the model has other operations than the graph, or a convolution has another's weights.
    """
    operations = [(KINDS[node.op_type], node) for node in model.graph.node if node.op_type in KINDS]
    outputs = {output.name for output in model.graph.output}
    renamed = {}
    for node, operation in node_names.match(graph, operations):
        if node.op == "call_module" and operation.input[1] != f"{node.target}.weight":
            raise ConversionError(f"node {node.name} has the weights {operation.input[1]}, must be {node.target}.weight")
        operation.name = node.name
        if operation.output[0] not in outputs:
            renamed[operation.output[0]] = node.name
    for operation in model.graph.node:
        for names in (operation.input, operation.output):
            names[:] = [renamed.get(name, name) for name in names]


def _checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, checked, with the shape and type of every tensor."""
    import onnx

    try:
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        onnx.checker.check_model(model)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as exc:
        raise ConversionError(f"the exported ONNX model is not valid: {error_text(exc)}") from exc
    return model
