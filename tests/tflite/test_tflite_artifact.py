"""The TFLite artifact computes what PyTorch computes, says what it is, and is the same bytes every time."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mfs_deploy import architecture, metrics
from mfs_deploy.backends import tflite
from mfs_deploy.backends import tflite_model as tfl
from mfs_deploy.errors import BundleError, ConversionError

# Measured: fp32 133 dB and 4e-6 at worst.  fp16 75 dB and 2.7e-3 on x86, where XNNPACK computes in float32; 57 dB and 1.7e-2 on an
# emulated Cortex-A76, where it does not.
HALF_ARITHMETIC = platform.machine() in ("aarch64", "arm64")
BOUNDS = {"fp32": (128.0, 1e-5), "fp16": (54.0, 2.5e-2) if HALF_ARITHMETIC else (72.0, 5e-3)}


@pytest.mark.parametrize("recipe", ["fp32", "fp16"])
def test_artifact_matches_pytorch_on_a_face_and_on_noise(recipe, request, contract, crop, expected, noise):
    runner = tflite.open(request.getfixturevalue(recipe), contract)
    least_db, largest = BOUNDS[recipe]
    for target, *wanted in ((crop, *expected), noise):
        for got, want in zip(runner.run(target), wanted, strict=True):
            assert got.dtype == np.float32
            assert metrics.psnr_db(got, want, peak=1.0) > least_db
            assert metrics.max_error(got, want) < largest


def test_swapped_colour_channels_are_noticed(fp32, contract, crop, expected):
    swapped, _ = tflite.open(fp32, contract).run(np.ascontiguousarray(crop[:, ::-1]))
    assert metrics.psnr_db(swapped, expected[0], peak=1.0) < 30
    assert metrics.psnr_db(swapped[:, ::-1], expected[0], peak=1.0) < 60


def test_operators_are_the_networks_own(fp32):
    """No transposes at the edges, no resizes out of gathers, corners aligned as PyTorch has them."""
    model = tfl.read(fp32.read_bytes())
    operators = model.subgraphs[0].operators
    assert Counter(tfl.kind(model, o) for o in operators) == {
        "CONV_2D": 18,
        "LEAKY_RELU": 16,
        "DEPTHWISE_CONV_2D": 14,
        "RESIZE_BILINEAR": 9,
        "CONCATENATION": 3,
        "SUB": 2,
        "LOGISTIC": 2,
        "MUL": 1,
        "ADD": 1,
    }
    resizes = [o.builtinOptions for o in operators if tfl.kind(model, o) == "RESIZE_BILINEAR"]
    assert all(options.alignCorners and not options.halfPixelCenters for options in resizes)


def test_artifact_describes_itself_with_pytorchs_own_numbers(fp32, fp16, graph):
    weights = sum(p.numel() for p in graph.parameters())
    biases = sum(p.numel() for name, p in graph.named_parameters() if name.endswith("bias"))
    macs = _macs(graph)
    for path, parameters in ((fp32, {"float32": weights}), (fp16, {"float16": weights - biases, "float32": biases})):
        info = tflite.describe(path)
        assert info.format == "TFLite schema 3"
        assert [(t.name, t.shape, t.dtype) for t in info.inputs] == [("target", (1, 224, 224, 3), "float32")]
        assert sorted((t.name, t.shape, t.dtype) for t in info.outputs) == [
            ("mask", (1, 224, 224, 1), "float32"),
            ("swapped", (1, 224, 224, 3), "float32"),
        ]
        assert info.parameters == parameters
        assert info.macs == macs
        assert info.metadata == {"mfs.recipe": "as asked", "mfs.identity": "Zoë"}
        assert info.float32_layers == ()


def _macs(graph) -> int:
    """Multiply-adds of one frame, counted while PyTorch runs the graph."""
    import torch
    from torch import nn

    total = 0

    def count(module, inputs, output) -> None:
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in graph.modules() if isinstance(m, nn.Conv2d)]
    with torch.inference_mode():
        graph(torch.zeros(1, 3, 224, 224))
    for hook in hooks:
        hook.remove()
    return total


def test_tensors_bear_the_names_of_the_graph(fp32, graph):
    model = tfl.read(fp32.read_bytes())
    tensors = model.subgraphs[0].tensors
    computed = [node.name for node in graph.graph.nodes if node.op in ("call_module", "call_function")]
    outputs = {"sigmoid": "mask", "add_2": "swapped"}
    made = [tfl.text(tensors[int(o.outputs[0])].name) for o in model.subgraphs[0].operators]
    assert made == [outputs.get(name, name) for name in computed]
    names = {tfl.text(t.name) for t in tensors}
    assert {name for name, _ in graph.named_parameters()} <= names
    assert len(names) == len(tensors)


def test_operators_in_another_order_stop_the_conversion(lowered, graph):
    model = tfl.read(lowered)
    operators = model.subgraphs[0].operators
    first, second = (i for i, o in enumerate(operators) if tfl.kind(model, o) == "CONV_2D" and i < 6)
    operators[first], operators[second] = operators[second], operators[first]
    with pytest.raises(ConversionError, match=r"does not have the weights of Encoder\.0\.1"):
        tfl.name_tensors(model, graph, "target", ("swapped", "mask"))


def test_constants_lie_where_the_format_wants_them(fp16):
    """On multiples of 16 bytes, within the FlatBuffer: old runtimes map the file and read in place."""
    from ai_edge_litert import schema_py_generated as schema

    data = fp16.read_bytes()
    model = schema.Model.GetRootAs(data, 0)
    filled = [b for b in map(model.Buffers, range(model.BuffersLength())) if b.DataLength()]
    assert len(filled) > 60
    for buffer in filled:
        assert buffer._tab.Vector(buffer._tab.Offset(4)) % 16 == 0
        assert buffer.Offset() == 0


def test_nothing_of_the_machine_that_converted_is_left(fp32):
    model = tfl.read(fp32.read_bytes())
    names = [tfl.text(t.name) for t in model.subgraphs[0].tensors]
    assert not [name for name in names if "/" in name or "torch" in name or "__main__" in name or "arith" in name]
    assert set(tfl.metadata(model)) == {"min_runtime_version", "mfs.recipe", "mfs.identity"}


SCRIPT = """
import sys
from pathlib import Path
from safetensors.torch import load_file
from mfs_deploy import architecture
from mfs_deploy.backends import tflite
from mfs_deploy.backends.base import Conversion
from mfs_deploy.graph import simplify
from mfs_deploy.quant import recipe
arch = architecture.get("mobilefaceswap")
graph = simplify(arch.load(load_file(sys.argv[1])))
metadata = {"mfs.identity": "Zoë", "mfs.recipe": "as asked"}
tflite.convert(Conversion(graph, arch.contract(224), recipe.load("fp16"), frozenset(), metadata), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_another_process_writes_the_same_bytes_and_no_progress(fp16, net, tmp_path):
    from safetensors.torch import save_file

    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    out = tmp_path / "elsewhere"
    out.mkdir()
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "weights.safetensors"), str(out)]
    done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "7"}, cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout == b""
    assert b"START" not in done.stderr
    assert b"Warning" not in done.stderr
    assert [p.name for p in out.iterdir()] == list(tflite.FILES)
    assert (out / "swap.tflite").read_bytes() == fp16.read_bytes()


