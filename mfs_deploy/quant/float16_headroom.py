"""Float16 overflow of a baked network, measured on crops.

Predicted weights differ from person to person, so one person's network may overflow where another's does not.  Values are measured
in float32; every backend keeps operations in float32 whose values come within ``FLOAT16_HEADROOM`` of 65,504.
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
    """The largest absolute values of a simplified graph.

    Attributes:
        largest: by node.
        worst: the node with the largest.
        ratio: 65,504 over that value; below 1, float16 overflows.
        keep_float32: operations that read or write a value too large for float16.
    """

    largest: dict[str, float]
    worst: str
    ratio: float
    keep_float32: frozenset[str]


def scan(graph: fx.GraphModule, crops: NDArray[np.float32]) -> Headroom:
    """Measure every value of a simplified graph on (N, 3, S, S) crops in [0, 1]."""
    recorder = _Recorder(graph)
    with torch.inference_mode():
        recorder.run(torch.from_numpy(crops))
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
    """Largest |value|; infinite if one is NaN."""
    value = float(tensor.detach().abs().max())
    return math.inf if math.isnan(value) else value
