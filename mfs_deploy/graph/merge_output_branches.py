"""Merge the two output branches: their last convolutions, each with a sigmoid, become one over the channels of both.

    a -> conv A2 -> leaky -> conv A -> sigmoid          a -> A2' -> leaky -+
    b -> conv B2 -> leaky -> conv B -> sigmoid    =>    b -> B2' -> leaky -+-> add -> conv AB -> sigmoid -> split

A2' and B2' give ``WIDTH`` channels each, in different places and zero elsewhere, so that the sum holds both; AB reads them all.
Not among ``graph.REWRITES``: it adds multiply-adds, and is faster only in a runtime that is slow on few channels at full size; a
backend says where it is ``allowed``.
Bound: exact, except for the order in which zeros and terms are added.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import fx, nn

from mfs_deploy.graph.trace import (
    is_call,
    module_of,
    only_user,
    tidy,
)

WIDTH = 8


@dataclass(frozen=True)
class OutputBranch:
    """``first`` -> ``leaky`` -> ``last`` -> ``sigmoid``, each read by nothing else."""

    first: fx.Node
    leaky: fx.Node
    last: fx.Node
    sigmoid: fx.Node

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        return self.first, self.leaky, self.last, self.sigmoid


def find(graph: fx.GraphModule) -> list[OutputBranch]:
    return [branch for node in graph.graph.nodes if (branch := _match(graph, node)) is not None]


def apply(graph: fx.GraphModule, allowed: Callable[[Sequence[fx.Node]], bool] = bool) -> int:
    branches = find(graph)
    if len(branches) != 2 or not allowed([node for branch in branches for node in branch.nodes]):
        return 0
    a, b = sorted(branches, key=lambda branch: -graph.get_submodule(str(branch.last.target)).out_channels)  # type: ignore[operator]
    (a1, b1), (a2, b2) = (tuple(module_of(graph, getattr(t, name), nn.Conv2d) for t in (a, b)) for name in ("first", "last"))
    slopes = {branch.leaky.kwargs["negative_slope"] for branch in branches}
    if len(slopes) != 1 or a1.out_channels + b1.out_channels > WIDTH or not _alike(a2, b2):
        return 0
    order = {node: i for i, node in enumerate(graph.graph.nodes)}
    with graph.graph.inserting_after(max(a.leaky, b.leaky, key=order.__getitem__)):
        joined = graph.graph.create_node("call_function", operator.add, (a.leaky, b.leaky), name="tails_joined")
    graph.add_submodule("tails", _joined(a2, b2))
    with graph.graph.inserting_after(joined):
        last = graph.graph.create_node("call_module", "tails", (joined,), name="tails")
    with graph.graph.inserting_after(last):
        sizes = [a2.out_channels, b2.out_channels, WIDTH - a2.out_channels - b2.out_channels]
        parts = graph.graph.create_node("call_function", torch.split, (last, sizes), {"dim": 1}, name="tails_split")
    for i, branch in enumerate((a, b)):
        with graph.graph.inserting_after(parts):
            part = graph.graph.create_node("call_function", operator.getitem, (parts, i), name=f"tails_{i}")
        branch.sigmoid.args = (part,)
        part.append(branch.sigmoid)
    graph.set_submodule(str(a.first.target), _widened(a1, 0))
    graph.set_submodule(str(b.first.target), _widened(b1, a1.out_channels))
    tidy(graph)
    return 1


def _match(graph: fx.GraphModule, sigmoid: fx.Node) -> OutputBranch | None:
    if not is_call(sigmoid, torch.sigmoid):
        return None
    last = sigmoid.all_input_nodes[0]
    leaky = last.all_input_nodes[0] if last.all_input_nodes else None
    if leaky is None or not is_call(leaky, F.leaky_relu) or only_user(leaky) is not last or only_user(last) is not sigmoid:
        return None
    first = leaky.all_input_nodes[0]
    if only_user(first) is not leaky or any(module_of(graph, node, nn.Conv2d) is None for node in (first, last)):
        return None
    return OutputBranch(first, leaky, last, sigmoid)


def _alike(a: nn.Conv2d, b: nn.Conv2d) -> bool:
    """Whether they differ in their channels alone."""
    return (
        all(getattr(a, name) == getattr(b, name) for name in ("kernel_size", "stride", "padding", "dilation"))
        and a.groups == b.groups == 1
    )


def _widened(conv: nn.Conv2d, start: int) -> nn.Conv2d:
    """``conv`` with its channels at ``start`` of ``WIDTH``, the others zero."""
    wide = _empty(conv, conv.in_channels, WIDTH)
    with torch.no_grad():
        _fill(wide, conv, slice(start, start + conv.out_channels), slice(None))
    return wide


def _joined(a: nn.Conv2d, b: nn.Conv2d) -> nn.Conv2d:
    both = _empty(a, WIDTH, WIDTH)
    with torch.no_grad():
        _fill(both, a, slice(0, a.out_channels), slice(0, a.in_channels))
        _fill(both, b, slice(a.out_channels, a.out_channels + b.out_channels), slice(a.in_channels, a.in_channels + b.in_channels))
    return both


def _empty(like: nn.Conv2d, inputs: int, outputs: int) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, like.kernel_size, like.stride, like.padding, like.dilation)  # type: ignore[arg-type]
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv.eval()


def _fill(into: nn.Conv2d, conv: nn.Conv2d, rows: slice, columns: slice) -> None:
    into.weight[rows, columns] = conv.weight
    if conv.bias is not None and into.bias is not None:
        into.bias[rows] = conv.bias
