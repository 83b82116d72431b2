"""Integers in ONNX: each format runs in ONNX Runtime and is as near to PyTorch as its bits allow; layers left in floats are floats.

Ranges are those of real crops.  The stand-in's weights are not trained and spread far wider than trained ones do: the demo
weights give 10 dB more (50 dB for int8 activations, 61 dB for int8 weights alone).
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx as onnx_format
import onnxruntime
import pytest
from onnx import numpy_helper

from mfs_deploy import metrics
from mfs_deploy.backends.base import Conversion
from mfs_deploy.backends.onnx import backend as onnx
from mfs_deploy.backends.onnx.describe import _dtype
from mfs_deploy.errors import ConversionError
from mfs_deploy.faces import pixels
from mfs_deploy.quant.ranges import observe
from mfs_deploy.quant.recipes import Format, Range, Recipe
from mfs_deploy.quant.scales import weights_to_int8

FLOAT32 = Format("float32", "float32")
INT8 = Format("int8", "int8")
# Least PSNR of the swapped crop against PyTorch, in dB; 1.5 to 2 below what was measured.
EXPECTED = {
    Format("int8", "float32"): 46.2,
    INT8: 39.0,
    Format("int8", "int16"): 46.1,
    Format("float16", "float16"): 73.0,
    FLOAT32: 120.0,
}


@pytest.fixture(scope="module")
def exported(fp32) -> onnx_format.ModelProto:
    model = onnx_format.load(fp32)
    model.ClearField("metadata_props")
    return model


@pytest.fixture(scope="module")
def fp32(artifact):
    return artifact("onnx", "fp32")


@pytest.fixture(scope="module")
def ranges(graph, crop, portrait):
    """On the aligned portrait, mirrored, darker, and the whole photo shrunk."""
    whole = pixels.to_tensor(pixels.resize(portrait, 224))
    return observe(graph, np.concatenate([crop, crop[..., ::-1], crop * np.float32(0.6), whole]))


@pytest.fixture
def quantized(exported, graph, contract, ranges, tmp_path_factory, monkeypatch):
    """Weights, activations, and further fields of the recipe and the conversion, to the path of an artifact.

    The exporter's part is done once: it takes seconds, and does not know of formats.
    """

    def again(*_):
        model = onnx_format.ModelProto()
        model.CopyFrom(exported)
        return model

    monkeypatch.setattr(onnx, "_export", again)

    def run(weights: str, activations: str, *, operations=None, layers=None, **options):
        recipe = Recipe("test", weights, activations, "", operations or {}, layers or {})
        folder = tmp_path_factory.mktemp("onnx")
        onnx.convert(Conversion(graph, contract, recipe, **{"ranges": ranges, **options}), folder)
        return folder / onnx.FILES[0]

    return run


def _psnr(path, contract, crop, expected) -> float:
    return metrics.psnr_db(onnx.open(path, contract).run(crop)[0], expected[0], peak=1.0)


def _dtypes(path) -> dict[str, str]:
    """Of every tensor that is computed or stored, by name."""
    graph = onnx_format.load(path).graph
    found = {v.name: _dtype(v.type.tensor_type.elem_type) for v in (*graph.value_info, *graph.input, *graph.output)}
    return found | {w.name: _dtype(w.data_type) for w in graph.initializer}


def _constant(path, name: str) -> np.ndarray:
    return next(numpy_helper.to_array(w) for w in onnx_format.load(path).graph.initializer if w.name == name)


def _fused(path, tmp_path) -> Counter[str]:
    """Operations of the graph that ONNX Runtime executes."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx_format.load(tmp_path / "optimized.onnx").graph.node)


# ---- formats


@pytest.mark.parametrize("wanted", EXPECTED, ids=str)
def test_each_integer_format_stays_close_to_pytorch(quantized, contract, crop, expected, wanted):
    assert _psnr(quantized(wanted.weights, wanted.activations), contract, crop, expected) >= EXPECTED[wanted]


def test_every_supported_format_has_a_quality_bound():
    same = Format("int8", "float16")  # as int8 weights under float32: ONNX Runtime unpacks them to that
    assert set(onnx.FORMATS) == {*EXPECTED, same}


