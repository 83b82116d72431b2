"""Horizontal bar charts as SVG: the position of every part, as a share of the chart's width.

Labels stand above their bars, so that a chart fits a phone's width and its text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TICKS = 5  # at most, beside zero


@dataclass(frozen=True)
class Part:
    """A piece of a bar, drawn after those before it.  ``look`` is one of the page's colours of that name."""

    name: str
    value: float
    look: str


@dataclass(frozen=True)
class Mark:
    """A line across a bar at a value."""

    name: str
    value: float


@dataclass(frozen=True)
class Bar:
    """``text``: its length in words."""

    label: str
    text: str
    parts: tuple[Part, ...]
    marks: tuple[Mark, ...] = ()

    @property
    def end(self) -> float:
        return max(sum(part.value for part in self.parts), *(mark.value for mark in self.marks), 0.0)


@dataclass(frozen=True)
class Piece:
    """A part of a bar in per cent of the chart's width."""

    part: Part
    x: str
    width: str


@dataclass(frozen=True)
class Chart:
    """``axis`` names the quantity and its unit."""

    title: str
    axis: str
    bars: tuple[Bar, ...]

    @property
    def ticks(self) -> list[float]:
        """Round values from zero to beyond the longest bar."""
        longest = max((bar.end for bar in self.bars), default=0.0) or 1.0
        rough = longest / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(step for step in (power, 2 * power, 2.5 * power, 5 * power, 10 * power) if step >= rough * (1 - 1e-9))
        return [i * step for i in range(math.ceil(longest / step - 1e-9) + 1)]

    def at(self, value: float) -> str:
        return f"{100 * value / self.ticks[-1]:.3f}%"

    def pieces(self, bar: Bar) -> list[Piece]:
        found, x = [], 0.0
        for part in bar.parts:
            if part.value > 0:
                found.append(Piece(part, self.at(x), self.at(part.value)))
            x += part.value
        return found

    @property
    def legend(self) -> list[Part]:
        """One of each kind of part; nothing where there is one kind only."""
        kinds = {part.name: part for bar in self.bars for part in bar.parts if part.value > 0}
        return list(kinds.values()) if len(kinds) > 1 else []

    @property
    def mark_names(self) -> list[str]:
        return list(dict.fromkeys(mark.name for bar in self.bars for mark in bar.marks))


def largest(items: Sequence[tuple[str, float]], count: int) -> list[tuple[str, float]]:
    return sorted(items, key=lambda item: -item[1])[:count]
