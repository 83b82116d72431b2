"""Integers in TFLite: each format runs in LiteRT and is as near to PyTorch as its bits allow; layers left in floats are floats.

Ranges are those of real crops.  The stand-in's weights are not trained and spread far wider than trained ones do: the demo
weights give 10 dB more (51 dB for int8 activations, 61 dB for int8 weights alone).
"""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch

from mfs_deploy import metrics
from mfs_deploy.backends.base import Conversion
from mfs_deploy.backends.tflite import backend as tflite
from mfs_deploy.backends.tflite import edit
from mfs_deploy.backends.tflite import model as tfl
from mfs_deploy.backends.tflite import quantize as integers
from mfs_deploy.errors import BundleError, ConversionError, UsageError
from mfs_deploy.quant import simulate
from mfs_deploy.quant.recipes import Format, Range, Recipe
from testing.over_blocks import over_blocks

FLOAT32 = Format("float32", "float32")
# Least PSNR of the swapped crop against PyTorch, in dB; 1.5 below what was measured.
EXPECTED = {
    Format("int8", "float32"): 46.2,
    Format("int8", "int8"): 38.4,
    Format("int8", "int16"): 46.1,
    Format("float16", "float32"): 73.0,
    FLOAT32: 120.0,
}


def _psnr(path, contract, crop, expected) -> float:
    return metrics.psnr_db(tflite.open(path, contract).run(crop)[0], expected[0], peak=1.0)


def _tensors(path) -> dict[str, object]:
    """Tensors by name; names must differ."""
    model = tfl.read(path.read_bytes())
    found = {tfl.text(t.name): t for t in model.subgraphs[0].tensors}
    assert len(found) == len(model.subgraphs[0].tensors)
    return found


def _index(model, name: str) -> int:
    return [tfl.text(t.name) for t in model.subgraphs[0].tensors].index(name)


def _dtypes(path) -> dict[str, str]:
    return {name: tfl.dtype(tensor) for name, tensor in _tensors(path).items()}


def _kinds(path) -> list[str]:
    model = tfl.read(path.read_bytes())
    return [tfl.kind(model, operator) for operator in model.subgraphs[0].operators]


# ---- formats


@pytest.mark.parametrize("wanted", EXPECTED, ids=str)
def test_each_integer_format_stays_close_to_pytorch(quantized, contract, crop, expected, wanted):
    assert _psnr(quantized(wanted.weights, wanted.activations), contract, crop, expected) >= EXPECTED[wanted]


def test_every_supported_integer_format_has_a_quality_bound():
    assert set(tflite.FORMATS) == {*EXPECTED, Format("float16", "float16"), Format("int8", "float16")}


def test_int8_weights_alone_allow_float16_arithmetic_where_the_recipe_does(quantized):
    plain, half = (tfl.read(quantized("int8", kind).read_bytes()) for kind in ("float32", "float16"))
    assert "reduced_precision_support" not in tfl.metadata(plain)
    assert tfl.metadata(half)["reduced_precision_support"] == "fp16accfp16"


def test_int8_files_are_small(quantized, fp32):
    whole = fp32.stat().st_size
    assert quantized("int8", "float32").stat().st_size <= 0.30 * whole
    assert quantized("int8", "int8").stat().st_size <= 0.35 * whole
    assert quantized("int8", "int16").stat().st_size <= 0.35 * whole


def test_nothing_between_the_borders_is_a_float(quantized, graph):
    path = quantized("int8", "int8")
    assert {name for name, dtype in _dtypes(path).items() if dtype == "float32"} == {"target", "swapped", "mask"}
    assert _kinds(path).count("DEQUANTIZE") == 2
    dtypes = _dtypes(path)
    computed = [node.name for node in graph.graph.nodes if node.op in ("call_module", "call_function")]
    assert {dtypes[name] for name in computed} == {"int8"}
    assert {dtypes[name] for name in dtypes if name.endswith(".weight")} == {"int8"}
    assert {dtypes[name] for name in dtypes if name.endswith(".bias")} == {"int32"}


def test_int16_values_and_the_sums_that_need_it(quantized):
    """ADD and SUB of int16 refuse to open unless told that scales are not powers of two."""
    path = quantized("int8", "int16")
    assert {name for name, dtype in _dtypes(path).items() if dtype == "float32"} == {"target", "swapped", "mask"}
    model = tfl.read(path.read_bytes())
    sums = [o for o in model.subgraphs[0].operators if tfl.kind(model, o) in integers.POT_SCALES]
    assert [o.builtinOptions.potScaleInt16 for o in sums] == [False] * 3


