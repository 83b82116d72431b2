"""The two files of an int8 artifact: what they hold, which formats are refused, and that nothing damaged reaches ncnn."""

from __future__ import annotations

import copy
import shutil
import struct

import numpy as np
import pytest
from torch import nn

from mfs_deploy.backends.base import Conversion
from mfs_deploy.backends.ncnn import backend as ncnn
from mfs_deploy.backends.ncnn import int8 as ncnn_int8
from mfs_deploy.backends.ncnn.files import (
    parse_param,
    read_bin,
    scales,
    write_bin,
    write_param,
)
from mfs_deploy.errors import BundleError, CalibrationError
from mfs_deploy.graph.cost import cost
from mfs_deploy.graph.trace import trace
from mfs_deploy.quant.recipes import Format, Range, Recipe


@pytest.fixture
def damaged(int8, tmp_path):
    """An int8 artifact that a test may damage."""
    for file in (int8, int8.with_suffix(".bin")):
        shutil.copy(file, tmp_path)
    return tmp_path / int8.name


def _weights(path):
    layers = parse_param(path.read_text())
    return {x.name: x for x in layers}, read_bin(path.with_suffix(".bin").read_bytes(), layers)


def _bytes(path) -> int:
    return sum(file.stat().st_size for file in (path, path.with_suffix(".bin")))


def test_files_have_a_quarter_of_the_size_of_float32(int8, fp32):
    """522,518 bytes against 1,989,937; scales are 17,624 of them."""
    assert _bytes(int8) < 0.27 * _bytes(fp32)


def test_same_inputs_same_bytes(int8, quantized):
    again = quantized()
    for file in (int8, int8.with_suffix(".bin")):
        assert again.with_name(file.name).read_bytes() == file.read_bytes()


def test_artifact_is_written_back_byte_for_byte(int8):
    param, data = int8.read_text(), int8.with_suffix(".bin").read_bytes()
    layers = parse_param(param)
    assert write_param(layers) == param
    assert write_bin(read_bin(data, layers), layers) == data


def test_scales_fill_the_integers_and_chained_layers_agree(int8, seen):
    layers, weights = _weights(int8)
    for name, arrays in weights.items():
        per_channel, read, *made = scales(layers[name], arrays)
        rows = np.abs(arrays[0].values.reshape(per_channel.values.size, -1))
        assert (rows.max(axis=1) == 127).all()
        readers = [x for x in layers.values() if layers[name].outputs[0] in x.inputs]
        assert not made or made[0].values == scales(readers[0], weights[readers[0].name])[1].values
        assert read.values.size == 1
    assert scales(layers["encoder_1_0"], weights["encoder_1_0"])[1].values == np.float32(127 / seen["leaky_relu"].largest)


def test_describe_counts_weights_biases_and_macs(int8, fp16, graph):
    have, want = ncnn.describe(int8), ncnn.describe(fp16)
    assert have.parameters["int8"] == sum(m.weight.numel() for m in graph.modules() if hasattr(m, "kernel_size"))
    assert sum(have.parameters.values()) == sum(p.numel() for p in graph.parameters())  # scales are not parameters
    assert set(have.parameters) == {"int8", "float32"}  # biases
    assert have.macs == cost(graph, 224).macs
    assert (have.inputs, have.outputs) == (want.inputs, want.outputs)
    assert have.float32_layers == ()


def test_all_zero_channels_and_inputs_get_a_finite_scale(quantized, graph, seen):
    dead = copy.deepcopy(graph)
    dead.get_submodule("mask.0.2").weight.data[3] = 0
    layers, weights = _weights(quantized(dead, seen | {"mask_0_1": Range(0.0, 0.0)}))
    per_channel, read = scales(layers["mask_0_2"], weights["mask_0_2"])
    assert list(np.flatnonzero(per_channel.values == 1)) == [3]
    assert read.values == scales(layers["mask_0_1"], weights["mask_0_1"])[2].values == 1


# --- formats


@pytest.mark.parametrize("wanted", ncnn.FORMATS, ids=str)
def test_every_format_of_the_list_can_be_given_to_one_layer(quantized, contract, crop, wanted):
    path = quantized(layers={"decoder_1_1": wanted})
    layers, weights = _weights(path)
    assert weights["decoder_1_1"][0].values.dtype == wanted.weights
    assert (layers["decoder_1_1"].params.get(31) == "3") == (wanted.activations == "float32")
    assert ncnn.describe(path).float32_layers == (("decoder_1_1",) if wanted.weights == "float32" else ())
    assert np.isfinite(ncnn.open(path, contract).run(crop)[0]).all()