def test_converters_failure_is_told_in_its_own_words(graph, tmp_path):
    with pytest.raises(ConversionError, match=r"litert_torch\.convert failed: Sizes of tensors must match"):
        tflite._lower(graph, architecture.get("mobilefaceswap").contract(100), tmp_path / "swap.tflite")


def test_truncated_file_is_refused(fp32, contract, tmp_path):
    data = fp32.read_bytes()
    broken = tmp_path / "swap.tflite"
    for length in (0, 7, 100, len(data) // 2, len(data) - 16):
        broken.write_bytes(data[:length])
        for read in (lambda: tflite.open(broken, contract), lambda: tflite.describe(broken)):
            with pytest.raises(BundleError, match=r"swap\.tflite"):
                read()


def test_missing_file_is_refused(contract, tmp_path):
    with pytest.raises(BundleError, match="No such file"):
        tflite.open(tmp_path / "swap.tflite", contract)


def test_flipped_bit_in_a_weight_shows_in_the_output(fp32, graph, contract, crop, expected, tmp_path):
    weight = graph.get_submodule("final.7").weight.detach().numpy().transpose(0, 2, 3, 1)
    data = bytearray(fp32.read_bytes())
    data[data.index(np.ascontiguousarray(weight).tobytes()) + 3] ^= 0x40  # the exponent's highest bit
    broken = tmp_path / "swap.tflite"
    broken.write_bytes(data)
    swapped, _ = tflite.open(broken, contract).run(crop)
    assert not np.isfinite(swapped).all() or metrics.psnr_db(swapped, expected[0], peak=1.0) < 45


FLIPS = """
import sys
from pathlib import Path
import numpy as np
from mfs_deploy import architecture
from mfs_deploy.backends import tflite
from mfs_deploy.errors import BundleError
data, broken = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
contract = architecture.get("mobilefaceswap").contract(224)
refused, rng = 0, np.random.default_rng(0)
# The tables lie before and behind the weights.
for at in (*range(64), *rng.integers(64, 1200, 40), *rng.integers(len(data) - 12000, len(data), 150)):
    damaged = bytearray(data)
    damaged[at] ^= 0xFF
    broken.write_bytes(damaged)
    try:
        tflite.describe(broken)
        tflite.open(broken, contract)
    except BundleError:
        refused += 1
print(refused)
"""


def test_flipped_byte_in_the_structure_does_not_crash(fp32, tmp_path):
    command = [sys.executable, "-c", FLIPS, str(fp32), str(tmp_path / "swap.tflite")]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout) > 40


def test_artifact_of_another_size_is_refused(fp32):
    with pytest.raises(BundleError, match=r"\(1, 224, 224, 3\)"):
        tflite.open(fp32, architecture.get("mobilefaceswap").contract(256))


@pytest.mark.parametrize(("old", "new"), [(b"target", b"tarred"), (b"swapped", b"swopped")])
def test_renamed_tensor_is_refused(fp32, contract, tmp_path: Path, old, new):
    renamed = tmp_path / "swap.tflite"
    renamed.write_bytes(fp32.read_bytes().replace(old, new))
    with pytest.raises(BundleError, match=new.decode()):
        tflite.open(renamed, contract)


def test_outputs_are_found_by_name_when_their_order_changes(fp32, contract, crop, expected, tmp_path):
    model = tfl.read(fp32.read_bytes())
    model.subgraphs[0].outputs = model.subgraphs[0].outputs[::-1]
    model.signatureDefs[0].outputs = model.signatureDefs[0].outputs[::-1]
    turned = tmp_path / "swap.tflite"
    turned.write_bytes(tfl.write(model))
    swapped, mask = tflite.open(turned, contract).run(crop)
    assert metrics.max_error(swapped, expected[0]) < 1e-5
    assert metrics.max_error(mask, expected[1]) < 1e-5
