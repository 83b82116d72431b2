"""Both ncnn files are written back byte for byte, and nothing damaged gets as far as ncnn, which can crash on it."""

from __future__ import annotations

import struct

import pytest

from mfs_deploy.backends.ncnn import backend as ncnn
from mfs_deploy.backends.ncnn.files import (
    NcnnLayer,
    layout,
    parse_param,
    read_bin,
    write_bin,
    write_param,
)
from mfs_deploy.errors import BundleError


@pytest.mark.parametrize("recipe", ["fp32", "fp16"])
def test_artifact_is_written_back_byte_for_byte(recipe, request):
    path = request.getfixturevalue(recipe)
    param, data = path.read_text(), path.with_suffix(".bin").read_bytes()
    layers = parse_param(param)
    assert write_param(layers) == param
    assert write_bin(read_bin(data, layers), layers) == data


def test_graph_and_weights_of_pnnx_are_written_back_byte_for_byte(graph, contract, tmp_path):
    import subprocess

    from mfs_deploy.backends.ncnn import pnnx

    pnnx._trace(graph, contract, tmp_path / "x.pt")
    command = [str(pnnx._pnnx()), "x.pt", "inputshape=[1,3,224,224]f32", "fp16=0"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    param, data = (tmp_path / "x.ncnn.param").read_text(), (tmp_path / "x.ncnn.bin").read_bytes()
    layers = parse_param(param)
    assert write_param(layers) == param
    assert write_bin(read_bin(data, layers), layers) == data


def _line(text: str) -> NcnnLayer:
    return parse_param(f"7767517\n2 2\nInput i 0 1 a\n{text}\n")[1]


# (layer, its bytes), from ncnn's load_model functions; small enough to check by eye.
FLOATS = struct.pack
EXAMPLES = {
    "float32": ("Convolution c 1 1 a b 0=1 1=1 5=1 6=2", FLOATS("<I2f1f", 0, 1, 2, 3)),
    "float16, padded": ("Convolution c 1 1 a b 0=3 1=1 6=3", FLOATS("<I3e2x", 0x01306B47, 1, 2, 3)),
    "int8, padded, with scales": (
        "Convolution c 1 1 a b 0=2 1=1 5=1 6=2 8=2",
        FLOATS("<I2b2x2f2f1f", 0x000D4B38, 1, -2, 3, 4, 5, 6, 7),
    ),
    "int8 requantized": ("Convolution c 1 1 a b 0=1 1=1 6=1 8=101", FLOATS("<I1b3x3f", 0x000D4B38, 1, 2, 3, 4)),
    "int8 depthwise": (
        "ConvolutionDepthWise c 1 1 a b 0=2 1=1 6=2 7=2 8=1",
        FLOATS("<I2b2x2f1f", 0x000D4B38, 1, 2, 3, 4, 5),
    ),
    "int8 depthwise, one scale": (
        "ConvolutionDepthWise c 1 1 a b 0=2 1=1 6=2 7=2 8=102",
        FLOATS("<I2b2x3f", 0x000D4B38, 1, 2, 3, 4, 5),
    ),
    "linear": ("InnerProduct c 1 1 a b 0=1 1=1 2=2", FLOATS("<I3f", 0, 1, 2, 3)),
    "batch norm": ("BatchNorm c 1 1 a b 0=1 1=1e-5", FLOATS("<4f", 1, 2, 3, 4)),
    "slopes": ("PReLU c 1 1 a b 0=2", FLOATS("<2f", 1, 2)),
    "scale": ("Scale c 1 1 a b 0=1 1=1", FLOATS("<2f", 1, 2)),
    "constant": ("MemoryData c 0 1 b 0=2 1=1 2=1", FLOATS("<2f", 1, 2)),
    "tagged constant": ("MemoryData c 0 1 b 0=1 21=0", FLOATS("<Ie2x", 0x01306B47, 1)),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_weights_of_every_known_kind_are_read_and_written(name):
    text, data = EXAMPLES[name]
    layers = (_line(text),)
    weights = read_bin(data, layers)
    assert sum(s.values.size for s in weights["c"]) == sum(count for count, _ in layout(layers[0]))
    assert [float(abs(v)) for s in weights["c"] for v in s.values] == list(range(1, 1 + sum(s.values.size for s in weights["c"])))
    assert write_bin(weights, layers) == data
    for wrong in (data[:-1], data + b"\0"):
        with pytest.raises(BundleError):
            read_bin(wrong, layers)


def test_layer_with_unknown_weights_is_refused_not_guessed():
    with pytest.raises(BundleError, match=r"LSTM 'c'.*does not know"):
        read_bin(b"", (_line("LSTM c 1 1 a b 0=1"),))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "begins with ''"),
        ("7767518\n0 0\n", "7767518"),
        ("7767517\n", "line 2"),
        ("7767517\n1 x\n", "line 2"),
        ("7767517\n2 1\nInput i 0 1 a\n", "announces 2 layers and has 1"),
        ("7767517\n1 2\nInput i 0 1 a\n", "announces 2 blobs and has 1"),
        ("7767517\n1 1\nInput i 0 1\n", "line 3"),
        ("7767517\n1 1\nInput i 0 1 a 0=\n", "line 3.*'0='"),
        ("7767517\n1 1\nInput i 0 1 a 0=1 0=2\n", "line 3.*'0=2'"),
        ("7767517\n1 1\nInput i 0 1 a 0=nan\n", "line 3"),
        ("7767517\n1 1\nInput i 0 1 a 0=1e999\n", "line 3"),
        ("7767517\n1 1\nInput i 0 1 a 99=1\n", "line 3"),
        ("7767517\n1 1\nInput i 0 1 a -23310=2,1.0\n", "line 3"),
        ("7767517\n1 1\nInput i 0 999999999 a\n", "line 3"),
        ("7767517\n2 2\nInput i 0 1 a\nReLU i 1 1 a b\n", "another layer has this name"),
        ("7767517\n2 2\nReLU r 1 1 a b\nInput i 0 1 a\n", "no earlier layer makes"),
        ("7767517\n3 3\nInput i 0 1 a\nReLU r 1 1 a b\nReLU s 1 1 a c\n", "another layer has read"),
        ("7767517\n2 2\nInput i 0 1 a\nReLU r 1 1 a a\n", "which an earlier layer makes"),
    ],
)
def test_damaged_graph_is_refused_and_the_place_named(text, match):
    with pytest.raises(BundleError, match=match):
        parse_param(text)


