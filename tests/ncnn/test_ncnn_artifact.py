"""The NCNN artifact computes what PyTorch computes, says what it is, and is the same bytes every time."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest

from mfs_deploy import architecture, metrics
from mfs_deploy.backends import ncnn
from mfs_deploy.backends.ncnn_format import parse_param
from mfs_deploy.errors import UsageError

# On x86, where ncnn computes in float32 whatever the recipe.  Measured at worst: fp32 131 dB and 7.3e-6,
# fp16 74.9 dB and 2.7e-3 (the mask of the crop).
BOUNDS = {"fp32": (128.0, 1e-5), "fp16": (73.0, 4e-3)}


@pytest.mark.parametrize("recipe", ["fp32", "fp16"])
def test_artifact_matches_pytorch_on_a_face_and_on_noise(recipe, request, contract, crop, expected, noise):
    runner = ncnn.open(request.getfixturevalue(recipe), contract)
    least_db, largest = BOUNDS[recipe]
    for target, *wanted in ((crop, *expected), noise(224)):
        for got, want in zip(runner.run(target), wanted, strict=True):
            assert got.dtype == np.float32
            assert metrics.psnr_db(got, want, peak=1.0) > least_db
            assert metrics.max_error(got, want) < largest


@pytest.mark.parametrize("recipe", ["fp32", "fp16"])
def test_artifact_matches_pytorch_at_256(recipe, graph, convert, noise):
    path = convert(graph, recipe, size=256)
    runner = ncnn.open(path, architecture.get("mobilefaceswap").contract(256))
    target, *wanted = noise(256)
    least_db, largest = BOUNDS[recipe]
    for got, want in zip(runner.run(target), wanted, strict=True):
        assert metrics.psnr_db(got, want, peak=1.0) > least_db
        assert metrics.max_error(got, want) < largest


def test_swapped_colour_channels_are_noticed(fp32, contract, crop, expected):
    swapped, _ = ncnn.open(fp32, contract).run(np.ascontiguousarray(crop[:, ::-1]))
    assert metrics.psnr_db(swapped, expected[0], peak=1.0) < 30
    assert metrics.psnr_db(swapped[:, ::-1], expected[0], peak=1.0) < 60


def test_artifact_describes_itself_with_pytorchs_own_numbers(fp32, fp16, graph):
    macs, biases = _macs(graph), sum(p.numel() for n, p in graph.named_parameters() if n.endswith("bias"))
    total = sum(p.numel() for p in graph.parameters())
    for path, parameters in ((fp32, {"float32": total}), (fp16, {"float16": total - biases, "float32": biases})):
        info = ncnn.describe(path)
        assert info.format == "ncnn param 7767517"
        assert [(t.name, t.shape, t.dtype) for t in info.inputs] == [("target", (3, 224, 224), "float32")]
        assert {(t.name, t.shape, t.dtype) for t in info.outputs} == {
            ("swapped", (3, 224, 224), "float32"),
            ("mask", (1, 224, 224), "float32"),
        }
        assert (info.parameters, info.macs, info.metadata, info.float32_layers) == (parameters, macs, {}, ())


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


def test_fp16_is_half_the_size(fp32, fp16):
    sizes = [path.with_suffix(".bin").stat().st_size for path in (fp32, fp16)]
    assert sizes[1] < 0.51 * sizes[0]


def test_graph_has_no_needless_layers(fp16, graph):
    """Every activation but one is part of its convolution; that one has a resize before it."""
    layers = parse_param(fp16.read_text())
    assert {x.type for x in layers} == {
        *("Input", "Split", "BinaryOp", "Convolution", "ConvolutionDepthWise", "Interp", "Concat", "ReLU")
    }
    assert [x.name for x in layers if x.type == "ReLU"] == ["leaky_relu_14"]
    assert all(x.integer(0) == 2 and x.integer(6) == 1 for x in layers if x.type == "Interp")  # bilinear, aligned corners
    nodes = {n.name for n in graph.graph.nodes}
    assert {x.name for x in layers if x.type != "Split"} <= nodes


def test_layers_that_float16_breaks_on_arm_are_absent(fp16):
    """ncnn's arm64 kernel for float16 depthwise 3x3 with stride 2 is wrong at some widths."""
    assert not [
        x.name
        for x in parse_param(fp16.read_text())
        if x.type == "ConvolutionDepthWise" and x.integer(1) == 3 and x.integer(3) == 2
    ]


