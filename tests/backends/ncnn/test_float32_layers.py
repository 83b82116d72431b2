"""Operations that must not be computed in float16 are marked so in the graph, and their weights stay in float32.

On x86 ncnn computes in float32 anyway, so that the marks have no effect here and are read from the ``.param``.  Their effect was
seen on an emulated arm64 CPU with float16 (Cortex-A76): without them, or without the Dropout before them, the output is NaN.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest

from mfs_deploy import metrics
from mfs_deploy.backends.ncnn import backend as ncnn
from mfs_deploy.backends.ncnn import operations
from mfs_deploy.backends.ncnn.files import parse_param, read_bin
from mfs_deploy.errors import ConversionError


def _masked(path) -> set[str]:
    layers = parse_param(path.read_text())
    assert {x.params[31] for x in layers if 31 in x.params} <= {"3"}  # no float16 arithmetic, no float16 blobs
    return {x.name for x in layers if 31 in x.params}


@pytest.fixture(scope="module")
def island(float32_island):
    return float32_island("ncnn")


def test_float32_recipe_computes_in_float32_everywhere(fp32):
    assert _masked(fp32) == {x.name for x in parse_param(fp32.read_text()) if x.type != "Input"}


def test_float16_recipe_leaves_ncnn_free(fp16):
    assert _masked(fp16) == set()


def test_only_the_named_operations_are_masked_and_what_splits_their_values(island):
    assert _masked(island) == {"encoder_4_1", "interpolate", "splitncnn_4", "mask_0_1", "decoder_0_0"}


def test_float16_is_cast_before_it_reaches_a_masked_layer(island):
    """ncnn does not cast what comes into a masked layer."""
    layers = parse_param(island.read_text())
    maker = {blob: x for x in layers for blob in x.outputs}
    for layer in layers:
        if 31 in layer.params:
            for blob in layer.inputs:
                before = maker[blob]
                assert before.type in ("Input", "Dropout") or 31 in before.params
    casts = [x for x in layers if x.type == "Dropout"]
    assert [(maker[x.inputs[0]].name, x.params) for x in casts] == [("encoder_4_0", {})]


def test_weights_of_kept_layers_are_not_rounded(island, loud):
    layers = parse_param(island.read_text())
    weights = read_bin(island.with_suffix(".bin").read_bytes(), layers)
    stored = weights["encoder_4_1"][0].values
    np.testing.assert_array_equal(stored, loud.get_submodule("Encoder.4.1").weight.detach().numpy().ravel())
    assert np.abs(stored).max() > 65504
    assert weights["encoder_4_0"][0].values.dtype == np.float16


def test_weight_beyond_float16_is_refused_not_made_infinite(loud, convert):
    with pytest.raises(ConversionError, match=r"encoder_4_1 has a weight of .* 65504"):
        convert(loud, "fp16")


def test_several_readers_of_one_float16_value_each_get_their_cast(graph, convert, contract, crop, expected):
    """A skip connection is read by an encoder stage and by a concatenation."""
    path = convert(graph, "fp16", ("encoder_2_0", "cat_2", "add_2"))
    assert _masked(path) >= {"encoder_2_0", "cat_2", "add_2", "splitncnn_0"}  # the input is float32 when it comes
    for got, want in zip(ncnn.open(path, contract).run(crop), expected, strict=True):
        assert metrics.psnr_db(got, want, peak=1.0) > 72


@pytest.fixture(scope="module")
def matched(graph, contract):
    """What pnnx makes of the graph, before anything is renamed."""
    from mfs_deploy.backends.ncnn import pnnx

    return pnnx.convert(graph, contract)


def test_every_operation_finds_its_layer_by_weights_not_by_name(graph, matched):
    layers, weights = matched
    found = operations.match(graph, layers, weights)
    assert set(found) == {n.name for n in graph.graph.nodes if n.op.startswith("call")}
    by_name = {x.name: x for x in layers}
    for node in graph.graph.nodes:
        if node.op == "call_module":
            wanted = graph.get_submodule(node.target).weight.detach().numpy().ravel()
            np.testing.assert_array_equal(weights[by_name[found[node.name]].name][0].values, wanted)


def test_graph_with_other_weights_does_not_match(graph, matched):
    other = copy.deepcopy(graph)
    other.get_submodule("Decoder.2.1").weight.data[5, 3] += 1e-4
    with pytest.raises(ConversionError, match=r"decoder_2_1 .* is computed by 0 layers"):
        operations.match(other, *matched)


def test_outputs_in_another_order_do_not_match(graph, matched):
    from dataclasses import replace

    swap = {"out0": "out1", "out1": "out0"}
    layers = tuple(replace(x, outputs=tuple(swap.get(b, b) for b in x.outputs)) for x in matched[0])
    with pytest.raises(ConversionError, match="outputs"):
        operations.match(graph, layers, matched[1])