def test_int8_files_are_small(quantized, fp32):
    whole = fp32.stat().st_size
    assert quantized("int8", "float32").stat().st_size <= 0.30 * whole
    assert quantized("int8", "int8").stat().st_size <= 0.35 * whole
    assert quantized("int8", "int16").stat().st_size <= 0.35 * whole


def test_onnx_runtime_executes_integer_kernels(quantized, tmp_path):
    """It fuses an operation only if all around it have one type; resizes and subtractions have no integer kernel there."""
    found = _fused(quantized("int8", "int8"), tmp_path)
    assert found["QLinearConv"] == 32
    assert found["QLinearLeakyRelu"] == 16
    assert found["QLinearConcat"] == 3
    assert found["QLinearSigmoid"] == 2
    assert found["QLinearAdd"] == found["QLinearMul"] == 1
    assert not found["Conv"] + found["FusedConv"] + found["LeakyRelu"]


def test_nodes_keep_the_names_of_the_graph(quantized, graph):
    nodes = {node.name for node in onnx_format.load(quantized("int8", "int8")).graph.node}
    computed = {node.name for node in graph.graph.nodes if node.op in ("call_module", "call_function")}
    assert computed <= nodes
    assert all(name.startswith(("quantize_", "dequantize_")) for name in nodes - computed)


def test_names_of_tensors_and_nodes_differ(quantized):
    model = onnx_format.load(quantized("int8", "int8", layers={"leaky_relu_3": Format("int8", "int16")}))
    for names in (
        [node.name for node in model.graph.node],
        [name for node in model.graph.node for name in node.output],
        [w.name for w in model.graph.initializer],
    ):
        assert len(names) == len(set(names))


def test_weights_have_a_step_per_channel_and_no_zero_point(quantized, graph):
    path = quantized("int8", "int8")
    weight = graph.get_submodule("Encoder.2.0").weight.detach().numpy()
    steps, stored = _constant(path, "Encoder.2.0.weight_scale"), _constant(path, "Encoder.2.0.weight")
    assert stored.dtype == np.int8
    assert np.allclose(steps, np.abs(weight).max(axis=(1, 2, 3)) / 127)
    assert not _constant(path, "Encoder.2.0.weight_zero_point").any()
    assert np.abs(stored * steps[:, None, None, None] - weight).max() <= steps.max() * 0.5001


def test_pixels_are_whole_steps_at_the_borders(quantized):
    path = quantized("int8", "int8")
    for name in ("target_uint8", "add_2_uint8", "sigmoid_uint8"):
        assert _constant(path, f"{name}_scale") == np.float32(1 / 255)
        assert _constant(path, f"{name}_zero_point") == 0


def test_int16_needs_the_opset_that_has_it(quantized):
    assert onnx.describe(quantized("int8", "int8")).format == "ONNX opset 20"
    path = quantized("int8", "int16")
    assert onnx.describe(path).format == "ONNX opset 21"
    assert _dtypes(path)["encoder_2_1_int16"] == "int16"


def test_same_bytes_for_the_same_job(quantized):
    for activations in ("float32", "int8", "int16"):
        assert quantized("int8", activations).read_bytes() == quantized("int8", activations).read_bytes()


def test_activation_ranges_are_those_of_the_calibration(quantized, contract, crop, expected, ranges):
    """That a range is taken from the job and nowhere else: cut off one value, and the result is far off."""
    cut = {**ranges, "encoder_2_1": Range(-0.1, 0.1)}
    assert _psnr(quantized("int8", "int8", ranges=cut), contract, crop, expected) < EXPECTED[INT8] - 8


# ---- mixed

MIXED = ("decoder_1_1", "leaky_relu_6", "cat_1")


def test_a_layer_left_in_floats_is_computed_in_floats(quantized, contract, crop, expected, graph, tmp_path):
    path = quantized("int8", "int8", layers=dict.fromkeys(MIXED, FLOAT32))
    assert np.array_equal(_constant(path, "Decoder.1.1.weight"), graph.get_submodule("Decoder.1.1").weight.detach().numpy())
    assert not {f"{name}_uint8" for name in MIXED[:2]} & set(_dtypes(path))
    assert onnx.describe(path).float32_layers == ("decoder_1_1",)
    found = _fused(path, tmp_path)
    assert (found["QLinearConv"], found["Conv"] + found["FusedConv"]) == (31, 1)
    assert _psnr(path, contract, crop, expected) >= EXPECTED[INT8]


