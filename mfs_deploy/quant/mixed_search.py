"""Search for a recipe of mixed formats: which operations must stay in floating point to keep a PSNR.

1. ``sensitivity`` quantizes one operation at a time and measures the PSNR of the swapped crop.
2. ``search`` starts with all operations in integers and puts them back into floating point one by one, each time the one with the
   largest gain in PSNR per cost, until the PSNR is reached.  Gains are measured after every step, since errors do not simply add
   up.
3. It then returns to integers every operation that the PSNR can do without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, fx

from mfs_deploy import metrics
from mfs_deploy.errors import ParityError
from mfs_deploy.graph.operation_kinds import kinds
from mfs_deploy.quant import simulate
from mfs_deploy.quant.recipes import Format, Range, Recipe

CANDIDATES = 6  # operations tried in each step, the most sensitive ones
FLOAT = Format("float16", "float16")
Costs = Mapping[str, float]


@dataclass(frozen=True)
class Sensitivity:
    """PSNR of the swapped crop to the float network's, with this operation alone in integers, and with all others."""

    name: str
    kind: str
    alone_psnr_db: float
    others_psnr_db: float


@dataclass(frozen=True)
class Step:
    """One point of the trade-off: the operations in floating point, the PSNR, and the cost as ``costs`` counts it."""

    floats: tuple[str, ...]
    psnr_db: float
    cost: float


@dataclass(frozen=True)
class SearchResult:
    recipe: Recipe
    steps: tuple[Step, ...]


def sensitivity(
    graph: fx.GraphModule,
    recipe: Recipe,
    ranges: Mapping[str, Range],
    targets: Tensor,
    note: Callable[[str], None] = lambda text: None,
) -> list[Sensitivity]:
    """The quantization error of each operation in the format that ``recipe`` gives it, largest error first.

    Args:
        targets: (N, 3, S, S) in [0, 1].
    """
    names = kinds(graph)
    formats = recipe.formats(names)
    reference = _reference(graph, targets)
    measured = []
    for i, (name, kind) in enumerate(names.items()):
        alone = _psnr(graph, {name: formats[name]}, ranges, targets, reference)
        others = _psnr(graph, {other: f for other, f in formats.items() if other != name}, ranges, targets, reference)
        measured.append(Sensitivity(name, kind, alone, others))
        if i % 10 == 0:
            note(f"{i} of {len(names)} operations")
    return sorted(measured, key=lambda s: s.alone_psnr_db)


Measure = Callable[[frozenset[str]], Step]


def meter(graph: fx.GraphModule, recipe: Recipe, ranges: Mapping[str, Range], targets: Tensor, costs: Costs) -> Measure:
    """A function from operations in floating point, all others as in ``recipe``, to PSNR and cost; it measures each set once.

    Args:
        costs: of each operation in floating point, in any unit.
    """
    formats = recipe.formats(kinds(graph))
    reference = _reference(graph, targets)

    @cache
    def measure(floats: frozenset[str]) -> Step:
        mixed = formats | dict.fromkeys(floats, FLOAT)
        return Step(tuple(sorted(floats)), _psnr(graph, mixed, ranges, targets, reference), sum(costs[name] for name in floats))

    return measure


def search(
    recipe: Recipe,
    measure: Measure,
    costs: Costs,
    min_psnr_db: float,
    order: list[str],
    note: Callable[[str], None] = lambda text: None,
) -> SearchResult:
    """The cheapest recipe found that keeps ``min_psnr_db``.

    Args:
        measure, costs: the recipe's ``meter``, and the costs it was given.
        order: operations, most sensitive first, as ``sensitivity`` gives them.

    Raises:
        ParityError: not even all in float16 keeps it.
    """
    floats: list[str] = []
    steps = [measure(frozenset())]
    while steps[-1].psnr_db < min_psnr_db:
        tried = {name: measure(frozenset([*floats, name])) for name in [n for n in order if n not in floats][:CANDIDATES]}
        if not tried:
            best = max(steps, key=lambda s: s.psnr_db)
            raise ParityError(
                f"no mixture keeps {min_psnr_db:g} dB to the float network; the best found has {best.psnr_db:.1f} dB",
                hint="ask for less with --min-psnr, or use the recipe fp16",
            )
        name = max(tried, key=lambda n: _gain(steps[-1], tried[n]))
        floats.append(name)
        steps.append(tried[name])
        note(f"{len(floats)} in floating point, {steps[-1].psnr_db:.1f} dB")
    for name in sorted(floats, key=lambda n: -costs[n]):
        without = measure(frozenset(floats) - {name})
        if without.psnr_db >= min_psnr_db:
            floats.remove(name)
            steps.append(without)
    layers = dict(recipe.layers) | dict.fromkeys(sorted(floats), FLOAT)
    return SearchResult(replace(recipe, layers=layers), tuple(steps))


def _gain(before: Step, after: Step) -> float:
    return (after.psnr_db - before.psnr_db) / max(after.cost - before.cost, 1e-9)


def _reference(graph: fx.GraphModule, targets: Tensor) -> Tensor:
    swapped, _ = simulate.run(graph, {}, {}, targets)
    return swapped


def _psnr(
    graph: fx.GraphModule, formats: Mapping[str, Format], ranges: Mapping[str, Range], targets: Tensor, reference: Tensor
) -> float:
    swapped, _ = simulate.run(graph, formats, ranges, targets)
    return metrics.psnr_db(swapped.numpy(), reference.numpy(), peak=1.0)


def costs(graph: fx.GraphModule, size: int) -> dict[str, float]:
    """An estimate of the cost of floating point: the sum of an operation's shares of all weights, MACs and output values."""
    counter = _Sizes(graph)
    with torch.inference_mode():
        counter.run(torch.zeros(1, 3, size, size))
    weights, macs, values = (sum(column) or 1 for column in zip(*counter.sizes.values(), strict=True))
    return {name: w / weights + m / macs + v / values for name, (w, m, v) in counter.sizes.items()}


class _Sizes(fx.Interpreter):
    """Weights, MACs and output values of each operation."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.sizes: dict[str, tuple[int, int, int]] = {}
        self._names = kinds(graph)

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        if n.name in self._names and isinstance(value, Tensor):
            weight = self.module.get_submodule(str(n.target)).weight if n.op == "call_module" else None
            count = weight.numel() if isinstance(weight, Tensor) else 0
            per_value = weight[0].numel() if isinstance(weight, Tensor) else 0
            self.sizes[n.name] = (count, per_value * value.numel(), value.numel())
        return value
