"""The ONNX artifact computes what PyTorch computes, says what it is, and is the same bytes every time."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx as onnx_format
import pytest

from mfs_deploy import architecture, metrics
from mfs_deploy.backends import onnx
from mfs_deploy.errors import BundleError

# Measured: fp32 132 dB and 7e-6 at worst.  fp16 75 dB and 2.7e-3 on x86, where arithmetic is float32; 57 dB and 1.5e-2 on an
# emulated Cortex-A76, where it is not (see OnnxRunner).
HALF_ARITHMETIC = platform.machine() in ("aarch64", "arm64")
BOUNDS = {"fp32": (128.0, 1e-5), "fp16": (54.0, 2.5e-2) if HALF_ARITHMETIC else (72.0, 5e-3)}


@pytest.mark.parametrize("recipe", ["fp32", "fp16"])
def test_artifact_matches_pytorch_on_a_face_and_on_noise(recipe, request, contract, crop, expected, noise):
    runner = onnx.open(request.getfixturevalue(recipe), contract)
    least_db, largest = BOUNDS[recipe]
    for target, *wanted in ((crop, *expected), noise):
        for got, want in zip(runner.run(target), wanted, strict=True):
            assert got.dtype == np.float32
            assert metrics.psnr_db(got, want, peak=1.0) > least_db
            assert metrics.max_error(got, want) < largest


def test_swapped_colour_channels_are_noticed(fp32, contract, crop, expected):
    swapped, _ = onnx.open(fp32, contract).run(np.ascontiguousarray(crop[:, ::-1]))
    assert metrics.psnr_db(swapped, expected[0], peak=1.0) < 30
    assert metrics.psnr_db(swapped[:, ::-1], expected[0], peak=1.0) < 60


def test_artifact_describes_itself_with_pytorchs_own_numbers(fp32, fp16, graph):
    weights = sum(p.numel() for p in graph.parameters())
    macs = _macs(graph)
    for path, parameters in ((fp32, {"float32": weights}), (fp16, {"float16": weights})):
        info = onnx.describe(path)
        assert info.format == "ONNX opset 20"
        assert [(t.name, t.shape, t.dtype) for t in info.inputs] == [("target", (1, 3, 224, 224), "float32")]
        assert [(t.name, t.shape, t.dtype) for t in info.outputs] == [
            ("swapped", (1, 3, 224, 224), "float32"),
            ("mask", (1, 1, 224, 224), "float32"),
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


def test_float16_artifact_is_half_the_size(fp32, fp16):
    assert fp16.stat().st_size < 0.51 * fp32.stat().st_size


def test_nothing_of_the_machine_that_converted_is_left(fp32):
    data = fp32.read_bytes()
    for trace in (b"/", b"stack_trace", b"pkg.torch", b"pytorch", b"site-packages", b"class_hierarchy"):
        assert trace not in _without_weights(data), trace


def _without_weights(data: bytes) -> bytes:
    model = onnx_format.load_from_string(data)
    for weight in model.graph.initializer:
        weight.ClearField("raw_data")
    return model.SerializeToString()


SCRIPT = """
import sys
from pathlib import Path
from safetensors.torch import load_file
from mfs_deploy import architecture
from mfs_deploy.backends import onnx
from mfs_deploy.backends.base import Conversion
from mfs_deploy.graph import simplify
from mfs_deploy.quant import recipe
arch = architecture.get("mobilefaceswap")
graph = simplify(arch.load(load_file(sys.argv[1])))
metadata = {"mfs.identity": "Zoë", "mfs.recipe": "as asked"}
onnx.convert(Conversion(graph, arch.contract(224), recipe.load("fp16"), frozenset(), metadata), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(fp16, net, tmp_path):
    from safetensors.torch import save_file

    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    out = tmp_path / "elsewhere"
    out.mkdir()
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "weights.safetensors"), str(out)]
    done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "7"}, cwd=tmp_path, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert (out / "swap.onnx").read_bytes() == fp16.read_bytes()


def test_truncated_file_is_refused(fp32, contract, tmp_path):
    data = fp32.read_bytes()
    broken = tmp_path / "swap.onnx"
    for length in (0, 7, len(data) // 2, len(data) - 1):
        broken.write_bytes(data[:length])
        for read in (lambda: onnx.open(broken, contract), lambda: onnx.describe(broken)):
            with pytest.raises(BundleError, match=r"swap\.onnx"):
                read()


def test_missing_file_is_refused(contract, tmp_path):
    with pytest.raises(BundleError, match="No such file"):
        onnx.open(tmp_path / "swap.onnx", contract)


def test_flipped_bit_in_a_weight_shows_in_the_output(fp32, contract, crop, expected, tmp_path):
    model = onnx_format.load(fp32)
    weight = next(w for w in model.graph.initializer if w.name == "final.7.weight")
    data = bytearray(fp32.read_bytes())
    at = data.index(weight.raw_data) + 3
    data[at] ^= 0x40  # the exponent's highest bit
    broken = tmp_path / "swap.onnx"
    broken.write_bytes(data)
    swapped, _ = onnx.open(broken, contract).run(crop)
    assert not np.isfinite(swapped).all() or metrics.psnr_db(swapped, expected[0], peak=1.0) < 45


def test_flipped_byte_in_the_structure_is_refused_or_shows(fp32, contract, crop, expected, tmp_path):
    data = fp32.read_bytes()
    broken = tmp_path / "swap.onnx"
    refused = 0
    for at in np.random.default_rng(0).integers(0, 4000, 40):  # nodes come first in the file
        damaged = bytearray(data)
        damaged[at] ^= 0xFF
        broken.write_bytes(damaged)
        try:
            onnx.open(broken, contract).run(crop)
        except BundleError:
            refused += 1
    assert refused > 20


def test_artifact_of_another_size_is_refused(fp32):
    with pytest.raises(BundleError, match=r"\(1, 3, 224, 224\)"):
        onnx.open(fp32, architecture.get("mobilefaceswap").contract(256))


@pytest.mark.parametrize(("old", "new"), [(b"target", b"tarred"), (b"swapped", b"swopped")])
def test_renamed_tensor_is_refused(fp32, contract, tmp_path: Path, old, new):
    renamed = tmp_path / "swap.onnx"
    renamed.write_bytes(fp32.read_bytes().replace(old, new))
    with pytest.raises(BundleError, match=new.decode()):
        onnx.open(renamed, contract)
