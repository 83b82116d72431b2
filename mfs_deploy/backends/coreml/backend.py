"""Core ML: an ML program for iOS 16 and later, in a ``.mlpackage``; for iOS 17 and later where values are integers.

With images in and out the app passes a pixel buffer and gets one back; the mask is 16-bit floats in [0, 1], so that paste-back's
threshold of 0.001 stays exact.  The two scalings between bytes and [0, 1] are computed in float32, whatever the recipe.
"""

from __future__ import annotations

import copy
import operator
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfs_deploy.backends import node_names
from mfs_deploy.backends.base import (
    Array,
    Conversion,
    Runner,
    check_target,
)
from mfs_deploy.backends.coreml import package as mil_package
from mfs_deploy.backends.coreml import program as mil
from mfs_deploy.backends.coreml import quantize
from mfs_deploy.backends.coreml.describe import IMAGE_COLOURS, check_interface, describe
from mfs_deploy.backends.quiet import error_text
from mfs_deploy.contract import INPUT_NAME, SWAPPED_NAME, Contract
from mfs_deploy.errors import BundleError, ConversionError, UsageError
from mfs_deploy.quant.recipes import Format

if TYPE_CHECKING:
    from torch import fx

    from mfs_deploy.backends.coreml.evaluator import Evaluator

NAME = "coreml"
TITLE = "Core ML"
EXTRA = "coreml"
PACKAGES: tuple[str, ...] = ("coremltools",)
LAYOUT = "NCHW"
RUNS_HERE = sys.platform == "darwin"  # elsewhere our own evaluator runs it
FILES: tuple[str, ...] = ("swap.mlpackage",)

# Number formats that an operation can have; for int8 values see ``quantize``.
FORMATS: tuple[Format, ...] = (
    Format("float32", "float32"),
    Format("float16", "float16"),
    *(Format(weights, activations) for weights in ("int8", "palette6", "palette4") for activations in ("float32", "float16")),
    Format("int8", "int8"),
)

__all__ = ["EXTRA", "FILES", "FORMATS", "LAYOUT", "NAME", "PACKAGES", "RUNS_HERE", "TITLE", "convert", "describe", "open"]

IO = ("image", "tensor")
# torch.export's operations, as node_names calls them.
KINDS = {"cat": "concat", "conv2d": "conv", "upsample_bilinear2d": "resize"}
KINDS |= {kind: kind for kind in ("add", "div", "leaky_relu", "linear", "mul", "pad", "sigmoid", "sub", "tanh")}
INPUT_SCALING = f"{INPUT_NAME}__scaled__"  # coremltools' name of the operation that applies ImageType's scale


# ---- convert


def convert(job: Conversion, directory: Path) -> None:
    """Write ``swap.mlpackage``.  See ``base.Backend``."""
    if job.coreml_io not in IO:
        raise UsageError(f"Core ML input and output {job.coreml_io!r}", hint=f"choose from: {', '.join(IO)}")
    node_names.check_names(job.graph, job.keep_float32)
    ct = mil_package.coremltools()
    with tempfile.TemporaryDirectory() as scratch:
        model, names, pinned = _convert(ct, job, Path(scratch))
        spec = model.get_spec()
        _check_pinned(spec, pinned)
        _name_operations(spec, names)
        _describe(spec, job)
        mil_package.write(directory / FILES[0], spec, Path(model.weights_dir))


def _convert(ct: Any, job: Conversion, scratch: Path) -> tuple[Any, dict[str, str], frozenset[str]]:
    """The coremltools model, its operations' names by node of the graph, and the names of operations kept in float32."""
    graph = with_pixel_output(job.graph) if job.coreml_io == "image" else job.graph
    with mil_package.quiet():
        try:
            exported = _export(graph, job.contract)
            names = exported_names(graph, exported)
            plan = _plan(job, names)
            pinned = _pinned(job, plan, names, exported)
            model = ct.convert(
                exported,
                convert_to="mlprogram",
                minimum_deployment_target=ct.target.iOS17 if plan.is_static else ct.target.iOS16,
                compute_precision=_precision(ct, plan, pinned),
                pass_pipeline=quantize.pipeline(ct, plan),
                package_dir=str(scratch / FILES[0]),
                skip_model_load=True,
                **_interface(ct, job.contract, image=job.coreml_io == "image"),
            )
        except Exception as exc:
            # The traceback's frames hold a temporary folder; its late removal would print a warning
            # (https://github.com/apple/coremltools/issues/2670).
            traceback.clear_frames(exc.__traceback__)
            if isinstance(exc, ConversionError):
                raise
            raise ConversionError(f"coremltools failed: {error_text(exc)}") from exc
    return model, names, pinned


