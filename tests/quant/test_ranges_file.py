"""Ranges can be kept and used again, by the right network only, and for an identity they hold."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mfs_deploy.errors import CalibrationError
from mfs_deploy.quant import ranges_file
from mfs_deploy.quant.ranges import observe
from mfs_deploy.quant.ranges_file import StoredRanges
from mfs_deploy.quant.recipes import Range

RANGES = {"target": Range(0.0, 1.0), "conv": Range(-0.3, 2.5)}
KEPT = StoredRanges("mobilefaceswap", 224, "kl", "ab" * 32, RANGES)


def read(path):
    return ranges_file.read(path, "mobilefaceswap", 224, set(RANGES))


@pytest.fixture
def kept(tmp_path):
    path = tmp_path / "ranges.json"
    path.write_text(ranges_file.text(KEPT))
    return path


def test_ranges_read_from_a_file_are_those_written(kept):
    assert read(kept) == KEPT


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 256}, "for mobilefaceswap at 256"),
        ({"architecture": "other"}, "for other at 224"),
        ({"schema": 2}, "not a file of ranges of schema 1"),
        ({"more": 1}, "not a file of ranges"),
        ({"method": "guess"}, "'guess'"),
        ({"ranges": {"target": [0, 1]}}, "does not name the values"),
        ({"ranges": {"target": [0, 1], "conv": [1, 0]}}, r"conv the range \[1, 0\]"),
        ({"ranges": {"target": [0, 1], "conv": [0, 1e999]}}, "conv the range"),
        ({"ranges": {"target": [0, 1], "conv": [0, 10**400]}}, "conv the range"),
        ({"ranges": {"target": [0, 1], "conv": [-1e39, 1]}}, "conv the range"),  # no scale of float32 holds it
        ({"ranges": {"target": [0, True], "conv": [0, 1]}}, "target the range"),
        ({"ranges": {"target": "0 to 1", "conv": [0, 1]}}, "target the range"),
    ],
)
def test_files_for_other_networks_and_damaged_ones_say_what_is_wrong(kept, change, said):
    kept.write_text(json.dumps(json.loads(kept.read_text()) | change))
    with pytest.raises(CalibrationError, match=said):
        read(kept)


def test_a_missing_or_malformed_ranges_file_is_refused(tmp_path):
    (tmp_path / "deep").write_text("[" * 100_000)
    (tmp_path / "photo").write_bytes(b"\xff\xd8\xff")
    for name in ("deep", "photo", "missing"):
        with pytest.raises(CalibrationError, match=name):
            read(tmp_path / name)


def test_ranges_that_hold_another_identity_pass_and_narrow_ones_are_refused_by_name(graph, crop):
    own = observe(graph, crop)
    assert ranges_file.check_transfer(graph, crop, own) == 0
    narrow = own | {"leaky_relu_2": Range(own["leaky_relu_2"].low / 4, own["leaky_relu_2"].high / 4)}
    with pytest.raises(CalibrationError, match="of the values of leaky_relu_2") as caught:
        ranges_file.check_transfer(graph, crop, narrow)
    assert caught.value.kind == "calibration-saturated"
    noise = np.random.default_rng(0).random(crop.shape, np.float32)
    assert 0 <= ranges_file.check_transfer(graph, crop, observe(graph, np.concatenate([crop, noise]))) <= ranges_file.MAX_OUTSIDE
