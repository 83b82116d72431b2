"""What number formats do to a network, computed in PyTorch: every weight and value rounded as its format rounds it.

Runtimes differ in where they round (ncnn not between a convolution and its activation, TFLite after every operation); here it is
after every operation, as TFLite and a QDQ graph do.  Good enough to tell which layers are hurt, in a second and not by forty
conversions; what counts in the end is what the runtime gives.

Integers as the LiteRT quantization specification has them: weights int8 per output channel in [-127, 127] without zero point, int8
values with a scale and a zero point such that 0 is exact, int16 values without zero point.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from mfs_deploy.quant.recipe import Format, Range

BATCH = 8


def run(
    graph: fx.GraphModule, formats: Mapping[str, Format], ranges: Mapping[str, Range], targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Swapped (N, 3, S, S) and mask (N, 1, S, S) of (N, 3, S, S) targets.

    Args:
        formats: by node name; what is not named stays as it is.
        ranges: of every node whose values are integers.
    """
    simulator = _Simulator(graph, formats, ranges)
    with torch.inference_mode():
        parts = [simulator.run(batch) for batch in torch.split(targets, BATCH)]
    swapped, mask = zip(*parts, strict=True)
    return torch.cat(swapped), torch.cat(mask)


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
            module = self.module.get_submodule(str(n.target))  # type: ignore[union-attr]
            (value,) = self.fetch_args_kwargs_from_env(n)[0]
            result: object = torch.func.functional_call(module, {"weight": self._weights[n.name]}, (value,))
        else:
            result = super().run_node(n)
        wanted = self._formats.get(n.name) if n.op != "placeholder" else self._of_input(n)
        if wanted is None or not isinstance(result, Tensor):
            return result
        return round_values(result, wanted.activations, self._ranges.get(n.name))

    def _of_input(self, n: fx.Node) -> Format | None:
        """The input is an integer where something reads it as one."""
        readers = [self._formats[user.name] for user in n.users if user.name in self._formats]
        return next((reader for reader in readers if reader.is_static), None)


def round_weights(weight: Tensor, kind: str) -> Tensor:
    """(O, ...) weights as the format stores them."""
    if kind == "float32":
        return weight
    if kind == "float16":
        return weight.half().float()
    if kind == "int8":
        scale = weight.detach().abs().flatten(1).amax(1).clamp_min(1e-12) / 127
        scale = scale.reshape(-1, *[1] * (weight.dim() - 1))
        return (weight / scale).round() * scale
    return palette(weight, int(kind.removeprefix("palette")))


def palette(weight: Tensor, bits: int, rounds: int = 20) -> Tensor:
    """Each weight replaced by the nearest of ``2 ** bits`` values, which Lloyd's algorithm places.

    It starts from places as dense as the cube root of the weights' density, which is where it would end with many values.
    """
    flat = weight.detach().flatten()
    ordered = flat.sort().values
    density = torch.cat([torch.zeros(1), (ordered[1:] - ordered[:-1]).pow(2 / 3)]).cumsum(0)
    share = (torch.arange(2**bits) + 0.5) / 2**bits
    centres = ordered[torch.searchsorted(density, share * density[-1]).clamp_max(len(flat) - 1)]
    for _ in range(rounds):
        nearest = torch.bucketize(flat, (centres[1:] + centres[:-1]) / 2)
        counts = torch.bincount(nearest, minlength=len(centres))
        sums = torch.bincount(nearest, flat, len(centres))
        centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
    return centres[torch.bucketize(flat, (centres[1:] + centres[:-1]) / 2)].reshape(weight.shape)


def round_values(value: Tensor, kind: str, seen: Range | None) -> Tensor:
    """Values as the format holds them; those outside the range are cut off."""
    if kind == "float32":
        return value
    if kind == "float16":
        return value.half().float()
    assert seen is not None
    if kind == "int16":
        scale = max(seen.largest, 1e-12) / 32767
        return (value / scale).round().clamp(-32768, 32767) * scale
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    scale = max(high - low, 1e-12) / 255
    zero = round(-128 - low / scale)
    return ((value / scale).round() + zero).clamp(-128, 127).sub(zero) * scale


def modules(graph: fx.GraphModule) -> dict[str, nn.Module]:
    """The weighted operations of a graph by node name."""
    return {n.name: graph.get_submodule(str(n.target)) for n in graph.graph.nodes if n.op == "call_module"}