def with_pixel_output(graph: fx.GraphModule) -> fx.GraphModule:
    """A copy of a graph whose first output is in [0, 255]: Core ML applies no scale to an image output."""
    graph = copy.deepcopy(graph)
    output = next(node for node in graph.graph.nodes if node.op == "output")
    swapped, *rest = output.args[0]
    with graph.graph.inserting_before(output):
        pixels = graph.graph.call_function(operator.mul, (swapped, 255.0))
    output.args = ((pixels, *rest),)
    graph.recompile()
    return graph


def _export(graph: fx.GraphModule, contract: Contract) -> Any:
    import torch

    return torch.export.export(graph, (torch.zeros(contract.input.shape),)).run_decompositions({})


def _interface(ct: Any, contract: Contract, *, image: bool) -> dict[str, Any]:
    """Names and kinds of inputs and outputs, as ``ct.convert`` takes them."""
    if image:
        colours = {name: getattr(ct.colorlayout, colour) for name, colour in IMAGE_COLOURS.items()}
        first = ct.ImageType(name=INPUT_NAME, shape=contract.input.shape, scale=1 / 255, color_layout=colours[INPUT_NAME])
        outputs = [ct.ImageType(name=spec.name, color_layout=colours[spec.name]) for spec in contract.outputs]
    else:
        first = ct.TensorType(name=INPUT_NAME, shape=contract.input.shape, dtype=np.float32)
        outputs = [ct.TensorType(name=spec.name, dtype=np.float32) for spec in contract.outputs]
    return {"inputs": [first], "outputs": outputs}


def _plan(job: Conversion, names: dict[str, str]) -> quantize.Plan:
    """What to store and compute in fewer bits than ``ct.convert`` does."""
    (output,) = (node for node in job.graph.graph.nodes if node.op == "output")
    nodes = {operation: node for node, operation in names.items()} | {INPUT_SCALING: INPUT_NAME}
    return quantize.Plan(job.formats, nodes, job.value_ranges, frozenset(node.name for node in output.all_input_nodes))


def _precision(ct: Any, plan: quantize.Plan, pinned: frozenset[str]) -> Any:
    if not plan.is_half:
        return ct.precision.FLOAT32
    return ct.transform.FP16ComputePrecision(op_selector=lambda op: op.name not in pinned)


def exported_names(graph: fx.GraphModule, exported: Any) -> dict[str, str]:
    """Node name in the graph to node name in its export, which coremltools keeps as the name of the operation.

    Raises:
        ConversionError: a kind of operation occurs more often in the one than in the other.
    """
    kinds = [(str(node.target.__name__).split(".")[0], node.name) for node in _operations(exported)]
    operations = [(KINDS[kind], name) for kind, name in kinds if kind in KINDS]
    return {node.name: name for node, name in node_names.match(graph, operations)}


def _operations(exported: Any) -> list[Any]:
    return [node for node in exported.graph.nodes if node.op == "call_function"]


def _pinned(job: Conversion, plan: quantize.Plan, names: dict[str, str], exported: Any) -> frozenset[str]:
    """Names of the converter's operations that stay in float32 in a float16 program."""
    if not plan.is_half:
        return frozenset()
    scalings = {INPUT_SCALING, _operations(exported)[-1].name} if job.coreml_io == "image" else set()
    return frozenset(scalings | {names[name] for name, format in plan.formats.items() if format.activations == "float32"})


def _check_pinned(spec: Any, pinned: frozenset[str]) -> None:
    """Raises ConversionError unless every pinned operation is in the program, with all its floats in float32."""
    from coremltools.proto import MIL_pb2

    if not pinned:
        return
    types = {value.name: value.type.tensorType.dataType for value in spec.mlProgram.functions["main"].inputs}
    missing = set(pinned)
    for op in _program(spec):
        types |= {value.name: value.type.tensorType.dataType for value in op.outputs}
        (name,) = op.attributes["name"].immediateValue.tensor.strings.values
        if name not in missing:
            continue
        missing.remove(name)
        read = [binding.name for argument in op.inputs.values() for binding in argument.arguments]
        half = [value for value in (*read, *(o.name for o in op.outputs)) if types[value] == MIL_pb2.FLOAT16]
        if half:
            raise ConversionError(f"coremltools put {name} into float16, which was to be kept in float32: {', '.join(half)}")
    if missing:
        raise ConversionError(f"coremltools lost operations that were to be kept in float32: {', '.join(sorted(missing))}")


def _program(spec: Any) -> Any:
    """The operations of a converted model."""
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset].operations


