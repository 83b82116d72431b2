"""Ranges hold what was seen, or all but what was chosen to be left outside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import fx, nn

from mfs_deploy.errors import CalibrationError, UsageError
from mfs_deploy.quant import ranges
from mfs_deploy.quant.ranges import observe, saturation
from mfs_deploy.quant.recipes import METHODS, Range


@pytest.fixture
def crops():
    return np.random.default_rng(0).random((3, 3, 64, 64), np.float32)


@pytest.fixture
def identity():
    """Passes its input on."""

    class Identity(nn.Module):
        def forward(self, target):
            return torch.mul(target, 1.0)

    return fx.symbolic_trace(Identity())


def test_min_and_max_are_those_of_every_node_over_all_crops(graph, crops, monkeypatch):
    monkeypatch.setattr(ranges, "BATCH", 2)  # so that there are two batches
    found = observe(graph, crops)
    assert found["target"] == Range(float(crops.min()), float(crops.max()))
    with torch.inference_mode():
        swapped, mask = graph(torch.from_numpy(crops))
    outputs = next(node for node in graph.graph.nodes if node.op == "output").args[0]
    for node, value in zip(outputs, (swapped, mask), strict=True):
        assert found[node.name].low == pytest.approx(float(value.min()), abs=1e-6)
        assert found[node.name].high == pytest.approx(float(value.max()), abs=1e-6)
    assert set(found) == {node.name for node in graph.graph.nodes if node.op != "output"}
    assert set(saturation(graph, crops, found).values()) == {0.0}


def test_a_last_batch_of_one_crop_counts_as_one_crop(identity, crops, monkeypatch):
    monkeypatch.setattr(ranges, "BATCH", 2)
    crops[2] += 1
    assert saturation(identity, crops, {"mul": Range(0.0, 1.0)})["mul"] == pytest.approx(1 / 3, abs=1e-6)


@pytest.mark.parametrize("method", ["percentile", "kl"])
def test_one_far_value_does_not_widen_the_range_of_all_others(identity, crops, method):
    crops[0, 0, 0, 0] = 100.0
    found = observe(identity, crops, method)["mul"]
    assert found.low == pytest.approx(0, abs=0.05)
    assert 0.9 < found.high < 10
    assert saturation(identity, crops, {"mul": found})["mul"] == pytest.approx(1 / crops.size, abs=3e-4)


def test_a_value_that_never_changes_keeps_its_range(identity):
    flat = np.full((1, 3, 32, 32), 0.5, np.float32)
    for method in METHODS:
        assert observe(identity, flat, method)["mul"] == Range(0.5, 0.5)


def test_values_that_are_not_numbers_are_refused_by_name(identity, crops):
    crops[0] = np.nan
    with pytest.raises(CalibrationError, match="target gives values that are not finite"):
        observe(identity, crops)


def test_an_unknown_calibration_method_lists_the_known_ones(identity, crops):
    with pytest.raises(UsageError) as caught:
        observe(identity, crops, "entropy")
    assert "minmax, percentile, kl" in caught.value.hint
