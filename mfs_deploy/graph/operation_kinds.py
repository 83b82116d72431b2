"""The kind of operation of each node of a canonical graph, by the names that recipes use."""

from __future__ import annotations

from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import fx, nn

from mfs_deploy.graph.trace import (
    ADD,
    DIV,
    MUL,
    SUB,
)


def nodes_by_kind(graph: fx.GraphModule) -> dict[str, list[fx.Node]]:
    """The nodes of a canonical graph by kind ("conv", "resize", "add", ...), each list in the order of execution.

    Nodes of other kinds are left out; they keep the converter's name and cannot be kept in float32.
    """
    modules: dict[type, str] = {nn.Conv2d: "conv", nn.Linear: "linear"}
    functions: dict[object, str] = {F.leaky_relu: "leaky_relu", F.interpolate: "resize", F.pad: "pad", torch.cat: "concat"}
    functions |= {torch.sigmoid: "sigmoid", torch.tanh: "tanh"}
    for kind, spellings in (("add", ADD), ("sub", SUB), ("mul", MUL), ("div", DIV)):
        functions |= dict.fromkeys(spellings, kind)
    nodes: dict[str, list[fx.Node]] = defaultdict(list)
    for node in graph.graph.nodes:
        if node.op == "call_module":
            name = modules.get(type(graph.get_submodule(node.target)))
        else:
            name = functions.get(node.target) if node.op == "call_function" else None
        if name is not None:
            nodes[name].append(node)
    return dict(nodes)


def kinds(graph: fx.GraphModule) -> dict[str, str]:
    """Node name to kind, in the order of execution."""
    by_name = {node.name: kind for kind, nodes in nodes_by_kind(graph).items() for node in nodes}
    return {node.name: by_name[node.name] for node in graph.graph.nodes if node.name in by_name}