SCRIPT = """
import sys
from pathlib import Path
from safetensors.torch import load_file
from mfs_deploy import architecture
from mfs_deploy.backends import ncnn
from mfs_deploy.backends.base import Conversion
from mfs_deploy.graph import simplify
from mfs_deploy.quant import recipe
arch = architecture.get("mobilefaceswap")
graph = simplify(arch.load(load_file(sys.argv[1])))
ncnn.convert(Conversion(graph, arch.contract(224), recipe.load("fp16")), Path(sys.argv[2]))
"""


def test_another_process_writes_the_same_bytes(fp16, net, tmp_path):
    from safetensors.torch import save_file

    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    out = tmp_path / "elsewhere"
    out.mkdir()
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "weights.safetensors"), str(out)]
    done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "7"}, cwd=tmp_path, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    for name in ncnn.FILES:
        assert (out / name).read_bytes() == (fp16.parent / name).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["elsewhere", "weights.safetensors"]


def test_runtime_is_named_with_its_version(fp32, contract):
    assert ncnn.open(fp32, contract).runtime == f"ncnn {metadata.version('ncnn')} (CPU)"


def test_arrays_that_are_not_contiguous_give_the_same_result(fp32, contract, crop, expected):
    runner = ncnn.open(fp32, contract)
    strided = np.ascontiguousarray(crop.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    mirrored = np.ascontiguousarray(crop[..., ::-1])[..., ::-1]
    for target in (strided, mirrored, crop.astype(np.float64)):
        np.testing.assert_array_equal(runner.run(target)[0], runner.run(crop)[0])


def test_input_of_another_shape_is_refused(fp32, contract, crop):
    runner = ncnn.open(fp32, contract)
    for target in (crop[0], crop[:, :, :-1], np.concatenate([crop, crop])):
        with pytest.raises(UsageError, match="must be"):
            runner.run(target)


def test_two_runners_and_their_outputs_do_not_disturb_each_other(fp32, fp16, contract, crop, noise):
    one, two = ncnn.open(fp32, contract), ncnn.open(fp16, contract)
    first, other = one.run(crop), two.run(noise(224)[0])
    kept = [a.copy() for a in (*first, *other)]
    again = one.run(noise(224)[0]), two.run(crop)
    del one, two
    for have, want in zip((*first, *other), kept, strict=True):
        np.testing.assert_array_equal(have, want)
    assert np.isfinite(again[0][0]).all()
    assert np.isfinite(again[1][0]).all()


def test_opening_and_running_over_and_over_neither_crashes_nor_leaks(fp32, contract):
    """In a process of its own, which must also end well: ncnn is loud when its buffers outlive it."""
    script = f"""
import resource
import numpy as np
from pathlib import Path
from mfs_deploy.backends import ncnn
from mfs_deploy.contract import Contract, TensorSpec
contract = {contract!r}
target = np.full((1, 3, 224, 224), 0.5, np.float32)
first = ncnn.open(Path({str(fp32)!r}), contract).run(target)
def frame():
    runner = ncnn.open(Path({str(fp32)!r}), contract)
    for have, want in zip(runner.run(target), first):
        np.testing.assert_array_equal(have, want)
for _ in range(10):
    frame()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(40):
    frame()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert int(done.stdout) < 20_000  # KiB; the weights alone are 2 MB a time
