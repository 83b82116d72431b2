"""Layers that do not fit in float16 are kept out of it: the whole way, so that nothing between them overflows either."""

from __future__ import annotations

import copy

import numpy as np
import onnx as onnx_format
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from mfs_deploy import metrics
from mfs_deploy.backends.onnx import backend as onnx
from mfs_deploy.errors import ConversionError

PINNED = ("encoder_0_1", "leaky_relu", "encoder_1_0")  # all that touches the large values
FLOAT, FLOAT16 = onnx_format.TensorProto.FLOAT, onnx_format.TensorProto.FLOAT16


def scaled(graph, exponent: int):
    """The same function with values 2^exponent times as large between two convolutions; LeakyReLU passes a factor on."""
    import torch

    graph = copy.deepcopy(graph)
    with torch.no_grad():
        graph.get_submodule("Encoder.0.1").weight.mul_(2.0**exponent)
        graph.get_submodule("Encoder.1.0").weight.mul_(2.0**-exponent)
    return graph


class Resize(OpRun):
    """2x bilinear, corners aligned, as two matrix products: the reference's own goes through every value in Python."""

    op_domain = ""

    def _run(self, x, roi=None, scales=None, sizes=None, **attributes):
        assert attributes["coordinate_transformation_mode"] == "align_corners"
        assert list(scales) == [1, 1, 2, 2]
        return ((_upsample(x.shape[2]) @ x.astype(np.float32) @ _upsample(x.shape[3]).T).astype(x.dtype),)


def _upsample(n: int) -> np.ndarray:
    at = np.arange(2 * n) * (n - 1) / (2 * n - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(n))).astype(np.float32)


def evaluate(path, target):
    """Run in the types that the file says, node by node; ONNX Runtime does not on x86."""
    with np.errstate(over="ignore", invalid="ignore"):
        return ReferenceEvaluator(onnx_format.load(path), new_ops=[Resize]).run(["swapped", "mask"], {"target": target})


@pytest.fixture(scope="module")
def small(net):
    import torch

    target = np.random.default_rng(1).random((1, 3, 64, 64), dtype=np.float32)
    with torch.inference_mode():
        swapped, mask = net(torch.from_numpy(target))
    return target, swapped.numpy(), mask.numpy()


def test_true_float16_arithmetic_is_close_to_pytorch(convert, graph, small):
    got = evaluate(convert(graph, "fp16", size=64), small[0])
    for have, want in zip(got, small[1:], strict=True):
        assert metrics.max_error(have, want) < 2e-3  # measured 1.3e-3, which is 70 dB


def test_network_that_overflows_breaks_unless_its_layers_are_kept(convert, graph, small):
    large = scaled(graph, 16)  # weights still fit, what they make does not
    broken = evaluate(convert(large, "fp16", size=64), small[0])
    assert not any(np.isfinite(output).all() for output in broken)
    kept = evaluate(convert(large, "fp16", keep=PINNED, size=64), small[0])
    for have, want in zip(kept, small[1:], strict=True):
        assert metrics.max_error(have, want) < 2e-3


def test_weights_beyond_float16_are_refused_by_name(convert, graph):
    with pytest.raises(ConversionError, match=r"Encoder\.0\.1\.weight holds .* beyond float16's 65504") as caught:
        convert(scaled(graph, 20), "fp16")
    assert "encoder_0_1" in caught.value.hint


def test_kept_nodes_read_weigh_and_write_float32_and_all_others_float16(convert, graph):
    model = onnx_format.load(convert(graph, "fp16", keep=PINNED))
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    types = {v.name: v.type.tensor_type.elem_type for v in values} | {w.name: w.data_type for w in model.graph.initializer}
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    for node in model.graph.node:
        if node.op_type == "Cast":
            continue
        want = FLOAT if node.name in PINNED else FLOAT16
        scales = [node.input[2]] if node.op_type == "Resize" else []
        assert {types[name] for name in (*node.input, *node.output) if name and name not in scales} == {want}, node.name
        assert all(types[name] == FLOAT for name in scales)
    # In, out, and around the kept nodes; none between kept nodes, where it would overflow.
    assert sorted(node.output[0] for node in casts) == [
        "encoder_0_0_float32",
        "encoder_1_0_float16",
        "mask",
        "swapped",
        "target_float16",
    ]


def test_kept_output_layer_needs_no_cast_of_its_own(convert, graph, contract, crop, expected):
    path = convert(graph, "fp16", keep=("sigmoid", "add_2"))
    names = {node.output[0] for node in onnx_format.load(path).graph.node if node.op_type == "Cast"}
    assert {"mask", "swapped"} & names == set()
    swapped, _ = onnx.open(path, contract).run(crop)
    assert metrics.max_error(swapped, expected[0]) < 2.5e-2