def test_a_range_that_is_not_known_is_refused_by_name(quantized, seen):
    with pytest.raises(CalibrationError, match=r"decoder_1_0 .* interpolate_6 is not known"):
        quantized(ranges={name: value for name, value in seen.items() if name != "interpolate_6"})
    quantized(
        ranges={"interpolate_6": seen["interpolate_6"]},
        default=("float32", "float32"),
        layers={"decoder_1_0": Format("int8", "int8")},
    )


def test_white_stays_white_though_no_crop_had_any(contract):
    class Direct(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.swap, self.mask = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 1, 1)

        def forward(self, target):
            return self.swap(target), self.mask(target)

    seen = {"target": Range(0.2, 0.6)}
    job = Conversion(trace(Direct()), contract, Recipe("int8", "int8", "int8", ""), ranges=seen)
    assert ncnn_int8.inputs(job.graph, job.formats, job.value_ranges) == {"swap": 1.0, "mask": 1.0}


# --- damage


@pytest.mark.parametrize(
    ("layer", "old", "new", "match"),
    [
        ("encoder_0_0", " 8=101", "", "encoder_0_0.*int8 weights"),
        ("encoder_0_0", " 8=101", " 8=1", r"\.bin|encoder_0_1"),  # one array fewer
        ("encoder_0_0", " 8=101", " 8=102", r"\.bin|encoder_0_"),  # one scale instead of three
        ("encoder_0_0", " 8=101", " 8=3", "int8 form 3"),
        ("encoder_0_0", " 8=101", " 8=-101", "int8 form -101"),
        ("encoder_0_0", " 8=101", " 8=1.0", "integer"),
        ("interpolate", " 6=1", " 6=1 8=1", "interpolate.*not known"),
        ("encoder_1_1", " 8=2", " 8=102", "cat_2.*reads 9, whose values are int8"),  # behind a Split
        ("final_9", " 8=2", " 8=102", "interpolate_10.*reads 55, whose values are int8"),
        ("mask_5", " 8=2", " 8=102", "mul_2.*reads 39, whose values are int8"),
    ],
)
def test_a_wrong_int8_parameter_is_refused_before_ncnn_loads_the_file(damaged, contract, layer, old, new, match):
    lines = damaged.read_text().splitlines()
    (at,) = (i for i, line in enumerate(lines) if line.split()[1:2] == [layer])
    assert lines[at].endswith(old)
    lines[at] = lines[at].removesuffix(old) + new
    damaged.write_text("\n".join(lines) + "\n")
    with pytest.raises(BundleError, match=match):
        ncnn.open(damaged, contract)


def test_an_output_of_integers_is_refused():
    from mfs_deploy.backends.ncnn.operations import shapes

    text = "7767517\n2 2\nInput i 0 1 a 0=4 1=4 2=1\nConvolution c 1 1 a b 0=1 1=1 6=1 8=102\n"
    with pytest.raises(BundleError, match="'c': gives b as int8, and no layer reads it"):
        shapes(parse_param(text))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_scale_that_is_not_a_positive_number_is_refused(damaged, contract, value, which):
    """encoder_0_0 stands first: a tag, 48 weights, scales of three channels, of the input and of the output."""
    data = bytearray(damaged.with_suffix(".bin").read_bytes())
    at = 4 + 48 + (0, 12, 16)[which]
    data[at : at + 4] = struct.pack("<f", value)
    damaged.with_suffix(".bin").write_bytes(data)
    with pytest.raises(BundleError, match=r"encoder_0_0.*scale"):
        ncnn.open(damaged, contract)


def test_float_weights_under_an_int8_form_are_refused(damaged, contract):
    data = bytearray(damaged.with_suffix(".bin").read_bytes())
    for tag in (b"\0\0\0\0", b"\x47\x6b\x30\x01"):
        data[:4] = tag
        damaged.with_suffix(".bin").write_bytes(data)
        with pytest.raises(BundleError, match=r"encoder_0_0.*float.* weights, but parameter 8 is 101"):
            ncnn.open(damaged, contract)


def test_weights_cut_off_anywhere_are_refused(damaged, contract):
    data = damaged.with_suffix(".bin").read_bytes()
    for end in np.random.default_rng(0).integers(0, len(data), 40):
        damaged.with_suffix(".bin").write_bytes(data[:end])
        with pytest.raises(BundleError):
            ncnn.open(damaged, contract)


def test_any_flipped_bit_of_the_graph_is_refused_or_harmless(damaged, flips_refused):
    assert flips_refused(damaged) > 60
