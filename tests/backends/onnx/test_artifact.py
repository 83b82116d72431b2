"""Nothing but the network is in an ONNX file, and damage to its structure is refused.  See also tests/backends/every."""

from __future__ import annotations

import numpy as np
import onnx as onnx_format

from mfs_deploy.backends.onnx import backend as onnx
from mfs_deploy.errors import BundleError


def test_nothing_of_the_machine_that_converted_is_left(fp32):
    data = fp32.read_bytes()
    for trace in (b"/", b"stack_trace", b"pkg.torch", b"pytorch", b"site-packages", b"class_hierarchy"):
        assert trace not in _without_weights(data), trace


def _without_weights(data: bytes) -> bytes:
    model = onnx_format.load_from_string(data)
    for weight in model.graph.initializer:
        weight.ClearField("raw_data")
    return model.SerializeToString()


def test_flipped_byte_in_the_structure_is_refused_or_shows(fp32, contract, crop, expected, tmp_path):
    data = fp32.read_bytes()
    broken = tmp_path / "swap.onnx"
    refused = 0
    for at in np.random.default_rng(0).integers(0, 4000, 40):  # nodes come first in the file
        damaged = bytearray(data)
        damaged[at] ^= 0xFF
        broken.write_bytes(damaged)
        try:
            onnx.open(broken, contract).run(crop)
        except BundleError:
            refused += 1
    assert refused > 20
