"""Layers pinned to float32 in a float16 package: a network that overflows float16 must come out right, and stay right."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import fx

from mfs_deploy import metrics
from mfs_deploy.backends.base import Conversion
from mfs_deploy.backends.coreml import backend as coreml
from mfs_deploy.backends.coreml import program as mil
from mfs_deploy.errors import ConversionError
from mfs_deploy.quant import recipes

FACTOR = 2.0**20
# What reads or writes a value that is 2^20 times too large, resize included.
PINNED = frozenset({"mask_0_2", "leaky_relu_9", "interpolate_1", "mask_1_1"})


@pytest.fixture(scope="module")
def loud(graph) -> fx.GraphModule:
    """The same function, with one stretch of the mask branch 2^20 times too large for float16: LeakyReLU is homogeneous."""
    graph = copy.deepcopy(graph)
    with torch.no_grad():
        graph.get_submodule("mask.0.2").weight.mul_(FACTOR)
        graph.get_submodule("mask.0.2").bias.mul_(FACTOR)
        graph.get_submodule("mask.1.1").weight.div_(FACTOR)
    return graph


@pytest.fixture(scope="module")
def loud_package(loud, contract, tmp_path_factory):
    made = {}

    def path(io: str, pinned: frozenset[str]):
        if (io, pinned) not in made:
            folder = tmp_path_factory.mktemp("loud")
            coreml.convert(Conversion(loud, contract, recipes.load("fp16"), keep_float32=pinned, coreml_io=io), folder)
            made[io, pinned] = folder / "swap.mlpackage"
        return made[io, pinned]

    return path


def test_without_pinned_layers_the_outputs_overflow(loud_package, contract, crop):
    swapped, mask = coreml.open(loud_package("tensor", frozenset()), contract).run(crop)
    assert not np.isfinite(mask).all()
    assert not np.isfinite(swapped).all()


def test_with_pins_a_package_with_images_agrees_with_torch(loud_package, contract, crop, expected):
    swapped, mask = coreml.open(loud_package("image", PINNED), contract).run(crop)
    assert metrics.psnr_db(swapped, expected[0], peak=1.0) > 71
    assert metrics.psnr_db(mask, expected[1], peak=1.0) > 67


@pytest.mark.parametrize("io", ["image", "tensor"])
def test_pinned_layers_hold_the_exact_float32_weights(loud_package, loud, io):
    """Not float32 values that went through float16 on the way."""
    _, program = mil.load(loud_package(io, PINNED))
    for layer in ("mask_0_2", "mask_1_1"):
        for parameter in ("weight", "bias"):
            wanted = getattr(loud.get_submodule(layer.replace("_", ".")), parameter).detach().numpy()
            np.testing.assert_array_equal(program.constants[f"p_{layer}_{parameter}"], wanted)


def test_every_value_of_a_pinned_operation_is_float32_and_no_other(loud_package):
    _, program = mil.load(loud_package("tensor", PINNED))
    work = [op for op in program.operations if op.kind in ("conv", "leaky_relu", "upsample_bilinear")]
    full = [op for op in work if program.types[op.outputs[0]].kind.name == "fp32"]
    assert [op.kind for op in full] == ["conv", "leaky_relu", "upsample_bilinear", "conv"]
    for op in full:
        read = [name for name in op.inputs.values() if program.types[name].kind.name.startswith("fp")]
        assert {program.types[name].kind.name for name in read} == {"fp32"}, op


def test_describe_names_the_float32_layers(loud_package, package_of):
    info = coreml.describe(loud_package("image", PINNED))
    assert info.float32_layers == ("mask_0_2", "mask_1_1")
    # 512 x 128 + 128 of one, 128 x 9 + 128 of the other.
    assert info.parameters == {"float16": 495972 - 66944, "float32": 66944}
    assert coreml.describe(package_of("fp16", "image")).float32_layers == ()
    assert coreml.describe(package_of("fp32", "image")).float32_layers == ()


def exported(graph: fx.GraphModule):
    return torch.export.export(graph, (torch.zeros(1, 3, 224, 224),)).run_decompositions({})


def test_names_follow_the_order_of_each_kind(graph):
    names = coreml.exported_names(graph, exported(graph))
    assert len(names) == 66
    # In the graph the mask branch's first activation is leaky_relu_9; it runs sixth, and export numbers in that order.
    assert names["leaky_relu_9"] == "leaky_relu_5"
    assert names["mask_0_2"] == "conv2d_11"
    assert names["interpolate"] == "upsample_bilinear2d"
    assert names["sigmoid_1"] == "sigmoid_1"
    assert names["add_2"] == "add"


@pytest.mark.parametrize("name", ["fp16", "fp32"])
def test_operations_bear_the_names_of_the_graph(package_of, graph, name):
    """Xcode's performance report shows them; every node of the graph occurs once."""
    _, program = mil.load(package_of(name, "image"))
    written = [op.name for op in program.operations]
    nodes = [node.name for node in graph.graph.nodes if node.op in ("call_module", "call_function")]
    assert [name for name in written if name in set(nodes)] == nodes


def test_names_point_at_the_same_weights(graph):
    """Independent of names and of order: each convolution and its counterpart read the same tensor."""
    export = exported(graph)
    names = coreml.exported_names(graph, export)
    nodes = {node.name: node for node in export.graph.nodes}
    parameters = export.graph_signature.inputs_to_parameters
    convolutions = [node for node in graph.graph.nodes if node.op == "call_module"]
    assert len(convolutions) == 32
    for node in convolutions:
        weight = nodes[names[node.name]].args[1]
        assert parameters[weight.name] == f"{node.target}.weight"


def test_a_graph_that_export_changed_is_refused(graph):
    export = exported(graph)
    shorter = copy.deepcopy(graph)
    tail = next(node for node in shorter.graph.nodes if node.name == "add_2")
    tail.replace_all_uses_with(tail.args[1])
    shorter.graph.eliminate_dead_code()
    with pytest.raises(ConversionError, match="0 operations of kind add, the converted model 1"):
        coreml.exported_names(shorter, export)