def test_weights_have_a_step_per_channel_and_no_zero_point(quantized, graph):
    path = quantized("int8", "int8")
    model, tensors = tfl.read(path.read_bytes()), _tensors(path)
    index = _index(model, "Encoder.2.0.weight")
    weight = graph.get_submodule("Encoder.2.0").weight.detach().numpy().transpose(1, 2, 3, 0)
    steps, zeros = tfl.scales(tensors["Encoder.2.0.weight"])
    assert np.allclose(steps, np.abs(weight).max(axis=(0, 1, 2)) / 127)
    assert set(zeros) == {0}
    assert np.abs(tfl.values(model, index) * np.array(steps, np.float32) - weight).max() <= max(steps) * 0.5001


def test_same_bytes_for_the_same_job(quantized):
    assert quantized("int8", "int8").read_bytes() == quantized("int8", "int8").read_bytes()
    assert quantized("int8", "int16").read_bytes() == quantized("int8", "int16").read_bytes()


def test_activation_ranges_are_those_of_the_calibration(quantized, contract, crop, expected, ranges):
    """That a range is taken from the job and nowhere else: cut off one value, and the result is far off."""
    cut = {**ranges, "encoder_2_1": Range(-0.1, 0.1)}
    assert _psnr(quantized("int8", "int8", ranges=cut), contract, crop, expected) < EXPECTED[Format("int8", "int8")] - 10


# ---- scales that operators share


def test_resizes_and_concatenations_have_one_scale(quantized):
    path = quantized("int8", "int8")
    model = tfl.read(path.read_bytes())
    tensors, checked = model.subgraphs[0].tensors, 0
    for operator in model.subgraphs[0].operators:
        inputs = {"RESIZE_BILINEAR": 1, "CONCATENATION": 2}.get(tfl.kind(model, operator), 0)
        for i in operator.inputs[:inputs]:
            assert tfl.scales(tensors[int(i)]) == tfl.scales(tensors[int(operator.outputs[0])])
            checked += 1
    assert checked == 9 + 6


def test_a_concatenation_rescales_only_inputs_that_no_other_layer_reads(quantized, ranges):
    """leaky_relu_3 also feeds the encoder, so it is rescaled for ``cat``; leaky_relu_5 feeds ``cat`` alone."""
    tensors = _tensors(quantized("int8", "int8"))
    own = (ranges["leaky_relu_3"].high - ranges["leaky_relu_3"].low) / 255
    assert tfl.scales(tensors["leaky_relu_3"])[0] == pytest.approx((own,))
    assert tfl.scales(tensors["leaky_relu_3_int8"]) == tfl.scales(tensors["cat"])
    assert tfl.scales(tensors["leaky_relu_5"]) == tfl.scales(tensors["cat"])
    assert "leaky_relu_5_int8" not in tensors


# ---- mixed


MIXED = ("decoder_1_1", "leaky_relu_6", "cat_1")


def test_a_layer_left_in_floats_is_computed_in_floats(quantized, contract, crop, expected, graph):
    path = quantized("int8", "int8", layers=dict.fromkeys(MIXED, FLOAT32))
    model, dtypes = tfl.read(path.read_bytes()), _dtypes(path)
    assert {dtypes[name] for name in MIXED} == {"float32"}
    assert dtypes["decoder_1_0"] == dtypes["decoder_2_0"] == "int8"
    index = _index(model, "Decoder.1.1.weight")
    assert np.array_equal(
        tfl.values(model, index), graph.get_submodule("Decoder.1.1").weight.detach().numpy().transpose(0, 2, 3, 1)
    )
    assert tflite.describe(path).float32_layers == ("decoder_1_1",)
    assert _psnr(path, contract, crop, expected) >= EXPECTED[Format("int8", "int8")]


def test_kept_layers_stay_in_floats_too(quantized):
    path = quantized("int8", "int8", keep_float32=frozenset(MIXED))
    assert tflite.describe(path).float32_layers == ("decoder_1_1",)


def test_one_network_can_mix_all_formats(quantized, contract, crop, expected):
    """Also the same value as int8, int16 and float32 to different readers."""
    layers = {
        "leaky_relu_3": Format("int8", "int16"),
        "encoder_4_0": FLOAT32,
        "decoder_0_1": Format("float16", "float32"),
        "mask_0_2": Format("int8", "float32"),
        "mul_2": Format("int8", "int16"),
        "interpolate_7": FLOAT32,
    }
    path = quantized("int8", "int8", layers=layers)
    dtypes = _dtypes(path)
    assert [dtypes[n] for n in ("leaky_relu_3", "leaky_relu_3_int8", "leaky_relu_3_float32")] == ["int16", "int8", "float32"]
    assert dtypes["Decoder.0.1.weight"] == "float16"
    assert dtypes["mask.0.2.weight"] == "int8"
    assert tflite.describe(path).float32_layers == ("encoder_4_0",)
    assert _psnr(path, contract, crop, expected) >= EXPECTED[Format("int8", "int8")] - 1


