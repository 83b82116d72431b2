"""What a backend is: a module with the names of ``Backend`` at top level.  ``all.py`` lists them.

A backend turns a simplified graph into an artifact on disk, opens an artifact with the runtime that will run it, and says what
an artifact holds.  It measures nothing and judges nothing; ``parity.py`` does.
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
    """All that a converter is told.

    Attributes:
        graph: the simplified network in float32, from ``graph.simplify``.
        recipe: one that ``all.check_recipe`` lets pass for the backend; no backend looks again.
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
        _ = self.formats  # raises now, and not when a converter has worked for seconds

    @property
    def formats(self) -> dict[str, Format]:
        """Number formats by node of ``graph``, in the order of execution."""
        from mfs_deploy.graph.operation_kinds import kinds

        kept = Format("float32", "float32")
        formats = self.recipe.formats(kinds(self.graph))
        return {name: kept if name in self.keep_float32 else wanted for name, wanted in formats.items()}

    @property
    def value_ranges(self) -> dict[str, Range]:
        """``ranges``, but of the input and the outputs what the contract says: pixels are bytes, so one step is one 255th of it."""
        (output,) = (node for node in self.graph.graph.nodes if node.op == "output")
        nodes = [*(node for node in self.graph.graph.nodes if node.op == "placeholder"), *output.all_input_nodes]
        specs = (self.contract.input, *self.contract.outputs)
        border = {node.name: Range(spec.low, spec.high) for node, spec in zip(nodes, specs, strict=True)}
        return {**self.ranges, **border}


@dataclass(frozen=True)
class TensorInfo:
    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class ArtifactInfo:
    """What an artifact on disk says of itself.

    Attributes:
        format: the file format and its version, such as "ONNX opset 20".
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
    """How many threads a runner uses: ``OMP_NUM_THREADS``, else one."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() and int(text) > 0 else 1


def check_target(target: Array, contract: Contract) -> None:
    """Raises UsageError where a runner is given something other than one frame of its contract."""
    if target.shape != contract.input.shape:
        raise UsageError(f"the input has shape {target.shape}, must be {contract.input.shape}")


class Runner(Protocol):
    """An artifact opened from disk.

    ``runtime`` names what executes it, with its version; ``pixels`` says that it gives ``swapped`` as bytes, rounded.
    """

    runtime: str
    pixels: bool

    def run(self, target: Array) -> tuple[Array, ...]:
        """One frame: (1, 3, S, S) RGB in [0, 1] to the contract's outputs, (1, C, S, S) float32 each."""
        ...

    def frame(self, target: Array) -> Callable[[], object]:
        """What an app does for every frame, to be timed or counted: input and outputs stay in the runtime's own layout."""
        ...


class Backend(Protocol):
    NAME: str  # as in --backends
    TITLE: str  # as people write it
    EXTRA: str  # the pip extra that brings PACKAGES
    PACKAGES: tuple[str, ...]  # distributions; their versions go into the manifest
    LAYOUT: str  # of the artifact's input and outputs: "NCHW", "CHW" or "NHWC"; of arrays, where it can also take pixel buffers
    RUNS_HERE: bool  # whether its runtime runs on this machine, so that its speed can be measured
    FORMATS: tuple[Format, ...]  # what an operation can have
    FILES: tuple[str, ...]  # what one artifact consists of; the first is the one to open

    def convert(self, job: Conversion, directory: Path) -> None:
        """Write FILES into ``directory``, and nothing else.

        Raises:
            ConversionError: the converter failed, with its own words.
        """
        ...

    def open(self, path: Path, contract: Contract) -> Runner:
        """Open the artifact whose first file is ``path``.

        Raises:
            BundleError: it is damaged, or its inputs and outputs are not the contract's.
        """
        ...

    def describe(self, path: Path) -> ArtifactInfo:
        """Read an artifact's own account of itself.  Raises BundleError where it cannot be read."""
        ...


ACTIVATED = "+activation"  # behind a node's name: its value once the activation that follows it is applied
Weights = dict[str, tuple[Array, Array | None]]  # by node: weight (O, I, H, W), and bias (O,) where there is one


def differences(sections: Sequence[tuple[str, int]]) -> dict[str, int]:
    """``layer_costs`` of sections that each do all that the one before does, and one layer more."""
    return {name: cost - before for (_, before), (name, cost) in pairwise([("", 0), *sections])}


class Layered(Protocol):
    """The inside of a backend's artifacts, by the graph's nodes: to find the layer at which a runtime departs from PyTorch."""

    def weights(self, path: Path) -> Weights:
        """What each convolution multiplies by, integers as the floats they stand for."""
        ...

    def values(self, path: Path, contract: Contract, target: Array) -> dict[str, Array]:
        """(1, C, H, W) of each node for one frame, where the runtime lets it be seen."""
        ...

    def sections(self, path: Path, contract: Contract, target: Array) -> Iterator[tuple[str, Callable[[], object]]]:
        """Pieces of work, in order, from whose costs ``layer_costs`` tells what each layer costs; names are of layers."""
        ...

    def layer_costs(self, sections: Sequence[tuple[str, int]]) -> dict[str, int]:
        """The cost of each layer from those of the sections, whatever is counted."""
        ...
