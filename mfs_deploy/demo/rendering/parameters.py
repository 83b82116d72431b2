"""Batches of parameters and the deterministic numbers they are drawn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from statistics import NormalDist
from typing import Self

import numpy as np
import torch
from torch import Tensor

COLUMNS = 160  # uniform numbers drawn for each row, used from the left: a new parameter at the end changes no earlier one


class Batch:
    """A frozen dataclass whose fields are tensors with one leading N."""

    def __len__(self) -> int:
        return int(getattr(self, fields(self)[0].name).shape[0])  # type: ignore[arg-type]

    def take(self, index: Tensor | slice | list[int]) -> Self:
        """The rows of ``index``; a list or tensor may repeat them."""
        return self._map(lambda x: x[index])

    def to(self, device: torch.device | str) -> Self:
        return self._map(lambda x: x.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        return type(self)(**{f.name: change(getattr(self, f.name)) for f in fields(self)})  # type: ignore[arg-type]


class Draw:
    """Columns of random numbers; row i depends on ``stream``, ``seed`` and i alone."""

    def __init__(self, n: int, seed: int, stream: int) -> None:
        rows = [np.random.default_rng([stream, seed, i]).random(COLUMNS) for i in range(n)]
        self._rows = np.stack(rows) if rows else np.zeros((0, COLUMNS))
        self._next = 0

    def _column(self) -> np.ndarray:
        self._next += 1
        return self._rows[:, self._next - 1]

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.from_numpy(low + (high - low) * self._column()).float()

    def normal(self, mean: float, deviation: float) -> Tensor:
        """Normal, cut at 2.3 deviations."""
        quantile = np.vectorize(NormalDist().inv_cdf, otypes=[float])
        z = quantile(self._column().clip(0.0107, 0.9893)) if len(self._rows) else self._column()
        return torch.from_numpy(mean + deviation * z).float()

    def chance(self, probability: float | Tensor) -> Tensor:
        """1 with the probability, else 0; float."""
        return (self.uniform() < probability).float()

    def choice(self, weights: tuple[float, ...]) -> Tensor:
        """(N,) long: an index with probability proportional to its weight."""
        edges = np.cumsum(weights)[:-1] / sum(weights)
        return torch.from_numpy(np.searchsorted(edges, self._column(), side="right")).long()

    def colour(self, low: float, high: float) -> Tensor:
        """(N, 3), each channel uniform."""
        return torch.stack([self.uniform(low, high) for _ in range(3)], 1)
