"""Parameters, bytes and MACs of a network."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import fx, nn


@dataclass(frozen=True)
class Cost:
    """``bytes``: of all tensors, statistics included; ``macs``: multiply-adds of all convolutions for a frame."""

    parameters: int
    bytes: int
    macs: int


def cost(graph: fx.GraphModule, size: int) -> Cost:
    """The cost of a graph from ``trace`` or ``simplify``, for a (1, 3, size, size) input."""
    counter = _Counter(graph)
    with torch.inference_mode():
        counter.run(torch.zeros(1, 3, size, size))
    stored = itertools.chain(graph.parameters(), graph.buffers())
    return Cost(sum(p.numel() for p in graph.parameters()), sum(t.nbytes for t in stored), counter.macs)


class _Counter(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.macs = 0

    def call_module(self, target: fx.node.Target, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        result = super().call_module(target, args, kwargs)  # type: ignore[arg-type]
        module = self.module.get_submodule(str(target))
        if isinstance(module, nn.Conv2d):
            assert isinstance(result, torch.Tensor)
            self.macs += result.numel() * module.weight[0].numel()
        return result
