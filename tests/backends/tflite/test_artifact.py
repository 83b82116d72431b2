"""A TFLite file has the network's own operators under its names, where the format wants them.  See also tests/backends/every."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from mfs_deploy import architectures, metrics
from mfs_deploy.backends.tflite import backend as tflite
from mfs_deploy.backends.tflite import model as tfl
from mfs_deploy.backends.tflite import runner
from mfs_deploy.errors import BundleError, ConversionError
from testing.memory import PEAK


def test_operators_are_the_networks_own(fp32):
    """No transposes at the edges, no resizes out of gathers, corners aligned as PyTorch has them."""
    model = tfl.read(fp32.read_bytes())
    operators = model.subgraphs[0].operators
    assert Counter(tfl.kind(model, o) for o in operators) == {
        "CONV_2D": 18,
        "LEAKY_RELU": 16,
        "DEPTHWISE_CONV_2D": 14,
        "DEPTH_TO_SPACE": 3,
        "RESIZE_BILINEAR": 9,
        "CONCATENATION": 3,
        "SUB": 2,
        "LOGISTIC": 2,
        "MUL": 1,
        "ADD": 1,
    }
    resizes = [o.builtinOptions for o in operators if tfl.kind(model, o) == "RESIZE_BILINEAR"]
    assert all(options.alignCorners and not options.halfPixelCenters for options in resizes)


def test_tensors_bear_the_names_of_the_graph(fp32, graph):
    model = tfl.read(fp32.read_bytes())
    tensors = model.subgraphs[0].tensors
    computed = [node.name for node in graph.graph.nodes if node.op in ("call_module", "call_function")]
    outputs = {"sigmoid": "mask", "add_2": "swapped"}
    made = [tfl.text(tensors[int(o.outputs[0])].name) for o in model.subgraphs[0].operators]
    assert [name for name in made if not name.endswith("_blocks")] == [outputs.get(name, name) for name in computed]
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
    assert set(tfl.metadata(model)) == {"min_runtime_version", "version", "recipe", "identity"}


def test_converters_failure_is_told_in_its_own_words(graph, tmp_path):
    with pytest.raises(ConversionError, match=r"litert_torch\.convert failed: Sizes of tensors must match"):
        tflite.lower(graph, architectures.interface("mobilefaceswap").contract(100), tmp_path / "swap.tflite")


FLIPS = f"""{PEAK}
import resource, sys
from pathlib import Path
import numpy as np
from mfs_deploy import architectures
from mfs_deploy.backends.tflite import backend as tflite
from mfs_deploy.errors import BundleError
data, broken = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))  # a file that asks for more must not stop the machine
contract = architectures.interface("mobilefaceswap").contract(224)
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
print(refused, peak())
"""


@pytest.mark.parametrize("formats", [("float32", "float32"), ("int8", "int8")], ids="-".join)
def test_flipped_byte_in_the_structure_does_not_crash(quantized, tmp_path, formats):
    command = [sys.executable, "-c", FLIPS, str(quantized(*formats)), str(tmp_path / "swap.tflite")]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    refused, kilobytes = map(int, done.stdout.split())
    assert refused > 40
    assert kilobytes < 2_000_000


def test_sizes_that_would_take_all_memory_are_refused(fp32, contract, tmp_path):
    """XNNPACK believes a resize's size, and a computed tensor's shape."""
    broken = tmp_path / "swap.tflite"
    for said in ("a resize to", "its tensors take"):
        model = tfl.read(fp32.read_bytes())
        tensors = model.subgraphs[0].tensors
        resize = next(o for o in model.subgraphs[0].operators if tfl.kind(model, o) == "RESIZE_BILINEAR")
        if said == "a resize to":
            model.buffers[tensors[resize.inputs[1]].buffer].data = np.array([14, 2**24], np.int32).view(np.uint8)
        else:
            tensors[resize.inputs[0]].shape = [1, 7, 2**24, 512]
        broken.write_bytes(tfl.write(model))
        with pytest.raises(BundleError, match=said):
            tflite.open(broken, contract)


def test_outputs_are_found_by_name_when_their_order_changes(fp32, contract, crop, expected, tmp_path):
    model = tfl.read(fp32.read_bytes())
    model.subgraphs[0].outputs = model.subgraphs[0].outputs[::-1]
    model.signatureDefs[0].outputs = model.signatureDefs[0].outputs[::-1]
    turned = tmp_path / "swap.tflite"
    turned.write_bytes(tfl.write(model))
    swapped, mask = tflite.open(turned, contract).run(crop)
    assert metrics.max_error(swapped, expected[0]) < 1e-5
    assert metrics.max_error(mask, expected[1]) < 1e-5


def test_tensorflows_own_interpreter_agrees(fp32, contract, crop, expected, monkeypatch):
    pytest.importorskip("tensorflow", reason="the extra tensorflow is not installed")
    monkeypatch.setenv(runner.INTERPRETER, runner.TENSORFLOW)
    opened = tflite.open(fp32, contract)
    assert opened.runtime.startswith("TensorFlow 2.")
    assert metrics.psnr_db(opened.run(crop)[0], expected[0], peak=1.0) > 120
