"""Core ML with weights out of palettes: the best palettes there are, the same every time, and packed as Core ML unpacks them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mfs_deploy import metrics
from mfs_deploy.backends.coreml import backend as coreml
from mfs_deploy.backends.coreml import package as mil_package
from mfs_deploy.backends.coreml import program as mil
from mfs_deploy.backends.coreml import weights as coreml_weights
from mfs_deploy.backends.coreml.blob import ELEMENT_TYPES, unpack
from mfs_deploy.quant import palettes
from testing.coreml_programs import package, recipe, size_of, work


@pytest.fixture(scope="module")
def made(graph, contract, tmp_path_factory):
    """Bits of a palette to the package with images that has it throughout, converted once."""
    done = {}

    def path(bits: int):
        if bits not in done:
            done[bits] = package(graph, contract, recipe(f"palette{bits}", "float16"), tmp_path_factory.mktemp("palette"))
        return done[bits]

    return path


# Of swapped and mask to PyTorch, in dB, on untrained weights: measured, less 2.  With the demo weights: 55 and 53; 45 and 36.
BOUNDS = [pytest.param(6, 37.5, 27, id="6 bits"), pytest.param(4, 27, 18, id="4 bits")]


@pytest.mark.parametrize(("bits", "swapped_db", "mask_db"), BOUNDS)
def test_each_palette_size_stays_close_to_pytorch(made, contract, crop, expected, bits, swapped_db, mask_db):
    swapped, mask = coreml.open(made(bits), contract).run(crop)
    assert metrics.psnr_db(swapped, expected[0], peak=1.0) > swapped_db
    assert metrics.psnr_db(mask, expected[1], peak=1.0) > mask_db
    info = coreml.describe(made(bits))
    assert info.parameters == {"float16": 993, f"uint{bits}": 494_979}
    assert "iOS 16" in info.format


def test_fewer_bits_are_smaller(made, package_of):
    float32 = size_of(package_of("fp32", "image"))
    # 4 bits of 32 are 0.125; the rest is tables, biases and the program itself.
    assert 0.125 < size_of(made(4)) / float32 < 0.17
    assert 0.1875 < size_of(made(6)) / float32 < 0.23


def test_every_weight_has_the_nearest_value_of_its_table(made, graph):
    """Through the file: packed, read back, and looked up by the evaluator."""
    from mfs_deploy.backends.coreml.evaluator import Evaluator

    _, program = mil.load(made(4))
    values = Evaluator(program)._values
    makers = {name: op for op in program.operations for name in op.outputs}
    ops = work(program)
    layers = [node for node in graph.graph.nodes if node.op == "call_module"]
    assert len(layers) == 32
    for node in layers:
        exact = graph.get_submodule(node.target).weight.detach().half()
        name = ops[node.name].inputs["weight"]
        table = torch.from_numpy(program.constants[makers[name].inputs["lut"]])
        assert table.shape == (16,)
        nearest = (exact.float()[..., None] - table.float()).abs().amin(-1)
        torch.testing.assert_close((values[name].float() - exact.float()).abs(), nearest, rtol=0, atol=0)


def least_squares(weight: np.ndarray, bits: int) -> tuple[float, float]:
    """What our palette loses, and what the best possible one does: coremltools' exact k-means on a line."""
    mil_package.coremltools()
    from coremltools._deps import kmeans1d

    flat = weight.astype(np.float64).reshape(-1)
    table, indices = palettes.to_palette(weight, bits)
    values, counts = np.unique(flat, return_counts=True)
    best = kmeans1d.cluster(values, min(len(values), 1 << bits), weights=counts)
    theirs = np.array(best.centroids)[np.array(best.clusters)]
    return float(((table.astype(np.float64)[indices] - flat) ** 2).sum()), float(((theirs - values) ** 2 * counts).sum())


@pytest.mark.parametrize("bits", [4, 6])
def test_real_layers_are_as_near_to_the_best_palette_as_makes_no_difference(graph, bits):
    """Measured: at most 0.3 % above."""
    for layer in ("Encoder.1.1", "mask.1.2", "Decoder.0.0"):
        weight = graph.get_submodule(layer).weight.detach().numpy()
        ours, best = least_squares(weight, bits)
        assert best > 0
        assert best * (1 - 1e-6) < ours < best * 1.005, layer


def test_few_different_values_are_split_exactly_as_the_best_does():
    weight = np.random.default_rng(2).standard_normal(500).astype(np.float32)
    ours, best = least_squares(weight, 4)
    assert ours == pytest.approx(best, rel=1e-6)


def test_one_far_value_does_not_draw_all_entries():
    weight = np.random.default_rng(3).standard_normal(20_000).astype(np.float32)
    weight[7] = 1e4
    ours, best = least_squares(weight, 4)
    assert ours < best * 1.01


@pytest.mark.parametrize("count", [1, 2, 16])
def test_no_more_values_than_entries_lose_nothing(count):
    weight = np.arange(count, dtype=np.float16).repeat(3)[::-1].reshape(-1, 1, 1, 1) - np.float16(1)
    table, indices = palettes.to_palette(weight, 4)
    assert table.shape == (16,)
    assert table.dtype == np.float16
    np.testing.assert_array_equal(table[indices], weight.reshape(-1))


@pytest.mark.parametrize("bits", [4, 6])
def test_packed_indices_are_what_core_ml_unpacks(bits):
    """By coremltools' own unpacking and by our reader's, with a last byte that is not full."""
    mil_package.coremltools()
    from coremltools.optimize._utils import restore_elements_from_packed_bits

    indices = np.random.default_rng(4).integers(0, 1 << bits, 1001).astype(np.uint8)
    packed = coreml_weights.pack(indices, bits)
    assert packed.dtype == np.uint8
    assert len(packed) == -(-1001 * bits // 8)
    np.testing.assert_array_equal(restore_elements_from_packed_bits(packed, bits, 1001), indices)
    kind = next(kind for kind in ELEMENT_TYPES.values() if kind.name == f"uint{bits}")
    np.testing.assert_array_equal(unpack(packed.tobytes(), kind, 1001), indices)
