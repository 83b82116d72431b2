"""TFLite, through Google's litert-torch; run by LiteRT.

Input ``target`` (1, S, S, 3) and outputs ``swapped`` (1, S, S, 3) and ``mask`` (1, S, S, 1) are float32, NHWC, in [0, 1],
whatever the recipe, unless ``tflite_io`` asks for integers: then their step is 1/255, so that uint8 ``target`` and ``swapped`` are
pixels (the step of a mask computed in int8 is 1/256, as LOGISTIC requires; the file says so).  Tensors and the signature
"serving_default" have these names.  Other tensors have the names of the simplified graph's nodes.

The recipe fp16 at run time:

- Weights are stored in float16.  XNNPACK unpacks them once, when the model is opened.
- On a CPU with half-precision arithmetic (ARMv8.2 and later) XNNPACK also computes in float16, because the file permits it
  (metadata ``reduced_precision_support`` = ``fp16accfp16``, see XNNPACK_README): 57 dB against PyTorch on an emulated Cortex-A76.
  On other CPUs, most x86 among them, it computes in float32: 75 dB.
- XNNPACK takes this permission for all operators or none.  So where layers must stay in float32 the file does not permit it.  Then
  only those layers' weights are larger, and CPUs compute in float32.
- A GPU delegate computes in float16 by default, and has no per-layer setting: where ``describe`` lists ``float32_layers``, open it
  with precision loss not allowed (``setPrecisionLossAllowed(false)``).

Convolutions with few outputs work on blocks of pixels (``blocks``).  XNNPACK, NNAPI and Hexagon have the DEPTH_TO_SPACE that this
needs; no GPU delegate has been tried.

Integers:

- int8 weights with float activations are unpacked once, like float16 weights; a frame takes as long as in float32.
- int8 weights and activations run in integer kernels, except operations that a recipe leaves in floats.  XNNPACK has all of these
  kernels; on an x86 server a frame takes 0.65 of the time in float32.
- int8 weights and int16 activations lose nothing beyond the int8 weights, but XNNPACK has no such kernels and LiteRT's reference
  kernels take 24 times the time of float32 on a CPU.  They are for accelerators that have them.

XNNPACK_README: https://github.com/google-ai-edge/LiteRT/blob/3a653aa83cbb60902ff8a547bd619c83bf90d678/tflite/delegates/xnnpack/README.md
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfs_deploy.backends import node_names
from mfs_deploy.backends.base import (
    ArtifactInfo,
    Conversion,
)
from mfs_deploy.backends.quiet import error_text, quiet
from mfs_deploy.backends.tflite import describe as tflite_describe
from mfs_deploy.backends.tflite import model as tfl
from mfs_deploy.backends.tflite.blocks import split_into_blocks
from mfs_deploy.backends.tflite.edit import drop_unused
from mfs_deploy.backends.tflite.quantize import quantize
from mfs_deploy.backends.tflite.runner import EXTRA as EXTRA
from mfs_deploy.backends.tflite.runner import IO, read
from mfs_deploy.backends.tflite.runner import open as open
from mfs_deploy.backends.tflite.weights import shrink
from mfs_deploy.contract import Contract
from mfs_deploy.errors import (
    ConversionError,
    MissingExtra,
    UsageError,
)
from mfs_deploy.quant.recipes import Format

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

NAME = "tflite"
TITLE = "TFLite (LiteRT)"
PACKAGES: tuple[str, ...] = ("litert-torch", "ai-edge-litert")
LAYOUT = "NHWC"
RUNS_HERE = True
FILES: tuple[str, ...] = ("swap.tflite",)

# No progress on the terminal; and no oneDNN kernels, which print a notice there on CPUs with the newest instructions.
CONVERTER_SETTINGS = {"LITERT_TORCH_SHOW_PROGRESS": "n", "TF_ENABLE_ONEDNN_OPTS": "0"}

# Number formats that an operation can have.
FORMATS: tuple[Format, ...] = (
    Format("float32", "float32"),
    Format("float16", "float32"),
    Format("float16", "float16"),
    Format("int8", "float32"),
    Format("int8", "float16"),
    Format("int8", "int8"),
    Format("int8", "int16"),
)


HALF_ARITHMETIC = {"reduced_precision_support": "fp16accfp16"}  # XNNPACK ignores "fp16accfp32"


def convert(job: Conversion, directory: Path) -> None:
    """Write ``swap.tflite``.  See ``base.Backend``."""
    node_names.check_names(job.graph, job.keep_float32)
    if job.tflite_io not in IO:
        raise UsageError(f"TFLite has no input and outputs in {job.tflite_io!r}", hint=f"choose from: {', '.join(IO)}")
    path = directory / FILES[0]
    job = rewritten(job)
    lower(job.graph, job.contract, path)
    path.write_bytes(finish(path.read_bytes(), job))


def rewritten(job: Conversion) -> Conversion:
    """The job with its graph rewritten to take fewer of XNNPACK's instructions.

    Only integer convolutions are merged.  A frame in floats would gain 0.5%, and int8 weights in float arithmetic would lose 1 dB:
    a merged convolution has one step per output, the depthwise one had one per channel.
    """
    from mfs_deploy.graph import merge_pointwise

    graph, formats = copy.deepcopy(job.graph), job.formats

    def may(nodes: Sequence[fx.Node]) -> bool:
        names = {node.name for node in nodes}
        named = names & (set(job.recipe.layers) | job.keep_float32)
        return not named and all(formats[name].activations == "int8" for name in names)

    return replace(job, graph=graph) if merge_pointwise.apply(graph, may) else job


def lower(graph: fx.GraphModule, contract: Contract, path: Path) -> None:
    """Convert ``graph`` with litert-torch to ``path``, in NHWC."""
    import torch

    _, channels, height, width = contract.input.shape
    before = {name: os.environ.get(name) for name in CONVERTER_SETTINGS}
    os.environ.update(CONVERTER_SETTINGS)
    try:
        with quiet():
            litert_torch = _litert_torch()
            try:
                target = torch.zeros(1, height, width, channels)
                model = litert_torch.convert(_channels_last(graph, contract), sample_kwargs={contract.input.name: target})
                model.export(str(path))
            except Exception as exc:  # the converter passes on whatever torch.export, JAX or MLIR raise
                raise ConversionError(f"litert_torch.convert failed: {error_text(exc)}") from exc
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


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
    model.metadata = [entry for entry in model.metadata or [] if tfl.text(entry.name) in tflite_describe.OWN_METADATA]
    entries, formats = dict(job.metadata), job.formats
    if formats and all(f.activations == "float16" for f in formats.values()) and job.tflite_io == "float32":
        entries |= HALF_ARITHMETIC
    shrink(model, operators, {n: f.weights for n, f in formats.items() if f.weights != "float32" and not f.is_static})
    if job.recipe.is_static or job.tflite_io != "float32":
        quantize(model, operators, job)
    split_into_blocks(model)
    drop_unused(model)
    tfl.set_metadata(model, entries)
    return tfl.write(model)


def describe(path: Path) -> ArtifactInfo:
    """Read an artifact's description.  Raises BundleError."""
    return tflite_describe.info(read(path)[1])
