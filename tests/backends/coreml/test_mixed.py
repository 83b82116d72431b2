"""Recipes that give layers of one network different formats; formats, ranges and packages that are refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from mfs_deploy import metrics
from mfs_deploy.backends.coreml import backend as coreml
from mfs_deploy.backends.coreml import package as mil_package
from mfs_deploy.backends.coreml import program as mil
from mfs_deploy.backends.coreml import quantize
from mfs_deploy.errors import BundleError, ConversionError
from mfs_deploy.quant.ranges import observe
from mfs_deploy.quant.recipes import Format, Range
from testing.coreml_programs import bytes_of, dequantized, package, readers, recipe, small, work

HALF, FULL, W8, W8A8 = (
    Format(*pair) for pair in (("float16", "float16"), ("float32", "float32"), ("int8", "float16"), ("int8", "int8"))
)


@pytest.fixture(scope="module")
def ranges(graph, crop):
    return observe(graph, crop)


MIXED = {
    "layers": {
        "encoder_0_1": FULL,
        "encoder_1_1": HALF,
        "encoder_2_1": W8A8,
        "leaky_relu_2": W8A8,
        "decoder_0_1": Format("palette4", "float16"),
        "decoder_1_1": Format("palette6", "float16"),
    }
}


@pytest.fixture(scope="module")
def mixed(graph, contract, ranges, tmp_path_factory):
    wanted = recipe("int8", "float16", **MIXED)
    folders = [tmp_path_factory.mktemp("mixed") for _ in range(2)]
    return [package(graph, contract, wanted, f, ranges=ranges, keep_float32=frozenset({"encoder_4_1"})) for f in folders]


def test_a_recipe_of_all_formats_is_obeyed_layer_by_layer(mixed, graph):
    _, program = mil.load(mixed[0])
    constants = {"encoder_0_1": torch.float32, "encoder_4_1": torch.float32, "encoder_1_1": torch.float16}
    kinds = {"decoder_0_1": "constexpr_lut_to_dense", "decoder_1_1": "constexpr_lut_to_dense"}
    for name, op in work(program).items():
        if op.kind != "conv":
            continue
        weight = op.inputs["weight"]
        if name in constants:
            exact = graph.get_submodule(".".join(name.rsplit("_", 2)).capitalize()).weight.detach().to(constants[name])
            np.testing.assert_array_equal(program.constants[weight], exact.numpy())
        else:
            assert dequantized(program, name).kind == kinds.get(name, "constexpr_affine_dequantize"), name
        full = constants.get(name) == torch.float32
        assert {program.types[v].kind.name for v in (op.inputs["x"], weight, op.outputs[0])} == {"fp32" if full else "fp16"}


def test_one_int8_layer_leaves_all_others_in_floats(mixed):
    _, program = mil.load(mixed[0])
    assert {name: read for name, read in readers(program).items() if "int8" in dict(read)} == {
        "encoder_2_1": [("int8", "encoder_2_0")],
        # What an integer layer gives is int8 for all that read it.
        "encoder_3_0": [("int8", "leaky_relu_2")],
        "cat_1": [("float", "leaky_relu_6"), ("int8", "leaky_relu_2")],
    }


def test_describe_says_what_is_stored(mixed):
    info = coreml.describe(mixed[0])
    assert info.float32_layers == ("encoder_0_1", "encoder_4_1")
    assert info.parameters == {
        "float16": 993 + 64 * 32,
        "float32": 32 * 3 + 512 * 256,
        "int8": 494_979 - 64 * 32 - 32 * 3 - 512 * 256 - 256 * 512 - 128 * 512,
        "uint4": 256 * 512,
        "uint6": 128 * 512,
    }
    assert "iOS 17" in info.format


def test_same_bytes_for_the_same_inputs(mixed):
    assert bytes_of(mixed[0]) == bytes_of(mixed[1])


def test_an_addition_reads_two_integers_and_its_activation_is_part_of_it(contract, tmp_path):
    graph = small()
    crop = np.random.default_rng(0).random((1, 3, 224, 224), np.float32)
    path = package(graph, contract, recipe("int8", "int8"), tmp_path, ranges=observe(graph, crop), coreml_io="tensor")
    _, program = mil.load(path)
    assert readers(program) == {
        "left": [("int8", "target")],
        "right": [("int8", "target")],
        "add": [("int8", "left"), ("int8", "right")],
        "leaky_relu": [("float", "add")],
        "sigmoid": [("int8", "leaky_relu")],
        "mask": [("int8", "leaky_relu")],
        "sigmoid_1": [("float", "mask")],
    }
    with torch.inference_mode():
        wanted = graph(torch.from_numpy(crop))
    for got, exact in zip(coreml.open(path, contract).run(crop), wanted, strict=True):
        assert metrics.psnr_db(got, exact.numpy(), peak=1.0) > 45


def test_white_stays_white_though_no_crop_had_any(contract, tmp_path):
    graph = small()
    grey = np.full((1, 3, 224, 224), 0.5, np.float32)
    path = package(graph, contract, recipe("int8", "int8"), tmp_path, ranges=observe(graph, grey), coreml_io="tensor")
    _, program = mil.load(path)
    (op,) = (op for op in program.operations if op.kind == "quantize" and "target" in str(op.inputs["input"]))
    assert program.constants[op.inputs["scale"]] == np.float16(1 / 255)
    assert program.constants[op.inputs["zero_point"]] == -128


# ---- refused ----


def test_integers_need_ranges(contract, tmp_path):
    graph = small()
    seen = observe(graph, np.zeros((1, 3, 224, 224), np.float32))
    cases = [
        ({}, "the range of left is not known"),
        ({name: seen[name] for name in seen if name != "right"}, "the range of right is not known"),
        (seen | {"left": Range(-1e6, 0.0)}, r"left reaches 1e\+06: beyond float16"),
    ]
    for ranges, says in cases:
        with pytest.raises(ConversionError, match=says):
            package(graph, contract, recipe("int8", "int8"), tmp_path, ranges=ranges)
        assert list(tmp_path.iterdir()) == []


def test_an_operation_that_coremltools_lost_is_missed():
    block = small_block()
    plan = quantize.Plan({"conv": W8, "gone": W8}, {"conv": "conv"}, {}, frozenset())
    with pytest.raises(ConversionError, match=r"lost operations .*: gone$"):
        quantize.apply(block, plan)


def small_block():
    ct = mil_package.coremltools()
    from coremltools.converters.mil import Builder as mb

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 3, 8, 8))], opset_version=ct.target.iOS16)
    def program(x):
        return mb.conv(x=x, weight=np.ones((2, 3, 1, 1), np.float32), name="conv")

    return program.functions["main"]


# ---- damaged ----


def operations(spec):
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset].operations


def lose_the_numbers(spec):
    del next(op for op in operations(spec) if op.type == "constexpr_affine_dequantize").attributes["quantized_data"]


def lose_the_table(spec):
    del next(op for op in operations(spec) if op.type == "constexpr_lut_to_dense").attributes["lut"]


def lose_the_weight(spec):
    del next(op for op in operations(spec) if op.type == "conv").inputs["weight"]


def cut_the_indices(spec):
    op = next(op for op in operations(spec) if op.type == "constexpr_lut_to_dense")
    op.attributes["indices"].type.tensorType.dimensions[0].constant.size -= 1


def another_shape(spec):
    op = next(op for op in operations(spec) if op.type == "constexpr_lut_to_dense")
    op.attributes["shape"].immediateValue.tensor.bytes.values = b"\x01\0\0\0" * 4


def scale_of_text(spec):
    op = next(op for op in operations(spec) if op.type == "quantize")
    op.inputs["scale"].CopyFrom(op.inputs["output_dtype"])


DAMAGE = [
    (lose_the_numbers, "quantized_data is missing", "quantized_data"),
    (lose_the_table, "lut is missing", "lut"),
    (lose_the_weight, "weight is missing", "weight"),
    (cut_the_indices, "weight.bin: blob", "weight.bin: blob"),
    (another_shape, None, "bytes of indices"),
    (scale_of_text, None, "'quantize'"),
]


@pytest.mark.parametrize(("change", "describe_says", "open_says"), DAMAGE, ids=[change.__name__ for change, *_ in DAMAGE])
def test_damage_is_refused(mixed, contract, crop, edit, tmp_path, change, describe_says, open_says):
    damaged = shutil.copytree(mixed[0], tmp_path / "swap.mlpackage")
    edit(damaged, change)
    if describe_says is not None:
        with pytest.raises(BundleError, match=describe_says):
            coreml.describe(damaged)
    with pytest.raises((BundleError, ConversionError), match=open_says) as caught:
        coreml.open(damaged, contract).run(crop)
    assert "\n" not in caught.value.message
