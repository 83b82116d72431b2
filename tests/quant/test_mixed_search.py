"""The search finds what hurts, meets its target, and gives a recipe that says so again."""

from __future__ import annotations

import copy

import pytest
import torch

from mfs_deploy import metrics
from mfs_deploy.errors import ParityError
from mfs_deploy.graph.operation_kinds import kinds
from mfs_deploy.quant import mixed_search as search
from mfs_deploy.quant import simulate
from mfs_deploy.quant.ranges import observe
from mfs_deploy.quant.recipes import Recipe

W8A8 = Recipe("w8a8", "int8", "int8", "for a test")
SIZE = 64


@pytest.fixture(scope="module")
def targets():
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def uneven(graph):
    """The same function as ``graph``, but one channel that ``Encoder.1`` gives is 300 times larger, and read as much smaller."""
    uneven = copy.deepcopy(graph)
    with torch.no_grad():
        uneven.get_submodule("Encoder.1.1").weight[0] *= 300
        uneven.get_submodule("Encoder.2.0").weight[0] /= 300
        uneven.get_submodule("Decoder.3.0").weight[64] /= 300  # the skip comes in behind 64 channels
    return uneven


def test_the_operation_that_holds_uneven_channels_is_hurt_most(uneven, targets):
    found = search.sensitivity(uneven, W8A8, observe(uneven, targets.numpy()), targets)
    assert {found[0].name, found[1].name} == {"encoder_1_1", "leaky_relu_1"}
    assert {s.name for s in found} == set(kinds(uneven))


def test_the_recipe_found_keeps_the_target_and_most_of_the_network_in_integers(uneven, targets):
    ranges = observe(uneven, targets.numpy())
    order = [s.name for s in search.sensitivity(uneven, W8A8, ranges, targets)]
    costs = search.costs(uneven, SIZE)
    plain = simulate.run(uneven, W8A8.formats(kinds(uneven)), ranges, targets)[0]
    exact = simulate.run(uneven, {}, {}, targets)[0]
    before = metrics.psnr_db(plain.numpy(), exact.numpy(), peak=1.0)
    wanted = before + 6
    found = search.search(W8A8, search.meter(uneven, W8A8, ranges, targets, costs), costs, wanted, order)
    made = simulate.run(uneven, found.recipe.formats(kinds(uneven)), ranges, targets)[0]
    assert metrics.psnr_db(made.numpy(), exact.numpy(), peak=1.0) >= wanted
    assert 0 < len(found.recipe.layers) < len(order) / 2
    assert found.steps[0].psnr_db == pytest.approx(before)


def test_a_target_that_nothing_keeps_is_refused_with_the_best_there_is(graph, targets):
    ranges = observe(graph, targets.numpy())
    order = list(kinds(graph))
    costs = search.costs(graph, SIZE)
    with pytest.raises(ParityError, match="no mixture keeps 300 dB"):
        search.search(W8A8, search.meter(graph, W8A8, ranges, targets, costs), costs, 300, order)


def test_costs_count_weights_and_work(graph):
    costs = search.costs(graph, SIZE)
    assert set(costs) == set(kinds(graph))
    assert costs["encoder_4_1"] > costs["encoder_0_0"]  # 131,072 weights against 48
    assert sum(costs.values()) == pytest.approx(3)