def _change(path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("7767517", "7767516", "begins with"),
        ("0=224 1=224 2=3", "0=256 1=256 2=3", "must have"),
        ("0=224 1=224 2=3", "0=224", "target.*shape"),
        ("0=224 1=224", "0=999999 1=999999", "target.*shape"),
        ("0=32 1=1 -23310", "0=33 1=1 -23310", "encoder_0_1.*do not fit"),
        ("13=2", "13=0", "encoder_0_0.*out of range"),
        ("9=2", "9=3", "encoder_0_1.*activation 3"),
        ("9=2", "9=2 19=1", "encoder_0_1.*not known"),
        ("6=200", "6=2147483647", "encoder_0_0"),
        ("6=200", "6=2.0", "encoder_0_0.*integer"),
        ("1=2.0 2=2.0", "1=1e9 2=2.0", "interpolate.*shape"),
        ("1=2.0 2=2.0", "1=3.0 2=2.0", "cannot join|cannot combine"),
        ("Interp      ", "Interq      ", "Interq.*not known"),
        (" mask 31=3\n", " musk 31=3\n", "musk"),
        (" swapped", " swopped", "swopped"),
        ("target 0=", "targot 0=", "targ"),
    ],
)
def test_changed_graph_is_refused_before_ncnn_sees_it(copy, contract, old, new, match):
    _change(copy, old, new)
    with pytest.raises(BundleError, match=match):
        ncnn.open(copy, contract)


def test_binary_graph_is_refused(copy, contract):
    copy.write_bytes(b"7767517\n\xff\xfe")
    with pytest.raises(BundleError, match="not text"):
        ncnn.open(copy, contract)


def test_longer_weights_are_refused(copy, contract):
    weights = copy.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes() + b"\0\0\0\0")
    for read in (lambda: ncnn.open(copy, contract), lambda: ncnn.describe(copy)):
        with pytest.raises(BundleError, match=r"\.bin"):
            read()


def test_flipped_tag_is_refused(copy, contract):
    weights = copy.with_suffix(".bin")
    data = bytearray(weights.read_bytes())
    for tag in (b"\x01\0\0\0", b"\x38\x4b\x0d\0", b"\x47\x6b\x30\x01"):
        data[:4] = tag
        weights.write_bytes(data)
        with pytest.raises(BundleError, match=r"sub_widened|encoder_"):
            ncnn.open(copy, contract)


def test_any_flipped_bit_of_the_graph_is_refused_or_harmless(copy, flips_refused):
    assert flips_refused(copy) > 60