def _name_operations(spec: Any, names: dict[str, str]) -> None:
    """Give operations the names of the graph's nodes, which Xcode's performance report shows."""
    nodes = {operation: node for node, operation in names.items()}
    for op in _program(spec):
        values = op.attributes["name"].immediateValue.tensor.strings.values
        node = nodes.get(values[0].removesuffix("_cast_fp16"))
        if node is not None and op.type != "const":
            values[0] = node


def _describe(spec: Any, job: Conversion) -> None:
    """Replace coremltools' metadata, which has the date in it."""
    metadata = spec.description.metadata
    metadata.Clear()
    meaning = f"{job.contract.input.meaning} in, {job.contract.outputs[0].meaning} out"
    metadata.shortDescription = ": ".join(filter(None, (job.metadata.get("name"), meaning)))
    metadata.versionString = job.metadata.get("version", "")
    metadata.userDefined.update(job.metadata)
    meanings = {item.name: item.meaning for item in (job.contract.input, *job.contract.outputs)}
    for feature in (*spec.description.input, *spec.description.output):
        feature.shortDescription = meanings[feature.name]


# ---- open


def open(path: Path, contract: Contract) -> Runner:
    """Open with Core ML on macOS, with our own evaluator elsewhere.  See ``base.Backend``."""
    ct = mil_package.coremltools()
    spec, program = mil.load(path)
    image = check_interface(path, spec, program, contract)
    if RUNS_HERE:
        return CoreMLRunner(_compile(ct, path), contract, ct.__version__, image=image)
    from mfs_deploy.backends.coreml.evaluator import Evaluator

    return EvaluatorRunner(Evaluator(program), contract, ct.__version__, image=image)


def _compile(ct: Any, path: Path) -> Any:
    with mil_package.quiet():
        try:
            return ct.models.MLModel(str(path))
        except Exception as exc:
            raise BundleError(f"{path.name}: Core ML cannot load it: {error_text(exc)}") from exc


class EvaluatorRunner:
    """A package run without Core ML.

    With images, the target is rounded to the bytes a pixel buffer would hold; ``swapped`` is returned before the rounding to bytes
    that Core ML does on the way out, so that the network's own error can be seen.
    """

    pixels = False

    def __init__(self, evaluator: Evaluator, contract: Contract, version: str, *, image: bool) -> None:
        self.runtime = f"MIL evaluator (coremltools {version} spec)"
        self._evaluator = evaluator
        self._contract = contract
        self._image = image

    def run(self, target: Array) -> tuple[Array, ...]:
        check_target(target, self._contract)
        feed = np.rint(target * 255).clip(0, 255) if self._image else target
        kind = self._evaluator.program.types[INPUT_NAME].kind
        outputs = self._evaluator.run({INPUT_NAME: feed.astype(kind.numpy)})
        swapped, *rest = (outputs[spec.name].astype(np.float32) for spec in self._contract.outputs)
        return (swapped / np.float32(255) if self._image else swapped), *rest

    def frame(self, target: Array) -> Callable[[], object]:
        return partial(self.run, target)


class CoreMLRunner:
    """A package run by Core ML, on macOS.  With images, both the target and ``swapped`` are rounded to bytes."""

    def __init__(self, model: Any, contract: Contract, version: str, *, image: bool) -> None:
        self.runtime = f"Core ML {version} (macOS {platform.mac_ver()[0]})"
        self.pixels = image
        self._model = model
        self._contract = contract
        self._image = image

    def run(self, target: Array) -> tuple[Array, ...]:
        check_target(target, self._contract)
        if not self._image:
            outputs = self._model.predict({INPUT_NAME: target})
            return tuple(outputs[spec.name].astype(np.float32) for spec in self._contract.outputs)
        outputs = self._model.predict({INPUT_NAME: self._pixels(target)})
        swapped = np.asarray(outputs[SWAPPED_NAME].convert("RGB"), np.float32) / np.float32(255)
        rest = (np.asarray(outputs[spec.name], np.float32) for spec in self._contract.outputs[1:])  # PIL mode F
        return np.ascontiguousarray(swapped.transpose(2, 0, 1)[None]), *(mask[None, None] for mask in rest)

    def frame(self, target: Array) -> Callable[[], object]:
        check_target(target, self._contract)
        return partial(self._model.predict, {INPUT_NAME: self._pixels(target) if self._image else target})

    def _pixels(self, target: Array) -> Any:
        from PIL import Image

        return Image.fromarray(np.rint(target[0].transpose(1, 2, 0) * 255).clip(0, 255).astype(np.uint8))
