"""Reads ONNX artifacts: formats, parameters and multiply-adds."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mfs_deploy.backends.base import ArtifactInfo, TensorInfo
from mfs_deploy.backends.quiet import error_text
from mfs_deploy.errors import BundleError, MissingExtra

if TYPE_CHECKING:
    import onnx

EXTRA = "onnx"


def read_bytes(path: Path) -> bytes:
    """Raises BundleError where the file cannot be read."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise BundleError(f"cannot read {path.name}: {exc.strerror}") from exc


def load(path: Path) -> onnx.ModelProto:
    """The model of a file, checked, with the shape and type of every tensor.  Raises BundleError."""
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
    except ImportError as exc:
        raise MissingExtra(EXTRA, str(exc.name), "reading ONNX") from exc
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load_from_string(read_bytes(path)), check_type=True, strict_mode=True)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as exc:
        raise BundleError(f"{path.name} is damaged or not ONNX: {error_text(exc)}", hint="export it again") from exc
    return model


def describe(path: Path) -> ArtifactInfo:
    """Read an artifact's description.  Raises BundleError."""
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
    dtype = _dtype(tensor.elem_type)
    return TensorInfo(value.name, tuple(d.dim_value for d in tensor.shape.dim), dtype, element=dtype)


def _stored(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Each constant tensor to the one that is stored: itself, or the input of its DequantizeLinear node."""
    stored = {w.name: w for w in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            stored[node.output[0]] = stored[node.input[0]]
    return stored


def _parameters(stored: dict[str, onnx.TensorProto], weighted: list[onnx.NodeProto]) -> dict[str, int]:
    """Weights and biases of convolutions and linear layers; a shared one is counted once."""
    read = {stored[name].name: stored[name] for node in weighted for name in node.input[1:] if name in stored}
    counts: Counter[str] = Counter()
    for weight in read.values():
        counts[_dtype(weight.data_type)] += prod(weight.dims)
    return dict(sorted(counts.items()))


def _macs(graph: onnx.GraphProto, stored: dict[str, onnx.TensorProto], weighted: list[onnx.NodeProto]) -> int:
    """Multiply-adds: for each output value, one for each weight that it depends on."""
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.value_info, *graph.output)}
    total = 0
    for node in weighted:
        weight = stored.get(node.input[1])
        if weight is None or node.output[0] not in shapes:
            raise BundleError(f"{node.op_type} {node.name!r} has no stored weight or no known shape; not a file of ours")
        channels = shapes[node.output[0]][1]
        total += prod(shapes[node.output[0]]) * prod(weight.dims) // channels
    return total
