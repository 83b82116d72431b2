"""What a backend is: a module with the names of ``Backend`` at top level.  ``registry.py`` lists them.

A backend converts a simplified graph to an artifact on disk, opens an artifact in its runtime, and describes what an artifact
holds.  It measures and judges nothing; ``evaluate/parity.py`` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.contract import Contract
from mfs_deploy.errors import UsageError
from mfs_deploy.quant.recipes import Format, Range, Recipe

if TYPE_CHECKING:
    from torch import fx

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Conversion:
    """A converter's input.

    Attributes:
        graph: the simplified network in float32, from ``graph.simplify``.
        recipe: one that ``registry.check_recipe`` accepts for the backend; no backend checks it again.
        keep_float32: names of nodes of ``graph`` to be stored and computed in float32, whatever the recipe says.
        metadata: strings to embed where the format has a place for them.
        coreml_io: "image" for pixel buffers in and out, "tensor" for arrays.
        tflite_io: number format of the input and the outputs: "float32", "int8" or "uint8".
        ranges: of the input and of every node of ``graph``, by name, where the recipe is static; else empty.

    Raises:
        UsageError: the recipe names a layer that ``graph`` does not have.
    """

    graph: fx.GraphModule
    contract: Contract
    recipe: Recipe
    keep_float32: frozenset[str] = frozenset()
    metadata: dict[str, str] = field(default_factory=dict)
    coreml_io: str = "image"
    tflite_io: str = "float32"
    ranges: Mapping[str, Range] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _ = self.formats  # raises now, before a converter works for seconds

    @property
    def formats(self) -> dict[str, Format]:
        """Number formats by node of ``graph``, in the order of execution."""
        from mfs_deploy.graph.operation_kinds import kinds

        kept = Format("float32", "float32")
        formats = self.recipe.formats(kinds(self.graph))
        return {name: kept if name in self.keep_float32 else wanted for name, wanted in formats.items()}

    @property
    def value_ranges(self) -> dict[str, Range]:
        """``ranges``, with the contract's ranges for the input and the outputs: a byte of a pixel is 1/255 of the range."""
        (output,) = (node for node in self.graph.graph.nodes if node.op == "output")
        nodes = [*(node for node in self.graph.graph.nodes if node.op == "placeholder"), *output.all_input_nodes]
        specs = (self.contract.input, *self.contract.outputs)
        border = {node.name: Range(spec.low, spec.high) for node, spec in zip(nodes, specs, strict=True)}
        return {**self.ranges, **border}


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of an artifact.  ``scale * (stored - zero_point)`` is the value that a stored number stands for.

    Attributes:
        dtype: as people write it: a number type, or an image's kind and size.
        element: type of one stored number.
        kind: "array", or "image" for a pixel buffer.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    element: str
    kind: str = "array"
    scale: float = 1.0
    zero_point: int = 0


@dataclass(frozen=True)
class ArtifactInfo:
    """What an artifact on disk holds.

    Attributes:
        format: the file format and its version, such as "ONNX opset 20".
        inputs, outputs: in the file's own order.
        parameters: stored weight values by dtype name, such as {"float16": 491212}.
        macs: multiply-adds in convolutions for one frame.
        float32_layers: convolutions and linear layers with weights in float32, in an artifact that stores others in fewer bits.
    """

    format: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    parameters: dict[str, int]
    macs: int
    metadata: dict[str, str]
    float32_layers: tuple[str, ...] = ()


def threads() -> int:
    """The number of threads of a runner: ``OMP_NUM_THREADS``, else one."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() and int(text) > 0 else 1


def check_target(target: Array, contract: Contract) -> None:
    """Raises UsageError where ``target`` is not one frame of the contract."""
    if target.shape != contract.input.shape:
        raise UsageError(f"the input has shape {target.shape}, must be {contract.input.shape}")


class Runner(Protocol):
    """An artifact opened from disk.

    ``runtime`` is the runtime's name and version; ``pixels`` is true if ``swapped`` is rounded to bytes.
    """

    runtime: str
    pixels: bool

    def run(self, target: Array) -> tuple[Array, ...]:
        """One frame: (1, 3, S, S) RGB in [0, 1] to the contract's outputs, (1, C, S, S) float32 each."""
        ...

    def frame(self, target: Array) -> Callable[[], object]:
        """A function that does what an app does for every frame, to time or count it; arrays stay in the runtime's own layout."""
        ...


class Backend(Protocol):
    NAME: str  # as in --backends
    TITLE: str  # as people write it
    EXTRA: str  # the pip extra that brings PACKAGES
    PACKAGES: tuple[str, ...]  # distributions; their versions go into the manifest
    LAYOUT: str  # of the artifact's input and outputs: "NCHW", "CHW" or "NHWC"; of arrays, where it can also take pixel buffers
    RUNS_HERE: bool  # whether its runtime runs on this machine, so that its speed can be measured
    FORMATS: tuple[Format, ...]  # number formats that an operation can have
    FILES: tuple[str, ...]  # an artifact's files or folders; the first is the one to open

    def convert(self, job: Conversion, directory: Path) -> None:
        """Write FILES into ``directory``, and nothing else.

        Raises:
            ConversionError: the converter failed; the message is the converter's.
        """
        ...

    def open(self, path: Path, contract: Contract) -> Runner:
        """Open the artifact whose first file is ``path``.

        Raises:
            BundleError: it is damaged, or its inputs and outputs are not the contract's.
        """
        ...

    def describe(self, path: Path) -> ArtifactInfo:
        """Read an artifact's description.  Raises BundleError where it cannot be read."""
        ...


ACTIVATED = "+activation"  # after a node's name: its value after the activation that follows it
ConvWeights = dict[str, tuple[Array, Array | None]]  # by node: weight (O, I, H, W), and bias (O,) where there is one


def differences(sections: Sequence[tuple[str, int]]) -> dict[str, int]:
    """``layer_costs`` of sections that each compute the layers of the one before and one more."""
    return {name: cost - before for (_, before), (name, cost) in pairwise([("", 0), *sections])}


class Layered(Protocol):
    """Weights and values inside a backend's artifacts, by the graph's nodes: to find the first layer that differs from PyTorch."""

    def weights(self, path: Path) -> ConvWeights:
        """Weights and bias of each convolution, as floats; integers are dequantized."""
        ...

    def values(self, path: Path, contract: Contract, target: Array) -> dict[str, Array]:
        """The value (1, C, H, W) of each node for one frame, as far as the runtime gives access."""
        ...

    def sections(self, path: Path, contract: Contract, target: Array) -> Iterator[tuple[str, Callable[[], object]]]:
        """Named pieces of work, in order; ``layer_costs`` computes each layer's cost from theirs."""
        ...

    def layer_costs(self, sections: Sequence[tuple[str, int]]) -> dict[str, int]:
        """The cost of each layer, in the unit of the sections' costs."""
        ...