def test_a_format_for_one_kind_of_operation_leaves_the_others_in_int8(quantized):
    path = quantized("int8", "int8", operations={"leaky_relu": FLOAT32})
    assert _dtypes(path)["leaky_relu_2"] == "float32"
    assert _dtypes(path)["encoder_2_1"] == "int8"


# ---- input and outputs


@pytest.mark.parametrize("recipe", [("float32", "float32"), ("int8", "int8"), ("int8", "int16")], ids="-".join)
def test_borders_in_integers_give_what_floats_give(quantized, contract, crop, recipe):
    swapped, mask = tflite.open(quantized(*recipe), contract).run(crop)
    for io in ("int8", "uint8"):
        path = quantized(*recipe, tflite_io=io)
        info = tflite.describe(path)
        assert {t.dtype for t in (*info.inputs, *info.outputs)} == {io}
        runner = tflite.open(path, contract)
        assert runner.pixels
        found = runner.run(crop)
        assert found[0].dtype == found[1].dtype == np.float32
        assert metrics.max_error(found[0], swapped) <= 0.51 / 255
        assert metrics.max_error(found[1], mask) <= 0.51 / 255


def test_uint8_takes_and_gives_pixels(quantized):
    tensors = _tensors(quantized("int8", "int8", tflite_io="uint8"))
    for name in ("target", "swapped"):
        (step,), zeros = tfl.scales(tensors[name])
        assert step == pytest.approx(1 / 255, rel=1e-6)
        assert zeros == (0,)


def test_floats_at_the_borders_are_not_pixels(quantized, contract):
    assert not tflite.open(quantized("int8", "int8"), contract).pixels


def test_borders_of_another_type_are_refused(quantized, contract, tmp_path):
    model = tfl.read(quantized("int8", "int8", tflite_io="int8").read_bytes())
    for dtype in ("uint8", "int16", "float16"):
        edit.set_dtype(model, _index(model, "target"), dtype)
        edit.set_scales(model, _index(model, "target"), [1 / 255])
        broken = tmp_path / "swap.tflite"
        broken.write_bytes(tfl.write(model))
        with pytest.raises(BundleError, match=f"'{dtype}'|'int8'"):
            tflite.open(broken, contract)


@pytest.mark.parametrize(("steps", "said"), [([], "0 scales"), ([0.1, 0.1, 0.1], "3 scales"), ([float("nan")], "not a positive")])
def test_damaged_scales_are_refused(quantized, contract, tmp_path, steps, said):
    model = tfl.read(quantized("int8", "int8", tflite_io="int8").read_bytes())
    edit.set_scales(model, _index(model, "target"), steps, axis=3)
    broken = tmp_path / "swap.tflite"
    broken.write_bytes(tfl.write(model))
    with pytest.raises(BundleError, match=said):
        tflite.open(broken, contract)


ENDS = """
import sys
from pathlib import Path
from mfs_deploy import architectures
from mfs_deploy.backends.tflite import backend as tflite
from mfs_deploy.errors import BundleError
contract = architectures.interface("mobilefaceswap").contract(224)
for path in map(Path, sys.argv[1:]):
    for read in (tflite.describe, lambda path: tflite.open(path, contract)):
        try:
            read(path)
        except BundleError as exc:
            print(exc.message)
"""


