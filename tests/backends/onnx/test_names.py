"""Operations get back the names of the graph's nodes, or the conversion stops."""

from __future__ import annotations

import copy

import onnx as onnx_format
import pytest

from mfs_deploy.backends import node_names
from mfs_deploy.backends.onnx.backend import KINDS, name_nodes
from mfs_deploy.errors import ConversionError
from mfs_deploy.graph.operation_kinds import nodes_by_kind


def test_every_node_of_the_graph_is_found_in_its_place(fp32, graph):
    model = onnx_format.load(fp32)
    computed = [node.name for node in graph.graph.nodes if node.op in ("call_module", "call_function")]
    assert [node.name for node in model.graph.node] == computed
    readers = {node.name: node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    targets = {node.name: f"{node.target}.weight" for node in graph.graph.nodes if node.op == "call_module"}
    assert readers == targets


def test_pairs_are_made_kind_by_kind_whatever_lies_between(graph):
    kinds = nodes_by_kind(graph)
    shuffled = [(kind, (kind, k)) for kind in sorted(kinds) for k in range(len(kinds[kind]))]
    for node, (kind, k) in node_names.match(graph, shuffled):
        assert kinds[kind][k] is node


def test_missing_operation_stops_the_conversion(fp32, graph):
    model = onnx_format.load(fp32)
    model.graph.node.remove(next(node for node in model.graph.node if KINDS.get(node.op_type) == "resize"))
    with pytest.raises(ConversionError, match="9 operations of kind resize, the converted model 8"):
        name_nodes(model, graph)


def test_convolutions_in_another_order_stop_the_conversion(fp32, graph):
    model = copy.deepcopy(onnx_format.load(fp32))
    first, second = [node for node in model.graph.node if node.op_type == "Conv"][:2]
    first.input[1], second.input[1] = second.input[1], first.input[1]
    with pytest.raises(ConversionError, match=r"Encoder\.0\.1\.weight, must be Encoder\.0\.0\.weight"):
        name_nodes(model, graph)
