"""Layers that do not fit in float16 keep their weights, and the file then does not permit float16 arithmetic."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from mfs_deploy.backends.tflite import backend as tflite
from mfs_deploy.backends.tflite import model as tfl
from mfs_deploy.errors import ConversionError
from testing.over_blocks import over_blocks

PINNED = ("encoder_0_1", "leaky_relu", "encoder_1_0")
PERMISSION = "reduced_precision_support"


@pytest.fixture(scope="module")
def large(lowered, graph):
    """The same function with values 2^20 times as large between two convolutions: the graph, and its lowered form."""
    import torch

    graph = copy.deepcopy(graph)
    model = tfl.read(lowered)
    for name, factor in (("Encoder.0.1", 2.0**20), ("Encoder.1.0", 2.0**-20)):
        weight = graph.get_submodule(name).weight
        layout = (0, 2, 3, 1) if name == "Encoder.0.1" else (1, 2, 3, 0)
        before = weight.detach().numpy().transpose(layout)
        for _, operator in tfl.weighted(model):
            stored = tfl.values(model, int(operator.inputs[tfl.FILTER]))
            if stored.shape == before.shape and np.array_equal(stored, before):
                tensor = model.subgraphs[0].tensors[int(operator.inputs[tfl.FILTER])]
                model.buffers[tensor.buffer].data = np.frombuffer((stored * np.float32(factor)).tobytes(), np.uint8)
        with torch.no_grad():
            weight.mul_(factor)
    return graph, tfl.write(model)


def test_weights_beyond_float16_are_refused_by_name(make, large):
    graph, lowered = large
    with pytest.raises(ConversionError, match=r"Encoder\.0\.1\.weight holds .* beyond float16's 65504"):
        make("fp16", network=graph, start=lowered)


def test_only_the_weights_of_kept_layers_are_stored_in_float32(make, graph):
    info = tflite.describe(make("fp16", PINNED))
    stored = dict(over_blocks(graph).named_parameters())
    weights, biases = (sum(p.numel() for name, p in stored.items() if name.endswith(kind)) for kind in ("weight", "bias"))
    kept = 32 * 3 + 32 * 4 * 4
    assert info.parameters == {"float16": weights - kept, "float32": kept + biases}


def test_stored_weights_are_the_float32_ones_rounded(fp16, graph):
    model = tfl.read(fp16.read_bytes())
    names = {tfl.text(t.name): i for i, t in enumerate(model.subgraphs[0].tensors)}
    weight = graph.get_submodule("Decoder.1.1").weight.detach().numpy().transpose(0, 2, 3, 1)
    stored = tfl.values(model, names["Decoder.1.1.weight"])
    assert stored.dtype == np.float16
    assert np.array_equal(stored, weight.astype(np.float16))


def test_float16_arithmetic_is_permitted_for_all_layers_or_none(make, fp32, fp16):
    """XNNPACK takes the permission for every operator, so it must be absent as soon as one layer needs float32."""
    assert tfl.metadata(tfl.read(fp16.read_bytes()))[PERMISSION] == "fp16accfp16"
    for path in (fp32, make("fp16", ("leaky_relu",))):
        assert PERMISSION not in tfl.metadata(tfl.read(path.read_bytes()))
