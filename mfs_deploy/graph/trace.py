"""A network as a torch.fx graph in one canonical form, which the rewrites read and change.

Canonical: convolutions, linear layers and BatchNorm are ``call_module``; every activation, resize and arithmetic operation is
``call_function``.  So a rewrite has one spelling of each operation to look for.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

CONVOLUTIONS = (nn.Conv2d,)


class UnknownActivation(TypeError):
    """A leaf module that has no canonical spelling; add it to ``_as_function``."""


def trace(net: nn.Module) -> fx.GraphModule:
    """Trace a copy of ``net`` (in eval mode) into canonical form.  The original is left as it is."""
    graph = fx.symbolic_trace(copy.deepcopy(net).eval())
    for node in list(graph.graph.nodes):
        if node.op != "call_module":
            continue
        module = graph.get_submodule(node.target)
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)):
            continue
        function, kwargs = _as_function(module)
        with graph.graph.inserting_before(node):
            new = graph.graph.call_function(function, node.args, kwargs)
        node.replace_all_uses_with(new)
        graph.graph.erase_node(node)
    return tidy(graph)


def tidy(graph: fx.GraphModule) -> fx.GraphModule:
    """Drop dead nodes and unused submodules, and regenerate the code."""
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.graph.lint()
    graph.recompile()
    return graph


def module_of(graph: fx.GraphModule, node: object, kind: type | tuple[type, ...]) -> Any:
    """The module behind a ``call_module`` node if it is of ``kind``, else None."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    module = graph.get_submodule(str(node.target))
    return module if isinstance(module, kind) else None


def is_call(node: object, *functions: Callable[..., Any]) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_function" and node.target in functions


def is_resize(node: object) -> bool:
    return is_call(node, F.interpolate)


def is_part(node: object) -> bool:
    """One of several values that an operation gives."""
    return is_call(node, operator.getitem)


def is_reflecting_pad(node: object) -> bool:
    return is_call(node, F.pad) and isinstance(node, fx.Node) and node.kwargs.get("mode") == "reflect"


def norm_constants(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """(s, t) of x * s + t, which is what it computes in eval mode: s = gamma / sqrt(var + eps), t = beta - mean * s.  float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def only_user(node: object) -> fx.Node | None:
    """The one node that reads this value, or None where several do."""
    return next(iter(node.users)) if isinstance(node, fx.Node) and len(node.users) == 1 else None


ADD = (operator.add, torch.add)
SUB = (operator.sub, torch.sub)
MUL = (operator.mul, torch.mul)
DIV = (operator.truediv, torch.div)


def _as_function(module: nn.Module) -> tuple[Callable[..., Any], dict[str, Any]]:
    if isinstance(module, nn.LeakyReLU):
        return F.leaky_relu, {"negative_slope": module.negative_slope}
    if isinstance(module, nn.Tanh):
        return torch.tanh, {}
    if isinstance(module, nn.Sigmoid):
        return torch.sigmoid, {}
    raise UnknownActivation(f"{type(module).__name__} has no canonical form")
