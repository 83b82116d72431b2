"""Convolutions of few outputs over blocks of pixels: the same numbers as before, in every number format, up to the border."""

from __future__ import annotations

import numpy as np
import pytest

from mfs_deploy.backends.base import Conversion
from mfs_deploy.backends.tflite import backend as tflite
from mfs_deploy.backends.tflite import blocks as tflite_blocks
from mfs_deploy.backends.tflite import layers as tflite_layers
from mfs_deploy.backends.tflite import model as tfl
from mfs_deploy.quant import recipes

LAYERS = ("mask_5", "final_4", "final_7")
# In floats a sum over more zeros is added in another order; integers are added exactly.
LARGEST = {"fp32": 2e-6, "fp16": 2e-6, "w8": 2e-6, "w8a8": 0.0}


@pytest.fixture(scope="module", params=LARGEST)
def both(request, lowered, graph, contract, ranges, tmp_path_factory):
    """A recipe, and its artifact with the pass and without."""
    job = Conversion(graph, contract, recipes.load(request.param), ranges=ranges)
    paths = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("with", "without"):
            paths.append(tmp_path_factory.mktemp(name) / tflite.FILES[0])
            paths[-1].write_bytes(tflite.finish(lowered, job))
            patch.setattr(tflite, "split_into_blocks", lambda model: 0)
    return request.param, *paths


def test_a_frame_is_the_same_to_the_border(both, contract, crop):
    name, changed, plain = both
    assert len(tflite_blocks.blocks(tfl.read(changed.read_bytes()))) == len(LAYERS)
    assert not tflite_blocks.blocks(tfl.read(plain.read_bytes()))
    for got, want in zip(*(tflite.open(path, contract).run(crop) for path in (changed, plain)), strict=True):
        assert np.abs(got - want).max() <= LARGEST[name]


def test_weights_are_read_back_as_they_were(both):
    _, changed, plain = both
    got, want = tflite_layers.weights(changed), tflite_layers.weights(plain)
    assert got.keys() == want.keys()
    for name in got:
        assert all(np.array_equal(a, b) for a, b in zip(got[name], want[name], strict=True) if a is not None), name


def test_kept_layers_are_named_as_before(lowered, graph, contract, tmp_path):
    path = tmp_path / tflite.FILES[0]
    path.write_bytes(tflite.finish(lowered, Conversion(graph, contract, recipes.load("fp16"), frozenset({"final_7"}))))
    assert tflite.describe(path).float32_layers == ("final_7",)


def test_integers_of_16_bits_stay_as_they_are(quantized):
    """LiteRT cannot put those in their place."""
    assert not tflite_blocks.blocks(tfl.read(quantized("int8", "int16").read_bytes()))
