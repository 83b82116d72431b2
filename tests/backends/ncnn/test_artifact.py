"""The graph that ncnn gets, and what its runner does with arrays and memory.  See also tests/backends/every."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import numpy as np

from mfs_deploy.backends.ncnn import backend as ncnn
from mfs_deploy.backends.ncnn.files import parse_param
from testing.memory import PEAK


def test_graph_has_no_needless_layers(fp16, graph):
    """Every activation is part of its convolution but for that behind a resize, and those of the parts of one convolution."""
    layers = parse_param(fp16.read_text())
    assert {x.type for x in layers} == {
        *("Input", "Split", "Slice", "BinaryOp", "Convolution", "ConvolutionDepthWise", "Interp", "Concat", "ReLU", "Sigmoid")
    }
    assert [x.name for x in layers if x.type == "ReLU"] == ["leaky_relu_14"]
    assert all(x.integer(0) == 2 and x.integer(6) == 1 for x in layers if x.type == "Interp")  # bilinear, aligned corners
    nodes = {n.name for n in graph.graph.nodes}
    made = {"sub_widened", "tails_joined", "tails", "tails_split"}  # by rewrites
    assert {x.name for x in layers if x.type != "Split"} <= nodes | made


def test_no_layer_at_full_size_has_fewer_than_eight_channels(fp16):
    """ncnn takes those one number at a time on arm64: two tails of two and three channels were half of a frame's instructions."""
    layers = parse_param(fp16.read_text())
    assert all(x.integer(0) % 8 == 0 for x in layers if x.type.startswith("Convolution"))


def test_no_layer_uses_the_ncnn_kernel_that_is_wrong_on_arm(fp16):
    """ncnn's arm64 kernel for float16 depthwise 3x3 with stride 2 is wrong at some widths."""
    assert not [
        x.name
        for x in parse_param(fp16.read_text())
        if x.type == "ConvolutionDepthWise" and x.integer(1) == 3 and x.integer(3) == 2
    ]


def test_runtime_is_named_with_its_version(fp32, contract):
    assert ncnn.open(fp32, contract).runtime == f"ncnn {metadata.version('ncnn')} (CPU)"


def test_float64_is_taken_as_float32(fp32, contract, crop):
    runner = ncnn.open(fp32, contract)
    np.testing.assert_array_equal(runner.run(crop.astype(np.float64))[0], runner.run(crop)[0])


def test_opening_and_running_over_and_over_neither_crashes_nor_leaks(fp32, contract):
    """In a process of its own, which must also end well: ncnn is loud when its buffers outlive it."""
    script = f"""{PEAK}
import numpy as np
from pathlib import Path
from mfs_deploy.backends.ncnn import backend as ncnn
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
before = peak()
for _ in range(40):
    frame()
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert int(done.stdout) < 20_000  # KiB; the weights alone are 2 MB a time
