"""TFLite, through Google's litert-torch; run by LiteRT.

Input ``target`` (1, S, S, 3) and outputs ``swapped`` (1, S, S, 3) and ``mask`` (1, S, S, 1) are float32, NHWC, in [0, 1],
whatever the recipe; tensors and the signature "serving_default" bear these names.  Other tensors are called as the simplified
graph's nodes.

What the recipe fp16 means at run time:

- Weights are stored in float16.  XNNPACK unpacks them once, when the model is opened.
- On a CPU with half-precision arithmetic (ARMv8.2 and later) XNNPACK also computes in float16, because the file says that it may
  (metadata ``reduced_precision_support`` = ``fp16accfp16``): 57 dB against PyTorch on an emulated Cortex-A76.  On other CPUs,
  most x86 among them, it computes in float32: 75 dB.
- XNNPACK takes this permission for all operators or none.  So where layers must stay in float32 it is not given: the file
  is as small but for those layers' weights, and CPUs compute in float32.
- A GPU delegate computes in float16 throughout unless told otherwise, and knows nothing of single layers: where ``describe`` lists
  ``float32_layers``, open it with precision loss not allowed (``setPrecisionLossAllowed(false)``).
"""

from __future__ import annotations

import os
from collections import Counter
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfs_deploy.backends import fx_order
from mfs_deploy.backends import tflite_model as tfl
from mfs_deploy.backends.base import Array, ArtifactInfo, Conversion, TensorInfo, check_target, threads
from mfs_deploy.backends.quiet import last_line, quiet
from mfs_deploy.contract import Contract
from mfs_deploy.errors import BundleError, ConversionError, MissingExtra

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

NAME = "tflite"
TITLE = "TFLite (LiteRT)"
EXTRA = "tflite"
PACKAGES: tuple[str, ...] = ("litert-torch", "ai-edge-litert")
LAYOUT = "NHWC"
FILES: tuple[str, ...] = ("swap.tflite",)

SIGNATURE = "serving_default"
HALF_ARITHMETIC = {"reduced_precision_support": "fp16accfp16"}  # XNNPACK ignores "fp16accfp32"
OWN_METADATA = ("min_runtime_version", "reduced_precision_support")  # the runtime's, not ours to report


# ---- convert


def convert(job: Conversion, directory: Path) -> None:
    """Write ``swap.tflite``.  Raises ConversionError."""
    fx_order.check_names(job.graph, job.keep_float32)
    path = directory / FILES[0]
    _lower(job.graph, job.contract, path)
    path.write_bytes(finish(path.read_bytes(), job))


def _lower(graph: fx.GraphModule, contract: Contract, path: Path) -> None:
    """Write what litert-torch makes of ``graph``, in NHWC."""
    import torch

    _, channels, height, width = contract.input.shape
    before = os.environ.get("LITERT_TORCH_SHOW_PROGRESS")
    os.environ["LITERT_TORCH_SHOW_PROGRESS"] = "n"
    try:
        with quiet():
            litert_torch = _litert_torch()
            try:
                target = torch.zeros(1, height, width, channels)
                model = litert_torch.convert(_channels_last(graph, contract), sample_kwargs={contract.input.name: target})
                model.export(str(path))
            except Exception as exc:  # the converter stacks torch.export, JAX and MLIR, and passes on what any of them raises
                raise ConversionError(f"litert_torch.convert failed: {last_line(exc)}") from exc
    finally:
        if before is None:
            del os.environ["LITERT_TORCH_SHOW_PROGRESS"]
        else:
            os.environ["LITERT_TORCH_SHOW_PROGRESS"] = before


def _litert_torch() -> Any:
    try:
        import litert_torch
    except ImportError as exc:
        raise MissingExtra(EXTRA, str(exc.name), "the TFLite export") from exc
    return litert_torch


def _channels_last(graph: fx.GraphModule, contract: Contract) -> nn.Module:
    """``graph`` with NHWC in and out, and its outputs by name.  The converter pushes the transposes out of the model."""
    from torch import nn

    names = [output.name for output in contract.outputs]

    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = graph  # not "graph": torch.export takes that name for its own

        def forward(self, target: Tensor) -> dict[str, Tensor]:
            outputs = self.network(target.permute(0, 3, 1, 2))
            return {name: output.permute(0, 2, 3, 1) for name, output in zip(names, outputs, strict=True)}

    return ChannelsLast().eval()


def finish(lowered: bytes, job: Conversion) -> bytes:
    """The converter's output with names, the recipe's number formats, and metadata."""
    try:
        model = tfl.read(lowered)
    except ValueError as exc:
        raise ConversionError(f"litert_torch wrote a file that cannot be read back: {exc}") from exc
    contract = job.contract
    operators = tfl.name_tensors(model, job.graph, contract.input.name, tuple(o.name for o in contract.outputs))
    model.description = ""
    model.metadata = [entry for entry in model.metadata or [] if tfl.text(entry.name) in OWN_METADATA]
    entries = dict(job.metadata)
    if job.recipe.is_float16:
        tfl.to_float16(model, [operators[name] for name in sorted(job.keep_float32)])
        if job.recipe.activations == "float16" and not job.keep_float32:
            entries |= HALF_ARITHMETIC
    tfl.set_metadata(model, entries)
    return tfl.write(model)


