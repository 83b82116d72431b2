"""The range of every value of a network on a set of crops, for integer formats; all backends use the same.

A wider range clips fewer outliers and quantizes all other values more coarsely.  Methods:

- ``minmax`` clips nothing of the set.
- ``percentile`` clips one value in 10,000 on each side.
- ``kl`` clips both sides at the threshold whose 8-bit histogram is nearest to the true one (Kullback-Leibler divergence; Migacz,
  "8-bit inference with TensorRT", GTC 2017).  The bin at zero is left out: LeakyReLU puts many values there, and a threshold that
  resolves this peak would clip everything else.

On the demo weights, in simulation, w8a8 on held-out targets: 44.3, 45.7 and 40.2 dB to the float network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from mfs_deploy.errors import CalibrationError, UsageError
from mfs_deploy.quant.recipes import METHODS, Range

BINS = 4096
CLIPPED = 1e-4  # share of values that ``percentile`` clips on each side
LEVELS = 128  # of an 8-bit number without its sign
BATCH = 8

Crops = NDArray[np.float32]
Histogram = NDArray[np.float64]


def observe(graph: fx.GraphModule, crops: Crops, method: str = "minmax") -> dict[str, Range]:
    """Measure the range of the input and of every node of a simplified graph, by name.

    Args:
        crops: (N, 3, S, S) in [0, 1].

    Raises:
        UsageError: no such method.
        CalibrationError: a value is NaN or infinite.
    """
    if method not in METHODS:
        raise UsageError(f"unknown calibration method {method!r}", hint=f"choose from: {', '.join(METHODS)}")
    observed: dict[str, Range] = {}

    def widen(name: str, value: torch.Tensor) -> None:
        low, high = (float(x) for x in value.aminmax())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise CalibrationError(f"{name} gives values that are not finite", hint="look at the weights with mfs inspect")
        before = observed.get(name, Range(low, high))
        observed[name] = Range(min(low, before.low), max(high, before.high))

    _visit(graph, crops, widen)
    if method == "minmax":
        return observed
    counts: dict[str, Histogram] = {name: np.zeros(BINS) for name in observed}

    def count(name: str, value: torch.Tensor) -> None:
        if observed[name].high > observed[name].low:
            counts[name] += torch.histc(value, BINS, observed[name].low, observed[name].high).numpy()

    _visit(graph, crops, count)
    narrow = _percentile if method == "percentile" else _kl
    return {name: narrow(counts[name], whole) if whole.high > whole.low else whole for name, whole in observed.items()}


def saturation(graph: fx.GraphModule, crops: Crops, ranges: Mapping[str, Range]) -> dict[str, float]:
    """The share of each node's values that the given ranges clip."""
    outside: dict[str, int] = {}
    values: dict[str, int] = {}

    def count(name: str, value: torch.Tensor) -> None:
        if name in ranges:
            out = (value < ranges[name].low) | (value > ranges[name].high)
            outside[name] = outside.get(name, 0) + int(out.sum())
            values[name] = values.get(name, 0) + value.numel()

    _visit(graph, crops, count)
    return {name: outside[name] / values[name] for name in values}


def _visit(graph: fx.GraphModule, crops: Crops, record: Callable[[str, torch.Tensor], None]) -> None:
    visitor = _Visitor(graph, record)
    with torch.inference_mode():
        for batch in _batches(crops):
            visitor.run(batch)


def _batches(crops: Crops) -> Iterator[torch.Tensor]:
    yield from torch.from_numpy(crops).split(BATCH)  # type: ignore[no-untyped-call]


class _Visitor(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule, record: Callable[[str, torch.Tensor], None]) -> None:
        super().__init__(graph)
        self._record = record

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self._record(n.name, value)
        return value


def _percentile(counts: Histogram, whole: Range) -> Range:
    share = np.cumsum(counts) / counts.sum()
    edges = np.linspace(whole.low, whole.high, BINS + 1)
    low = edges[int(np.searchsorted(share, CLIPPED, side="right"))]
    high = edges[min(int(np.searchsorted(share, 1 - CLIPPED, side="left")) + 1, BINS)]
    return Range(float(low), float(high))


def _kl(counts: Histogram, whole: Range) -> Range:
    middles = (np.linspace(whole.low, whole.high, BINS + 1)[:-1] + np.linspace(whole.low, whole.high, BINS + 1)[1:]) / 2
    bins = BINS // 2
    sizes, _ = np.histogram(np.abs(middles), bins=bins, range=(0, whole.largest), weights=counts)
    sizes[0] = sizes[1]
    best = min(range(LEVELS, bins + 1, 8), key=lambda kept: _divergence(sizes, kept))
    threshold = whole.largest * best / bins
    return Range(max(whole.low, -threshold), min(whole.high, threshold))


def _divergence(sizes: Histogram, kept: int) -> float:
    """Kullback-Leibler divergence of the first ``kept`` bins, the rest added to the last, from the same in 128 levels."""
    truth = sizes[:kept].copy()
    truth[-1] += sizes[kept:].sum()
    level = np.arange(kept) * LEVELS // kept
    filled = sizes[:kept] > 0
    total = np.bincount(level, sizes[:kept], LEVELS)
    each = np.bincount(level, filled, LEVELS)
    coarse = np.where(filled, (total / np.maximum(each, 1))[level], 0.0)
    p, q = truth / truth.sum(), coarse / max(coarse.sum(), 1e-30)
    some = p > 0
    return float((p[some] * np.log(p[some] / np.maximum(q[some], 1e-12))).sum())
