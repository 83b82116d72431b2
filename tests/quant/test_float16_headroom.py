"""A network whose values leave float16's range is found, and the right operations are kept out of float16."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mfs_deploy.graph import simplify
from mfs_deploy.quant.float16_headroom import scan

FACTOR = 2.0**20


@pytest.fixture
def hot(net):
    """The same function as ``net``, but the values after Encoder.1 are a million times larger."""
    from mfs_deploy.architectures.mobilefaceswap.bake import load

    hot = load(net.state_dict())
    hot.Encoder[1][1].weight.data *= FACTOR
    hot.Encoder[2][0].weight.data /= FACTOR
    hot.Decoder[3][0].weight.data[64:] /= FACTOR  # the skip of Encoder.1 comes in here, behind 64 channels of the decoder
    return hot


def test_a_network_within_float16_keeps_no_layer_in_float32(graph, crop):
    room = scan(graph, crop)
    assert room.ratio > 100
    assert room.keep_float32 == frozenset()


def test_an_overflow_is_found_where_it_is(hot, crop, expected):
    graph = simplify(hot)
    with torch.inference_mode():
        np.testing.assert_allclose(graph(torch.from_numpy(crop))[0].numpy(), expected[0], atol=5e-6)
    room = scan(graph, crop)
    assert room.ratio < 1
    # What makes the large value, what passes it on, and what takes it in; nothing else.
    assert room.keep_float32 == {
        "encoder_1_1",
        "leaky_relu_1",
        "encoder_2_0",
        "cat_2",
        "interpolate_8",
        "decoder_3_0",
    }


def test_values_that_are_not_numbers_count_as_too_large(net, crop):
    from mfs_deploy.architectures.mobilefaceswap.bake import load

    broken = load(net.state_dict())
    broken.Encoder[0][0].weight.data[0] = float("nan")
    assert "encoder_0_0" in scan(simplify(broken), crop).keep_float32
