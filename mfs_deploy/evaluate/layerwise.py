"""The error of a runtime to PyTorch per layer, and the first layer that adds an error of its own.

PyTorch computes with the artifact's own weights, so the quantization error of weights does not count, only the runtime's
arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.backends.base import ACTIVATED, ConvWeights
from mfs_deploy.errors import BundleError
from mfs_deploy.quant.recipes import Recipe

if TYPE_CHECKING:
    from torch import fx

Array = NDArray[np.float32]
# A layer is bad if its error is this many times the error of its inputs, and of the rounding in its recipe's arithmetic.
GROWTH = 4.0
ROUNDING = {"float32": 1e-4, "float16": 5e-3, "int8": 0.1, "int16": 1e-2}


@dataclass(frozen=True)
class LayerError:
    """One node: its error, and the largest error of its inputs, each as RMS over the RMS of PyTorch's values."""

    name: str
    kind: str
    error: float
    before: float

    def is_bad(self, rounding: float) -> bool:
        return not self.error <= GROWTH * max(self.before, rounding)  # also for NaN

    def __str__(self) -> str:
        return f"{self.name} ({self.kind}) is off by {self.error:.2g} of its size where what it reads is off by {self.before:.2g}"


def compare(arch: str, weights: ConvWeights, got: Mapping[str, Array], target: Array) -> list[LayerError]:
    """The error of every node that the runtime makes visible, in the order of execution.

    Args:
        weights, got: as ``base.Layered`` gives them.
        target: (1, 3, S, S).

    Raises:
        BundleError: the weights are not those of this version's graph.
    """
    from mfs_deploy.graph.operation_kinds import kinds

    graph = _graph_with_artifact_weights(arch, weights)
    true = _values(graph, target)
    kind_of = kinds(graph)
    errors: dict[str, float] = {}
    found = []
    for node in graph.graph.nodes:
        before = max((errors.get(n.name, 0.0) for n in node.all_input_nodes), default=0.0)
        value = got.get(node.name)
        source = node.all_input_nodes[0].name if node.all_input_nodes else ""
        if value is None and source + ACTIVATED in got and kind_of.get(node.name) in ("leaky_relu", "sigmoid", "tanh"):
            value = got[source + ACTIVATED]
        errors[node.name] = before
        if value is not None and node.name in true and node.op.startswith("call"):
            errors[node.name] = _error(value, true[node.name])
            found.append(LayerError(node.name, kind_of.get(node.name, str(node.target)), errors[node.name], before))
    return found


def first_bad_layer(layers: list[LayerError], rounding: float) -> LayerError | None:
    return next((layer for layer in layers if layer.is_bad(rounding)), None)


def rounding(recipe: Recipe) -> float:
    """The error that rounding alone gives a layer in the coarsest arithmetic of a recipe."""
    return max(ROUNDING[wanted.activations] for wanted in recipe.all_formats())


def _error(got: Array, true: Array) -> float:
    if got.shape != true.shape:
        return float("inf")
    error = np.sqrt(np.mean((got.astype(np.float64) - true) ** 2))
    return float(error / max(float(np.sqrt(np.mean(true.astype(np.float64) ** 2))), 1e-12))


def _graph_with_artifact_weights(arch: str, weights: ConvWeights) -> fx.GraphModule:
    """The simplified graph of an architecture, with an artifact's weights."""
    import torch
    from torch import nn

    from mfs_deploy import architectures
    from mfs_deploy.graph import RUNTIME_REWRITES, simplify
    from mfs_deploy.graph.trace import module_of

    net = architectures.get(arch).blank().eval()
    for parameter in net.parameters():  # biases of a blank network are zeros, which a rewrite would drop
        torch.nn.init.uniform_(parameter, 0.1, 1.0)
    graph = simplify(net)
    for rewrite in RUNTIME_REWRITES:
        rewrite.apply(graph, lambda nodes: _is_rewritten(graph, nodes, weights))
    for node in graph.graph.nodes:
        conv: Any = module_of(graph, node, nn.Conv2d)
        if conv is None:
            continue
        if node.name not in weights or weights[node.name][0].shape != tuple(conv.weight.shape):
            raise BundleError(
                f"the artifact has no weights for {node.name}, or of another shape", hint="export it with this version"
            )
        weight, bias = weights[node.name]
        conv.weight = nn.Parameter(torch.from_numpy(weight.copy()))
        conv.bias = None if bias is None else nn.Parameter(torch.from_numpy(bias.copy()))
    return graph


def _is_rewritten(graph: fx.GraphModule, nodes: Sequence[fx.Node], weights: ConvWeights) -> bool:
    """Whether the artifact has none of these convolutions in their simplified form, so that its backend rewrote them."""
    from torch import nn

    from mfs_deploy.graph.trace import module_of

    here = [(node.name, conv) for node in nodes if (conv := module_of(graph, node, nn.Conv2d)) is not None]
    return all(name not in weights or weights[name][0].shape != tuple(conv.weight.shape) for name, conv in here)


def _values(graph: fx.GraphModule, target: Array) -> dict[str, Array]:
    import torch
    from torch import Tensor, fx

    found: dict[str, Array] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, Tensor):
                found[n.name] = result.numpy()
            return result

    with torch.inference_mode():
        Recorder(graph).run(torch.from_numpy(target))
    return found
