"""Which operation of a converted model is which node of the graph that was converted.

Converters rename everything but keep the order: the k-th convolution of the graph is the k-th convolution of the model.  So a
backend can give operations back their names, and names of ``Conversion.keep_float32`` mean something in every format.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from mfs_deploy.errors import ConversionError

if TYPE_CHECKING:
    from torch import fx

Operation = TypeVar("Operation")


def nodes_by_kind(graph: fx.GraphModule) -> dict[str, list[fx.Node]]:
    """The nodes of a canonical graph by kind ("conv", "resize", "add", ...), each list in the order of execution.

    Nodes of a kind not known here are left out; they keep the converter's name and cannot be kept in float32.
    """
    import torch
    import torch.nn.functional as F
    from torch import nn

    from mfs_deploy.graph.trace import ADD, DIV, MUL, SUB

    modules: dict[type, str] = {nn.Conv2d: "conv", nn.Linear: "linear"}
    functions: dict[object, str] = {F.leaky_relu: "leaky_relu", F.interpolate: "resize", torch.cat: "concat"}
    functions |= {torch.sigmoid: "sigmoid", torch.tanh: "tanh"}
    for kind, spellings in (("add", ADD), ("sub", SUB), ("mul", MUL), ("div", DIV)):
        functions |= dict.fromkeys(spellings, kind)
    found: dict[str, list[fx.Node]] = defaultdict(list)
    for node in graph.graph.nodes:
        if node.op == "call_module":
            known = modules.get(type(graph.get_submodule(node.target)))
        else:
            known = functions.get(node.target) if node.op == "call_function" else None
        if known is not None:
            found[known].append(node)
    return dict(found)


def pair(graph: fx.GraphModule, operations: Iterable[tuple[str, Operation]]) -> list[tuple[fx.Node, Operation]]:
    """Each node of ``graph`` with its operation, given the (kind, operation) pairs of a converted model in order.

    Raises:
        ConversionError: the model has more or fewer operations of a kind than the graph.
    """
    found: dict[str, list[Operation]] = defaultdict(list)
    for kind, operation in operations:
        found[kind].append(operation)
    nodes = nodes_by_kind(graph)
    for kind in sorted(nodes.keys() | found.keys()):
        before, after = len(nodes.get(kind, [])), len(found.get(kind, []))
        if before != after:
            raise ConversionError(
                f"the graph has {before} operations of kind {kind}, the converted model {after}; their names cannot be matched",
                hint="convert the graph that graph.simplify gives; if it is that, the converter changed and needs a look",
            )
    return [match for kind in nodes for match in zip(nodes[kind], found[kind], strict=True)]


def check_names(graph: fx.GraphModule, keep_float32: frozenset[str]) -> None:
    """Refuse names that no operation of ``graph`` has.

    Raises:
        ConversionError: naming them.
    """
    known = {node.name for nodes in nodes_by_kind(graph).values() for node in nodes}
    if unknown := sorted(keep_float32 - known):
        raise ConversionError(f"cannot keep in float32 what the graph does not have: {', '.join(unknown)}")
