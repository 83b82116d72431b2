"""Matches the operations of a converted model with the nodes of the graph.

Converters rename operations but keep their order: the k-th convolution of the graph is the k-th convolution of the model.  So a
backend can restore the names, and ``Conversion.keep_float32`` works in every format.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from mfs_deploy.errors import ConversionError

if TYPE_CHECKING:
    from torch import fx

Operation = TypeVar("Operation")


def match(graph: fx.GraphModule, operations: Iterable[tuple[str, Operation]]) -> list[tuple[fx.Node, Operation]]:
    """Each node of ``graph`` with its operation, given the (kind, operation) pairs of a converted model in order.

    Raises:
        ConversionError: the model has more or fewer operations of a kind than the graph.
    """
    from mfs_deploy.graph.operation_kinds import nodes_by_kind

    found: dict[str, list[Operation]] = defaultdict(list)
    for kind, operation in operations:
        found[kind].append(operation)
    nodes = nodes_by_kind(graph)
    for kind in sorted(nodes.keys() | found.keys()):
        before, after = len(nodes.get(kind, [])), len(found.get(kind, []))
        if before != after:
            raise ConversionError(
                f"the graph has {before} operations of kind {kind}, the converted model {after}; so their names cannot be matched",
                hint="convert the result of graph.simplify; if it is that, please report the converter's version",
            )
    return [match for kind in nodes for match in zip(nodes[kind], found[kind], strict=True)]


def check_names(graph: fx.GraphModule, keep_float32: frozenset[str]) -> None:
    """Refuse names that no operation of ``graph`` has.

    Raises:
        ConversionError: with those names.
    """
    from mfs_deploy.graph.operation_kinds import nodes_by_kind

    names = {node.name for nodes in nodes_by_kind(graph).values() for node in nodes}
    if unknown := sorted(keep_float32 - names):
        raise ConversionError(f"keep_float32 names nodes that the graph does not have: {', '.join(unknown)}")
