"""Palettes: the few values that all weights of a tensor are rounded to, with the least squared error.  Deterministic."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

PLACES = 512  # where a group of k-means may end at first
SPREAD = 128  # of them
ROUNDS = 300  # of k-means


def to_palette(weight: Array, bits: int) -> tuple[Array, NDArray[np.uint8]]:
    """A table (2 ** bits,) in the weights' type, ascending, and for each weight the index of its value, flat.

    The table is that of k-means on a line: least squares over all weights.
    """
    flat = weight.reshape(-1).astype(np.float64)
    values, counts = np.unique(flat, return_counts=True)
    entries = 1 << bits
    if len(values) <= entries:
        table = np.pad(values, (0, entries - len(values)), mode="edge")
    else:
        table = _lloyd(values, counts, _split(values, counts, entries))
    stored = table.astype(weight.dtype)
    wide = stored.astype(np.float64)
    indices = np.searchsorted((wide[1:] + wide[:-1]) / 2, flat)
    return stored, indices.astype(np.uint8)


def _split(values: Array, counts: Array, entries: int) -> Array:
    """Means of the best groups of neighbours, by dynamic programming over at most ``PLACES`` places where groups may end.

    Most places share out the sum of count^(1/3) gap^(2/3): the cube root of the density, which is how densely the entries of the
    best table lie (Panter and Dite, "Quantization distortion in pulse-count modulation", 1951).  The others are spread evenly, so
    that one far value does not draw all of them.
    """
    share = np.cumsum(np.cbrt(counts[1:]) * np.diff(values) ** (2 / 3))
    dense = np.searchsorted(share, np.linspace(0, share[-1], PLACES - SPREAD)) + 1
    even = np.linspace(0, len(values), SPREAD).astype(np.int64)
    cuts = np.unique(np.concatenate([dense, even])) if len(values) > PLACES else np.arange(len(values) + 1)
    total, square, number = (_up_to(x)[cuts] for x in (values * counts, values**2 * counts, counts))
    inside = number - number[:, None]  # [i, j]: between place i and place j
    cost = np.full(inside.shape, np.inf)
    some = inside > 0
    cost[some] = ((square - square[:, None]) - (total - total[:, None]) ** 2 / np.where(some, inside, 1))[some]
    best, before = cost[0], []
    for _ in range(entries - 1):
        options = best[:, None] + cost
        before.append(options.argmin(0))
        best = options.min(0)
    ends = [len(cuts) - 1]
    for previous in reversed(before):
        ends.append(int(previous[ends[-1]]))
    places = np.array([0, *reversed(ends)])
    means: Array = np.diff(total[places]) / np.diff(number[places])
    return means


def _lloyd(values: Array, counts: Array, table: Array) -> Array:
    """Each entry to the mean of the values nearest to it, until none moves (Lloyd, "Least squares quantization in PCM", 1982)."""
    total, number = _up_to(values * counts), _up_to(counts)
    for _ in range(ROUNDS):
        inner = np.searchsorted(values, (table[1:] + table[:-1]) / 2)
        bounds = np.concatenate([[0], inner, [len(values)]])
        inside = np.diff(number[bounds])
        moved = np.where(inside > 0, np.diff(total[bounds]) / np.maximum(inside, 1), table)
        if np.array_equal(moved, table):
            break
        table = moved
    return table


def _up_to(x: Array) -> Array:
    """Sums of the first 0, 1, 2, ... elements."""
    return np.concatenate([[0], np.cumsum(x)])
