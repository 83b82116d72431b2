"""What number formats do to a network, computed in PyTorch: every weight and value rounded as its format rounds it.

Runtimes differ in where they round (ncnn not between a convolution and its activation, TFLite after every operation); here it is
after every operation, and before one on integers that reads floats, as TFLite and a QDQ graph do.  Good enough to tell which layers
are hurt, in a second and not by forty conversions; what counts in the end is what the runtime gives.

Integers are those of ``scales``, palettes those of ``palettes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from mfs_deploy.quant.palettes import to_palette
from mfs_deploy.quant.recipes import Format, Range
from mfs_deploy.quant.scales import LIMITS, scale_of_range, weights_to_int8

BATCH = 8


def run(graph: fx.GraphModule, formats: Mapping[str, Format], ranges: Mapping[str, Range], targets: Tensor) -> tuple[Tensor, ...]:
    """The network's outputs, (N, C, S, S) each, of (N, 3, S, S) targets.

    Args:
        formats: by node name; what is not named stays as it is.
        ranges: of every node whose values are integers.
    """
    simulator = _Simulator(graph, formats, ranges)
    with torch.inference_mode():
        parts = [simulator.run(batch) for batch in torch.split(targets, BATCH)]
    return tuple(torch.cat(of_all) for of_all in zip(*parts, strict=True))


class _Simulator(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule, formats: Mapping[str, Format], ranges: Mapping[str, Range]) -> None:
        super().__init__(graph)
        self._formats, self._ranges = formats, ranges
        self._weights = {
            name: round_weights(graph.get_submodule(str(node.target)).weight, formats[name].weights)  # type: ignore[arg-type]
            for node in graph.graph.nodes
            if node.op == "call_module" and (name := node.name) in formats
        }

    def run_node(self, n: fx.Node) -> object:
        if n.name in self._weights:
            module = self.module.get_submodule(str(n.target))
            (value,) = self.fetch_args_kwargs_from_env(n)[0]
            result: object = torch.func.functional_call(module, {"weight": self._weights[n.name]}, (value,))
        else:
            result = super().run_node(n)
        wanted = self._formats.get(n.name)
        if wanted is None or not isinstance(result, Tensor):
            return result
        return round_values(result, wanted.activations, self._ranges.get(n.name))

    def map_nodes_to_values(self, args: Any, n: fx.Node) -> Any:
        """What ``n`` reads: an operation on integers has what comes in floating point rounded before it."""
        wanted = self._formats.get(n.name)

        def read(source: fx.Node) -> Any:
            value, given = self.env[source], self._formats.get(source.name)
            if wanted is None or not wanted.is_static or (given is not None and given.is_static):
                return value
            return round_values(value, wanted.activations, self._ranges.get(source.name))

        return fx.node.map_arg(args, read)


def round_weights(weight: Tensor, kind: str) -> Tensor:
    """(O, ...) weights as the format stores them."""
    if kind == "float32":
        return weight
    if kind == "float16":
        return weight.half().float()
    exact = weight.detach().numpy()
    if kind == "int8":
        integers, steps = weights_to_int8(exact, axis=0)
        return torch.from_numpy(integers * steps.reshape(-1, *[1] * (exact.ndim - 1)))
    table, indices = to_palette(exact, int(kind.removeprefix("palette")))
    return torch.from_numpy(table[indices].reshape(exact.shape))


def round_values(value: Tensor, kind: str, seen: Range | None) -> Tensor:
    """Values as the format holds them; those outside the range are cut off."""
    if kind == "float32":
        return value
    if kind == "float16":
        return value.half().float()
    assert seen is not None
    scale = scale_of_range(kind, seen)
    return ((value / scale.step).round() + scale.zero).clamp(*LIMITS[kind]).sub(scale.zero) * scale.step