def test_kept_layers_stay_in_floats_too(quantized):
    assert onnx.describe(quantized("int8", "int8", keep_float32=frozenset(MIXED))).float32_layers == ("decoder_1_1",)


def test_one_network_can_mix_all_formats(quantized, contract, crop, expected):
    """Also the same value as int8, int16 and float32 to different readers, and float16 beside integers."""
    layers = {
        "leaky_relu_3": Format("int8", "int16"),
        "encoder_4_0": FLOAT32,
        "decoder_0_1": Format("float16", "float16"),
        "leaky_relu_5": Format("float16", "float16"),
        "mask_0_2": Format("int8", "float32"),
        "mul_2": Format("int8", "int16"),
        "interpolate_7": FLOAT32,
    }
    path = quantized("int8", "int8", layers=layers)
    dtypes = _dtypes(path)
    assert [dtypes[n] for n in ("leaky_relu_3_int16", "leaky_relu_3_uint8")] == ["int16", "uint8"]
    assert dtypes["Decoder.0.1.weight"] == dtypes["decoder_0_1"] == dtypes["leaky_relu_5"] == "float16"
    assert dtypes["mask.0.2.weight"] == "int8"
    assert dtypes["mask.0.2.bias"] == "float32"
    assert onnx.describe(path).float32_layers == ("encoder_4_0",)
    assert _psnr(path, contract, crop, expected) >= EXPECTED[INT8] - 1


def test_a_format_for_one_kind_of_operation_leaves_the_others_in_int8(quantized):
    dtypes = _dtypes(quantized("int8", "int8", operations={"leaky_relu": FLOAT32}))
    assert "encoder_2_1_uint8" in dtypes
    assert "leaky_relu_2_uint8" in dtypes  # where an integer operation reads it
    assert dtypes["leaky_relu_2"] == "float32"


# ---- what a file says of itself, and what is refused


def test_parameters_are_counted_as_stored(quantized, graph):
    weights = sum(p.numel() for name, p in graph.named_parameters() if name.endswith("weight"))
    biases = sum(p.numel() for name, p in graph.named_parameters() if name.endswith("bias"))
    infos = {a: onnx.describe(quantized("int8", a)) for a in ("float32", "int8", "int16")}
    assert infos["float32"].parameters == {"float32": biases, "int8": weights}
    assert infos["int8"].parameters == infos["int16"].parameters == {"int32": biases, "int8": weights}
    assert {info.macs for info in infos.values()} == {onnx.describe(quantized("float32", "float32")).macs}
    assert not any(info.float32_layers for info in infos.values())


def test_a_missing_range_is_named(quantized, ranges):
    rest = {name: seen for name, seen in ranges.items() if name != "encoder_3_0"}
    with pytest.raises(ConversionError, match="encoder_3_0 has no range"):
        quantized("int8", "int8", ranges=rest)


def test_a_channel_of_tiny_weights_keeps_its_bias(quantized, exported):
    """Counted in steps for such weights, this bias would be 5e11."""
    before = onnx_format.ModelProto()
    before.CopyFrom(exported)
    try:
        for weight in exported.graph.initializer:
            if weight.name in ("mask.1.2.weight", "mask.1.2.bias"):
                values = numpy_helper.to_array(weight).copy()
                values[0] = 1000.0 if weight.name.endswith("bias") else 1e-12
                weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        path = quantized("int8", "int8")
    finally:
        exported.CopyFrom(before)
    assert _constant(path, "mask.1.2.bias")[0] * _constant(path, "mask.1.2.bias_scale")[0] == pytest.approx(1000.0, rel=1e-6)


def test_weights_of_a_linear_layer_are_divided_by_its_outputs():
    weights = np.array([[1.0, 2.0], [30.0, -60.0], [0.0, 0.0]], np.float32)
    assert np.allclose(weights_to_int8(weights, 0)[1], np.array([2.0, 60.0, 60e-6]) / 127)
    assert np.allclose(weights_to_int8(weights, 1)[1], np.array([30.0, 60.0]) / 127)
    assert weights_to_int8(weights, 0)[0].tolist() == [[64, 127], [64, -127], [0, 0]]


def test_metadata_are_kept(quantized):
    assert onnx.describe(quantized("int8", "int8", metadata={"identity": "Zoë"})).metadata == {"identity": "Zoë"}
