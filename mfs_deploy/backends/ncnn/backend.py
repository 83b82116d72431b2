"""NCNN: TorchScript through ``pnnx`` to ``.param`` and ``.bin``; run with the ``ncnn`` wheel on the CPU.

The written graph holds the size of its input and the node names of the torch graph.  Storage and arithmetic have separate formats:
on arm64 ncnn computes in float16 by default, in whatever format the weights are stored.  So a recipe that computes in float32
marks each layer in the graph (``feature_masks.keep_float32``), and the app needs no option.  Only a convolution can be int8
(``int8``); the activation fused into it, and all other layers, compute in floats.  The graph is first rewritten for this runtime
(``rewrites``), so it has a few nodes more than the torch graph.  Biases are always stored as float32: the format has no other.

``feature_masks`` also works round layers that ncnn computes wrongly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mfs_deploy.backends import node_names
from mfs_deploy.backends.base import (
    Array,
    ArtifactInfo,
    Conversion,
    Runner,
    TensorInfo,
    check_target,
    threads,
)
from mfs_deploy.backends.ncnn import feature_masks, operations, pnnx, rewrites
from mfs_deploy.backends.ncnn import int8 as ncnn_int8
from mfs_deploy.backends.ncnn.files import (
    HINT,
    MAGIC,
    NcnnLayer,
    NcnnWeights,
    TaggedArray,
    parse_param,
    read_bin,
    scales,
    write_bin,
    write_param,
)
from mfs_deploy.contract import Contract
from mfs_deploy.errors import BundleError, ConversionError, MissingExtra
from mfs_deploy.quant.recipes import Format

NAME = "ncnn"
TITLE = "NCNN"
EXTRA = "ncnn"
PACKAGES: tuple[str, ...] = ("ncnn", "pnnx")
LAYOUT = "CHW"
RUNS_HERE = True
FILES: tuple[str, ...] = ("swap.param", "swap.bin")
FORMATS: tuple[Format, ...] = (  # what can be given to an operation
    *(Format(weights, values) for weights in ("float32", "float16") for values in ("float32", "float16")),
    Format("int8", "int8"),
)

MAX_FILE_BYTES = 1 << 28  # a baked network has 2 MB


def convert(job: Conversion, directory: Path) -> None:
    """Write FILES into ``directory``.

    Raises:
        MissingExtra: pnnx is not installed.
        CalibrationError: an int8 convolution's input has no range.
        ConversionError: pnnx failed, its result is not the graph, or a weight overflows float16.
    """
    node_names.check_names(job.graph, job.keep_float32)
    graph, formats = rewrites.rewritten(job)
    int8_inputs = ncnn_int8.inputs(graph, formats, job.value_ranges)
    layers, weights = pnnx.convert(graph, job.contract)
    node_of = operations.match(graph, layers, weights)
    layers, weights, layer_of = _named_after_nodes(layers, weights, node_of)
    layers = _with_contract(layers, job.contract)
    float32 = {layer_of[name] for name, wanted in formats.items() if wanted.activations == "float32"}
    float32 |= {layer_of[name] for name in ncnn_int8.beyond_float16(graph, job.ranges)}
    weights = _to_float16(weights, {name for name in weights if formats[name].weights == "float16"})
    layers, weights = ncnn_int8.quantize(layers, weights, int8_inputs, float32)
    layers = feature_masks.work_round(feature_masks.keep_float32(layers, float32))
    (directory / FILES[1]).write_bytes(write_bin(weights, layers))
    (directory / FILES[0]).write_bytes(write_param(layers).encode("ascii"))


def open(path: Path, contract: Contract) -> Runner:
    """Open ``swap.param`` and the ``swap.bin`` beside it.

    The files are read and checked here first: ncnn can crash on damaged ones (https://github.com/Tencent/ncnn/issues/3503).

    Raises:
        MissingExtra: ncnn is not installed.
        BundleError: damaged, or not of this contract.
    """
    runner = _NcnnRunner(load(path, contract), contract)
    runner.run(np.zeros(contract.input.shape, np.float32))
    return runner


def load(path: Path, contract: Contract, *, keep_values: bool = False) -> Any:
    """The ncnn.Net of checked files.  ``keep_values``: every blob can be extracted, not only the outputs."""
    layers, _ = read(path)
    _check_contract(layers, contract, path)
    net = _import_ncnn().Net()
    net.opt.num_threads = threads()
    net.opt.lightmode = not keep_values
    for part, file in ((net.load_param, path), (net.load_model, path.with_suffix(".bin"))):
        if part(str(file)) != 0:
            raise BundleError(f"ncnn cannot load {file.name}", hint=HINT)
    return net


def feed(net: Any, contract: Contract, target: Array) -> Any:
    """An extractor with one frame as its input."""
    check_target(target, contract)
    # Mat borrows numpy's memory: the array must outlive it, and the clone is ncnn's own.
    values = np.ascontiguousarray(target[0], np.float32)
    extractor = net.create_extractor()
    if extractor.input(contract.input.name, _import_ncnn().Mat(values).clone()) != 0:
        raise ConversionError(f"ncnn refused the input {contract.input.name}")
    return extractor


def describe(path: Path) -> ArtifactInfo:
    """Read the artifact without ncnn.  The format has no place for metadata.

    Raises:
        BundleError: it cannot be read.
    """
    layers, weights = read(path)
    shapes = operations.shapes(layers)
    dtypes = {name: arrays[0].values.dtype.name for name, arrays in weights.items()}
    parameters: dict[str, int] = {}
    for layer in layers:
        arrays = weights.get(layer.name, ())
        for stored in arrays[: len(arrays) - len(scales(layer, arrays))]:
            parameters[stored.values.dtype.name] = parameters.get(stored.values.dtype.name, 0) + stored.values.size
    is_mixed = set(dtypes.values()) != {"float32"}
    inputs, outputs = _ends(layers)
    return ArtifactInfo(
        format=f"ncnn param {MAGIC}",
        inputs=tuple(TensorInfo(b, shapes[b], "float32", "float32") for b in inputs),
        outputs=tuple(TensorInfo(b, shapes[b], "float32", "float32") for b in outputs),
        parameters=dict(sorted(parameters.items())),
        macs=operations.macs(layers),
        metadata={},
        float32_layers=tuple(n for n, dtype in dtypes.items() if is_mixed and dtype == "float32"),
    )


class _NcnnRunner:
    """ncnn's default options, as in an app: float16 where the CPU has it and the graph allows it."""

    pixels = False

    def __init__(self, net: Any, contract: Contract) -> None:
        self.runtime = f"ncnn {metadata.version('ncnn')} (CPU)"
        self._net, self._contract = net, contract

    def run(self, target: Array) -> tuple[Array, ...]:
        extractor = feed(self._net, self._contract, target)
        return tuple(self._extract(extractor, spec.name, spec.shape) for spec in self._contract.outputs)

    def frame(self, target: Array) -> Callable[[], object]:
        check_target(target, self._contract)
        mat = _import_ncnn().Mat(np.ascontiguousarray(target[0], np.float32)).clone()

        def compute() -> list[Any]:
            extractor = self._net.create_extractor()
            extractor.input(self._contract.input.name, mat)
            return [extractor.extract(spec.name) for spec in self._contract.outputs]

        return compute

    def _extract(self, extractor: Any, name: str, shape: tuple[int, ...]) -> Array:
        code, mat = extractor.extract(name)
        if code != 0:
            raise ConversionError(f"ncnn failed to compute {name}, with code {code}")
        values = np.array(mat, np.float32)[None]  # a copy; the Mat belongs to the extractor
        if values.shape != shape:
            raise BundleError(f"{name} has shape {values.shape}, must be {shape}", hint=HINT)
        return values


# ---- from pnnx's graph to ours


def _named_after_nodes(
    layers: tuple[NcnnLayer, ...], weights: NcnnWeights, layer_of: dict[str, str]
) -> tuple[tuple[NcnnLayer, ...], NcnnWeights, dict[str, str]]:
    """Give each layer the name of its node: of the convolution, where an activation is part of it."""
    name_of: dict[str, str] = {}
    for node, layer in layer_of.items():
        name_of.setdefault(layer, node)
    layers = tuple(replace(x, name=name_of.get(x.name, x.name)) for x in layers)
    weights = {name_of[old]: arrays for old, arrays in weights.items()}
    return layers, weights, {node: name_of[old] for node, old in layer_of.items()}


def _with_contract(layers: tuple[NcnnLayer, ...], contract: Contract) -> tuple[NcnnLayer, ...]:
    """The contract's blob names for pnnx's in0, out0 and out1, and the input's size, which pnnx leaves out."""
    names = {"in0": contract.input.name} | {f"out{i}": spec.name for i, spec in enumerate(contract.outputs)}
    _, channels, height, width = contract.input.shape

    def renamed(blobs: Iterable[str]) -> tuple[str, ...]:
        return tuple(names.get(b, b) for b in blobs)

    out = []
    for x in layers:
        x = replace(x, inputs=renamed(x.inputs), outputs=renamed(x.outputs))
        if x.type == "Input":
            x = replace(x, name=contract.input.name, params={0: str(width), 1: str(height), 2: str(channels)})
        out.append(x)
    return tuple(out)


def _to_float16(weights: NcnnWeights, names: set[str]) -> NcnnWeights:
    """Tagged arrays to float16, in the layers called ``names``.

    Rounded to nearest even, subnormals kept.  pnnx's own fp16=1 loses subnormals and pads with uninitialised memory.
    """
    out: NcnnWeights = {}
    for name, arrays in weights.items():
        if name not in names:
            out[name] = arrays
            continue
        worst = max(float(np.abs(s.values).max()) for s in arrays if s.tagged)
        if worst >= 65520:  # rounds to infinity
            raise ConversionError(f"{name} has a weight of {worst:.6g}, float16 ends at 65504", hint="use the recipe fp32")
        out[name] = tuple(TaggedArray(s.values.astype(np.float16), True) if s.tagged else s for s in arrays)
    return out


# ---- read


def read(path: Path) -> tuple[tuple[NcnnLayer, ...], NcnnWeights]:
    data = []
    for file in (path, path.with_suffix(".bin")):
        try:
            if file.stat().st_size > MAX_FILE_BYTES:
                raise BundleError(f"{file.name} has {file.stat().st_size} bytes, at most {MAX_FILE_BYTES} are read", hint=HINT)
            data.append(file.read_bytes())
        except OSError as exc:
            raise BundleError(f"{file.name} cannot be read: {exc.strerror}", hint=HINT) from exc
    if not data[0].isascii():
        raise BundleError(f"{path.name} is not text", hint=HINT)
    layers = parse_param(data[0].decode("ascii"))
    operations.shapes(layers)
    return layers, read_bin(data[1], layers)


def _ends(layers: tuple[NcnnLayer, ...]) -> tuple[list[str], list[str]]:
    """The input blobs, and the blobs that no layer reads, without the rest of a Slice."""
    read = {blob for x in layers for blob in x.inputs}
    made = [blob for x in layers if x.type != "Slice" for blob in x.outputs]
    return [x.outputs[0] for x in layers if x.type == "Input"], [b for b in made if b not in read]


def _check_contract(layers: tuple[NcnnLayer, ...], contract: Contract, path: Path) -> None:
    shapes = operations.shapes(layers)
    for have, want in zip(_ends(layers), ((contract.input,), contract.outputs), strict=True):
        found = {b: (1, *shapes[b]) for b in have}
        wanted = {spec.name: spec.shape for spec in want}
        if found != wanted:
            raise BundleError(f"{path.name} has {found}, must have {wanted}", hint="convert for this size again")


def _import_ncnn() -> Any:
    try:
        import ncnn
    except ImportError as exc:
        raise MissingExtra(EXTRA, "ncnn", "running an NCNN artifact") from exc
    return ncnn