# ---- open


class TfliteRunner:
    """An interpreter on the CPU with XNNPACK and ``OMP_NUM_THREADS`` threads, else one."""

    pixels = False

    def __init__(self, interpreter: Any, contract: Contract) -> None:
        self.runtime = f"LiteRT {version('ai-edge-litert')} (XNNPACK CPU)"
        self._signature = interpreter.get_signature_runner(SIGNATURE)
        self._contract = contract
        self._outputs = tuple(output.name for output in contract.outputs)

    def run(self, target: Array) -> tuple[Array, Array]:
        check_target(target, self._contract)
        found = self._signature(**{self._contract.input.name: np.ascontiguousarray(target.transpose(0, 2, 3, 1))})
        swapped, mask = (np.ascontiguousarray(found[name].transpose(0, 3, 1, 2)) for name in self._outputs)
        return swapped, mask


def open(path: Path, contract: Contract) -> TfliteRunner:
    """Open an artifact in LiteRT.  Raises BundleError."""
    data, model = _read(path)
    _check_contract(path, model, contract)
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=data, num_threads=threads())
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as exc:
        raise _damaged(path, exc) from exc
    return TfliteRunner(interpreter, contract)


def _read(path: Path) -> tuple[bytes, tfl.Model]:
    try:
        import ai_edge_litert  # noqa: F401
    except ImportError as exc:
        raise MissingExtra(EXTRA, str(exc.name), "reading TFLite") from exc
    try:
        data = path.read_bytes()
        return data, tfl.read(data)
    except OSError as exc:
        raise BundleError(f"cannot read {path.name}: {exc.strerror}") from exc
    except ValueError as exc:
        raise _damaged(path, exc) from exc


def _damaged(path: Path, exc: BaseException) -> BundleError:
    return BundleError(f"{path.name} is damaged or not TFLite: {last_line(exc)}", hint="export it again")


def _check_contract(path: Path, model: tfl.Model, contract: Contract) -> None:
    inputs, outputs = _interface(model)
    found = {(t.name, t.shape, t.dtype) for t in (*inputs, *outputs)}
    wanted = set()
    for spec in (contract.input, *contract.outputs):
        n, c, h, w = spec.shape
        wanted.add((spec.name, (n, h, w, c), "float32"))
    if found != wanted or [t.name for t in inputs] != [contract.input.name]:
        raise BundleError(
            f"{path.name} has {sorted(found - wanted)} where the contract says {sorted(wanted - found)}",
            hint=f"it was made for another architecture or size than {contract.arch} at {contract.size}",
        )


def _interface(model: tfl.Model) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Inputs and outputs by the signature's names; none if there is no such signature."""
    tensors = model.subgraphs[0].tensors
    for signature in model.signatureDefs or []:
        if tfl.text(signature.signatureKey) == SIGNATURE:
            inputs, outputs = (
                tuple(TensorInfo(tfl.text(e.name), tfl.shape(t), tfl.dtype(t)) for e in entries for t in [tensors[e.tensorIndex]])
                for entries in (signature.inputs, signature.outputs)
            )
            return inputs, outputs
    return (), ()


# ---- describe


def describe(path: Path) -> ArtifactInfo:
    """Read an artifact's own account of itself.  Raises BundleError."""
    model = _read(path)[1]
    inputs, outputs = _interface(model)
    tensors = model.subgraphs[0].tensors
    stored = _stored(model)
    filters = {int(o.inputs[tfl.FILTER]): tensors[stored[int(o.inputs[tfl.FILTER])]] for _, o in tfl.weighted(model)}
    mixed = any(tfl.dtype(t) == "float16" for t in filters.values())
    return ArtifactInfo(
        format=f"TFLite schema {model.version}",
        inputs=inputs,
        outputs=outputs,
        parameters=_parameters(model, stored),
        macs=sum(_macs(model, kind, operator) for kind, operator in tfl.weighted(model)),
        metadata={k: v for k, v in tfl.metadata(model).items() if k not in OWN_METADATA},
        float32_layers=tuple(
            tfl.text(tensors[int(o.outputs[0])].name)
            for _, o in tfl.weighted(model)
            if mixed and tfl.dtype(filters[int(o.inputs[tfl.FILTER])]) == "float32"
        ),
    )


def _stored(model: tfl.Model) -> dict[int, int]:
    """Each tensor to the one its values are stored in: itself, or what a DEQUANTIZE operator reads to make it."""
    graph = model.subgraphs[0]
    stored = {i: i for i in range(len(graph.tensors))}
    for operator in graph.operators:
        if tfl.kind(model, operator) == "DEQUANTIZE":
            stored[int(operator.outputs[0])] = int(operator.inputs[0])
    return stored


def _parameters(model: tfl.Model, stored: dict[int, int]) -> dict[str, int]:
    """Weights and biases of convolutions and linear layers, but not the biases of zeros that the format asks for."""
    read = set()
    for kind, operator in tfl.weighted(model):
        read |= {stored[int(i)] for i in operator.inputs[tfl.FILTER : tfl.FILTER + 1]}
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
