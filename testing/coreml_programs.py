"""What the tests of integers and palettes share: recipes, conversions, and what is around the operations of a program."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from mfs_deploy.backends.base import Conversion
from mfs_deploy.backends.coreml import backend as coreml
from mfs_deploy.backends.coreml import program as mil
from mfs_deploy.graph.trace import trace
from mfs_deploy.quant.recipes import Recipe

CARRIERS = ("cast", "dequantize", "quantize")


def recipe(weights: str, activations: str, **overrides: Any) -> Recipe:
    return Recipe("mine", weights, activations, "", **overrides)


def package(graph, contract, wanted: Recipe, folder, **options):
    coreml.convert(Conversion(graph, contract, wanted, **options), folder)
    return folder / "swap.mlpackage"


def bytes_of(path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def size_of(path) -> int:
    return sum(map(len, bytes_of(path).values()))


def work(program: mil.Program) -> dict[str, mil.Operation]:
    """By name, the operations that compute; each name once."""
    found = [op for op in program.operations if op.kind not in CARRIERS and not op.kind.startswith("constexpr_")]
    assert len({op.name for op in found}) == len(found)
    return {op.name: op for op in found}


def readers(program: Any) -> dict[str, list[tuple[str, str]]]:
    """By operation that computes, for each value it reads: "int8" or "float", and the operation that computed it."""
    made_by = {name: op for op in program.operations for name in op.outputs}

    def origin(value: str) -> tuple[str, str]:
        maker, how = made_by.get(value), "float"
        while maker is not None and maker.kind in CARRIERS:
            how = "int8" if maker.kind == "dequantize" else how
            value = str(maker.inputs["x" if maker.kind == "cast" else "input"])
            maker = made_by.get(value)
        return how, maker.name if maker is not None else value

    found = {}
    for name, op in work(program).items():
        values = [op.inputs[p] for p in ("x", "y") if p in op.inputs] + list(op.inputs.get("values", ()))
        found[name] = [origin(str(value)) for value in values if value not in program.constants]
    return found


def dequantized(program: mil.Program, layer: str) -> mil.Operation:
    """What unpacks the weight of a layer."""
    weight = work(program)[layer].inputs["weight"]
    return next(op for op in program.operations if weight in op.outputs)


class Small(nn.Module):
    """An addition of two convolutions with an activation behind it, which the face swap network has not, and quick to convert."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1)
        self.mask = nn.Conv2d(3, 1, 1)

    def forward(self, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        both = F.leaky_relu(torch.add(self.left(target), self.right(target)), 0.2)
        return torch.sigmoid(both), torch.sigmoid(self.mask(both))


def small() -> fx.GraphModule:
    torch.manual_seed(5)
    return trace(Small())
