"""Simulated quantization in PyTorch: every weight and value is rounded as its format rounds it.

Runtimes round at different places (ncnn not between a convolution and its activation, TFLite after every operation).  The
simulation rounds after every operation, and the floating-point inputs of integer operations, as TFLite and a QDQ graph do.  That is
exact enough to find sensitive layers in a second instead of by forty conversions; the runtimes' own outputs are measured
afterwards.

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
    """The network's outputs, (N, C, S, S) each, on (N, 3, S, S) targets in [0, 1].

    Args:
        formats: by node; the others are not rounded.
        ranges: of every node with integer values.
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
        number_format = self._formats.get(n.name)
        if number_format is None or not isinstance(result, Tensor):
            return result
        return round_values(result, number_format.activations, self._ranges.get(n.name))

    def map_nodes_to_values(self, args: Any, n: fx.Node) -> Any:
        """The inputs of ``n``, rounded where ``n`` computes in integers and its input is in floating point."""
        number_format = self._formats.get(n.name)

        def read(source: fx.Node) -> Any:
            value, source_format = self.env[source], self._formats.get(source.name)
            if number_format is None or not number_format.is_static or (source_format is not None and source_format.is_static):
                return value
            return round_values(value, number_format.activations, self._ranges.get(source.name))

        return fx.node.map_arg(args, read)


def round_weights(weight: Tensor, kind: str) -> Tensor:
    """(O, ...) weights, rounded to what the format stores."""
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


def round_values(value: Tensor, kind: str, value_range: Range | None) -> Tensor:
    """Values, rounded to what the format holds; those outside the range are clipped."""
    if kind == "float32":
        return value
    if kind == "float16":
        return value.half().float()
    assert value_range is not None
    scale = scale_of_range(kind, value_range)
    return ((value / scale.step).round() + scale.zero).clamp(*LIMITS[kind]).sub(scale.zero) * scale.step
