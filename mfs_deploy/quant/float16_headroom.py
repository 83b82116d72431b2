"""Which values of a baked network would not fit in float16, on the crops at hand.

Predicted weights differ from person to person, so a network that is safe for one may overflow for another.  Values are scanned in
float32; those that come within a factor of 65,504 are to be kept in float32 by every backend.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from mfs_deploy.contract import FLOAT16_HEADROOM, FLOAT16_MAX


@dataclass(frozen=True)
class Headroom:
    """Largest absolute value by node of the simplified graph, and what follows from it.

    Attributes:
        largest: node name to the largest |value| it gave.
        worst: the node with the largest one.
        ratio: 65,504 over that value; below 1 float16 overflows.
        keep_float32: operations that read or write a value too large for float16.
    """

    largest: dict[str, float]
    worst: str
    ratio: float
    keep_float32: frozenset[str]


def scan(graph: fx.GraphModule, targets: NDArray[np.float32]) -> Headroom:
    """Run (N, 3, S, S) targets through a simplified graph and look at every value on the way."""
    recorder = _Recorder(graph)
    with torch.inference_mode():
        recorder.run(torch.from_numpy(targets))
    # A weight may overflow by itself; it counts against the value its convolution makes.
    for node in graph.graph.nodes:
        if node.op == "call_module":
            weights = graph.get_submodule(str(node.target)).parameters()
            recorder.largest[node.name] = max(recorder.largest[node.name], *map(_largest, weights))
    worst = max(recorder.largest, key=recorder.largest.__getitem__)
    too_large = {name for name, value in recorder.largest.items() if value * FLOAT16_HEADROOM > FLOAT16_MAX}
    keep = {
        node.name
        for node in graph.graph.nodes
        if node.op in ("call_module", "call_function")
        and (node.name in too_large or any(source.name in too_large for source in node.all_input_nodes))
    }
    return Headroom(recorder.largest, worst, FLOAT16_MAX / max(recorder.largest[worst], 1e-30), frozenset(keep))


class _Recorder(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.largest: dict[str, float] = {}

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self.largest[n.name] = _largest(value)
        return value


def _largest(tensor: torch.Tensor) -> float:
    """Largest |value|; infinite where one is not a number."""
    value = float(tensor.detach().abs().max())
    return math.inf if math.isnan(value) else value
