"""Reads a TFLite artifact: inputs and outputs, parameters and multiply-adds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import prod
from typing import Any

from mfs_deploy.backends.base import ArtifactInfo, TensorInfo
from mfs_deploy.backends.tflite import model as tfl
from mfs_deploy.backends.tflite.blocks import blocks

SIGNATURE = "serving_default"
OWN_METADATA = ("min_runtime_version", "reduced_precision_support")  # the runtime's


def info(model: tfl.Model) -> ArtifactInfo:
    inputs, outputs = interface(model)
    tensors = model.subgraphs[0].tensors
    origin, made_of = stored(model), blocks(model)
    filters = {int(o.inputs[tfl.FILTER]): tensors[origin[int(o.inputs[tfl.FILTER])]] for _, o in tfl.weighted(model)}
    mixed = any(tfl.dtype(t) != "float32" for t in filters.values())
    return ArtifactInfo(
        format=f"TFLite schema {model.version}",
        inputs=inputs,
        outputs=outputs,
        parameters=_parameters(model, origin),
        macs=sum(_macs(model, kind, operator) for kind, operator in tfl.weighted(model)),
        metadata={k: v for k, v in tfl.metadata(model).items() if k not in OWN_METADATA},
        float32_layers=tuple(
            tfl.text(tensors[made_of.get(int(o.outputs[0]), int(o.outputs[0]))].name)
            for _, o in tfl.weighted(model)
            if mixed and tfl.dtype(filters[int(o.inputs[tfl.FILTER])]) == "float32"
        ),
    )


def borders(model: tfl.Model) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """Input and output tensors with the names the signature gives them; none if there is no such signature.

    They are in the model's order; the signature's own is that of the names.
    """
    graph = model.subgraphs[0]
    for signature in model.signatureDefs or []:
        if tfl.text(signature.signatureKey) == SIGNATURE:
            return _named(graph, signature.inputs, graph.inputs), _named(graph, signature.outputs, graph.outputs)
    return [], []


def _named(graph: Any, entries: Iterable[Any], order: Iterable[int]) -> list[tuple[str, Any]]:
    names = {int(entry.tensorIndex): tfl.text(entry.name) for entry in entries}
    return [(names[index], graph.tensors[index]) for index in map(int, order) if index in names]


def interface(model: tfl.Model) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """``borders`` as ``TensorInfo``."""
    inputs, outputs = (tuple(_info(name, tensor) for name, tensor in pairs) for pairs in borders(model))
    return inputs, outputs


def _info(name: str, tensor: Any) -> TensorInfo:
    dtype, (steps, zeros) = tfl.dtype(tensor), tfl.scales(tensor)
    if len(steps) != 1 or len(zeros) != 1:  # floating point
        return TensorInfo(name, tfl.shape(tensor), dtype, dtype)
    return TensorInfo(name, tfl.shape(tensor), dtype, dtype, scale=steps[0], zero_point=zeros[0])


def stored(model: tfl.Model) -> dict[int, int]:
    """Each tensor to the one that is stored: itself, or the constant input of its DEQUANTIZE operator."""
    graph = model.subgraphs[0]
    found = {i: i for i in range(len(graph.tensors))}
    for operator in graph.operators:
        if tfl.kind(model, operator) == "DEQUANTIZE" and tfl.values(model, int(operator.inputs[0])) is not None:
            found[int(operator.outputs[0])] = int(operator.inputs[0])
    return found


def _parameters(model: tfl.Model, origin: dict[int, int]) -> dict[str, int]:
    """Weights and biases of convolutions and linear layers, without the zero biases that the format requires."""
    read = set()
    for kind, operator in tfl.weighted(model):
        read |= {origin[int(i)] for i in operator.inputs[tfl.FILTER : tfl.FILTER + 1]}
        for bias in operator.inputs[tfl.BIAS[kind] :]:
            values = tfl.values(model, int(bias)) if bias != -1 else None
            if values is not None and values.any():
                read.add(int(bias))
    counts: Counter[str] = Counter()
    for i in read:
        tensor = model.subgraphs[0].tensors[i]
        counts[tfl.dtype(tensor)] += prod(tfl.shape(tensor))
    return dict(sorted(counts.items()))


def _macs(model: tfl.Model, kind: str, operator: tfl.Operator) -> int:
    """Filters are (O, H, W, I), for DEPTHWISE_CONV_2D (1, H, W, O), for FULLY_CONNECTED (O, I)."""
    tensors = model.subgraphs[0].tensors
    weight = tfl.shape(tensors[int(operator.inputs[tfl.FILTER])])
    if kind == "TRANSPOSE_CONV":
        return prod(tfl.shape(tensors[int(operator.inputs[2])])[:3]) * prod(weight)
    per_output = prod(weight[1:3]) if kind == "DEPTHWISE_CONV_2D" else prod(weight[1:])
    return prod(tfl.shape(tensors[int(operator.outputs[0])])) * per_output
