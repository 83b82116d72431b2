"""Which operations must stay in floating point: found by measuring, and given back as a recipe.

1. ``sensitivity``: one operation at a time in integers, everything else as it is; how far the swapped crop moves.
2. ``search``: all in integers, then one after another the operation that wins most quality for what it costs is put back, until the
   target is met.  After each step the gains are measured anew, for errors neither add up nor cancel by a rule.
3. what can be given back to integers again without missing the target is.
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

CANDIDATES = 6  # operations that are tried in each step, those that are hurt most
FLOAT = Format("float16", "float16")
Costs = Mapping[str, float]


@dataclass(frozen=True)
class Sensitivity:
    """One operation: PSNR of the swapped crop to the float network's with it alone in integers, and with all but it."""

    name: str
    kind: str
    alone_psnr_db: float
    others_psnr_db: float


@dataclass(frozen=True)
class Step:
    """One point of the trade-off: the operations in floating point so far, the quality, and the cost."""

    floats: tuple[str, ...]
    psnr_db: float
    cost: float


@dataclass(frozen=True)
class Found:
    recipe: Recipe
    steps: tuple[Step, ...]


def sensitivity(
    graph: fx.GraphModule,
    recipe: Recipe,
    ranges: Mapping[str, Range],
    targets: Tensor,
    note: Callable[[str], None] = lambda text: None,
) -> list[Sensitivity]:
    """How much each operation is hurt by what ``recipe`` gives it; most hurt first."""
    names = kinds(graph)
    formats = recipe.formats(names)
    reference = _reference(graph, targets)
    found = []
    for i, (name, kind) in enumerate(names.items()):
        alone = _psnr(graph, {name: formats[name]}, ranges, targets, reference)
        others = _psnr(graph, {other: f for other, f in formats.items() if other != name}, ranges, targets, reference)
        found.append(Sensitivity(name, kind, alone, others))
        if i % 10 == 0:
            note(f"{i} of {len(names)} operations")
    return sorted(found, key=lambda s: s.alone_psnr_db)


Measure = Callable[[frozenset[str]], Step]


def meter(graph: fx.GraphModule, recipe: Recipe, ranges: Mapping[str, Range], targets: Tensor, costs: Costs) -> Measure:
    """Names of operations in floating point, all others as ``recipe`` has them, to quality and cost; each set measured once.

    Args:
        costs: what it costs to have an operation in floating point, in any unit.
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
) -> Found:
    """The cheapest recipe found that keeps ``min_psnr_db``.

    Args:
        measure, costs: the recipe's ``meter``, and the costs it was given.
        order: operations, most hurt first, as ``sensitivity`` gives them.

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
    return Found(replace(recipe, layers=layers), tuple(steps))


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
    """An estimate of what floating point costs: an operation's shares of all weights, multiply-adds and values given, added up."""
    counter = _Sizes(graph)
    with torch.inference_mode():
        counter.run(torch.zeros(1, 3, size, size))
    weights, macs, values = (sum(column) or 1 for column in zip(*counter.sizes.values(), strict=True))
    return {name: w / weights + m / macs + v / values for name, (w, m, v) in counter.sizes.items()}


class _Sizes(fx.Interpreter):
    """Per operation: weights, multiply-adds, values given."""

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