def test_a_missing_value_or_a_zero_point_beyond_its_type_does_not_end_the_process(quantized, tmp_path):
    start = quantized("int8", "int8").read_bytes()
    kinds = list(dict.fromkeys(_kinds(quantized("int8", "int8"))))
    files = []
    for kind in kinds:
        for field in ("inputs", "outputs"):
            for lost in (True, False):
                model = tfl.read(start)
                operator = next(o for o in model.subgraphs[0].operators if tfl.kind(model, o) == kind)
                setattr(operator, field, [-1, *getattr(operator, field)[1:]] if lost else [])
                files.append((model, "index"))
    for kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        model = tfl.read(start)
        operator = next(o for o in model.subgraphs[0].operators if tfl.kind(model, o) == kind)
        operator.inputs = [operator.inputs[0], -1, operator.inputs[2]]
        files.append((model, "index"))
    model = tfl.read(start)
    pixels = next(o for o in model.subgraphs[0].operators if tfl.kind(model, o) == "QUANTIZE").outputs[0]
    model.subgraphs[0].tensors[pixels].quantization.zeroPoint = [300]
    files.append((model, "zero point beyond int8"))
    paths = [tmp_path / f"{i}.tflite" for i in range(len(files))]
    for path, (model, _) in zip(paths, files, strict=True):
        path.write_bytes(tfl.write(model))
    done = subprocess.run([sys.executable, "-c", ENDS, *map(str, paths)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    said = done.stdout.splitlines()
    assert len(said) == 2 * len(files)
    for i, (path, (_, why)) in enumerate(zip(paths, files, strict=True)):
        assert all(path.name in line and why in line for line in said[2 * i : 2 * i + 2]), said[2 * i]


# ---- what a file says of itself, and what is refused


def test_parameters_are_counted_as_stored(quantized, graph):
    stored = dict(over_blocks(graph).named_parameters())
    weights, biases = (sum(p.numel() for name, p in stored.items() if name.endswith(kind)) for kind in ("weight", "bias"))
    assert tflite.describe(quantized("int8", "float32")).parameters == {"float32": biases, "int8": weights}
    assert tflite.describe(quantized("int8", "int8")).parameters == {"int32": biases, "int8": weights}
    stored = dict(graph.named_parameters())  # LiteRT has no blocks of int16
    weights, biases = (sum(p.numel() for name, p in stored.items() if name.endswith(kind)) for kind in ("weight", "bias"))
    assert tflite.describe(quantized("int8", "int16")).parameters == {"int64": biases, "int8": weights}
    macs = {tflite.describe(quantized(*f)).macs for f in (("float32", "float32"), ("int8", "float32"), ("int8", "int8"))}
    assert len(macs) == 1


def test_other_borders_are_refused(contract, graph, tmp_path):
    job = Conversion(graph, contract, Recipe("test", "float32", "float32", ""), tflite_io="int16")
    with pytest.raises(UsageError, match="'int16'"):
        tflite.convert(job, tmp_path)


def test_an_operation_without_an_integer_kernel_is_refused_by_name(quantized, monkeypatch):
    monkeypatch.delitem(integers.VERSIONS, "MUL")
    with pytest.raises(UsageError, match="no int8 kernel for mul_2, which is a MUL"):
        quantized("int8", "int8")


def test_a_missing_range_is_named(quantized, ranges):
    rest = {name: seen for name, seen in ranges.items() if name != "encoder_3_0"}
    with pytest.raises(ConversionError, match="encoder_3_0 has no range"):
        quantized("int8", "int8", ranges=rest)


def test_a_channel_of_tiny_weights_keeps_its_bias(lowered, graph, contract, ranges, tmp_path):
    """Counted in steps for such weights, this bias would be 5e11."""
    changed, model, path = copy.deepcopy(graph), tfl.read(lowered), tmp_path / tflite.FILES[0]
    tfl.name_tensors(model, graph, "target", ("swapped", "mask"))
    with torch.no_grad():
        for name, value in (("weight", 1e-12), ("bias", 1000.0)):
            changed.get_submodule("mask.1.2").get_parameter(name)[0] = value
            index = _index(model, f"mask.1.2.{name}")
            stored = tfl.values(model, index).copy()
            stored[0] = value
            model.buffers[model.subgraphs[0].tensors[index].buffer].data = np.frombuffer(stored.tobytes(), np.uint8)
    job = Conversion(changed, contract, Recipe("test", "int8", "int8", ""), ranges=ranges)
    path.write_bytes(tflite.finish(tfl.write(model), job))
    after = tfl.read(path.read_bytes())
    index = _index(after, "mask.1.2.bias")
    steps, _ = tfl.scales(after.subgraphs[0].tensors[index])
    assert tfl.values(after, index)[0] * steps[0] == pytest.approx(1000.0, rel=1e-6)
    tflite.open(path, contract)


def test_metadata_are_kept_and_float16_arithmetic_is_not_promised(quantized):
    path = quantized("int8", "int8", metadata={"identity": "Zoë"})
    assert tflite.describe(path).metadata == {"identity": "Zoë"}
    assert "reduced_precision_support" not in tfl.metadata(tfl.read(path.read_bytes()))


@pytest.mark.parametrize("name", ["decoder_3_1", "mask_2_2", "encoder_0_1"])
def test_simulation_foresees_what_one_operation_in_integers_costs(quantized, graph, ranges, contract, crop, expected, name):
    """It reads floats and gives floats, so its input is rounded too; left out, simulation was 6 to 10 dB too hopeful."""
    path = quantized("float32", "float32", layers={name: Format("int8", "int8")})
    swapped, _ = simulate.run(graph, {name: Format("int8", "int8")}, ranges, torch.from_numpy(crop))
    foreseen = metrics.psnr_db(swapped.numpy(), expected[0], peak=1.0)
    assert _psnr(path, contract, crop, expected) == pytest.approx(foreseen, abs=2)
