"""Rounding is what the formats say, and only where they say it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mfs_deploy import metrics
from mfs_deploy.graph.operation_kinds import kinds
from mfs_deploy.quant import simulate
from mfs_deploy.quant.ranges import observe
from mfs_deploy.quant.recipes import Format, Range

INT8 = Format("int8", "int8")


def test_weights_in_int8_are_off_by_half_a_step_of_their_own_channel_at_most():
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 2, 6)[:, None, None, None]
    rounded = simulate.round_weights(weight, "int8")
    step = weight.abs().amax((1, 2, 3)) / 127
    assert ((rounded - weight).abs().amax((1, 2, 3)) <= step * 0.5001).all()
    for channel, size in zip(rounded, step, strict=True):
        levels = channel / size
        torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("bits", [4, 6])
def test_a_palette_has_so_many_values_and_beats_an_even_grid(bits):
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) ** 3
    made = simulate.round_weights(weight, f"palette{bits}")
    assert len(made.unique()) <= 2**bits
    grid = torch.linspace(float(weight.min()), float(weight.max()), 2**bits)
    even = grid[(weight.flatten()[:, None] - grid).abs().argmin(1)].reshape(weight.shape)
    assert (made - weight).square().mean() < 0.5 * (even - weight).square().mean()


def test_values_in_int8_keep_zero_exact_and_are_cut_at_the_range():
    value = torch.tensor([-5.0, -1.0, 0.0, 0.4, 2.0, 9.0])
    rounded = simulate.round_values(value, "int8", Range(-1.0, 2.0))
    step = 3 / 255
    assert rounded[2] == 0
    assert (rounded[1:5] - value[1:5]).abs().max() <= step
    assert rounded[0] == pytest.approx(-1, abs=step)
    assert rounded[5] == pytest.approx(2, abs=step)


def test_only_what_is_named_is_rounded(graph, crop):
    targets = torch.from_numpy(crop)
    names = kinds(graph)
    ranges = observe(graph, crop)
    with torch.inference_mode():
        exact = graph(targets)[0].numpy()
    assert np.array_equal(simulate.run(graph, {}, {}, targets)[0].numpy(), exact)
    one = simulate.run(graph, {"encoder_0_0": INT8}, ranges, targets)[0].numpy()
    half = simulate.run(graph, dict.fromkeys(names, Format("float16", "float16")), ranges, targets)[0].numpy()
    wide = simulate.run(graph, dict.fromkeys(names, Format("int8", "int16")), ranges, targets)[0].numpy()
    all8 = simulate.run(graph, dict.fromkeys(names, INT8), ranges, targets)[0].numpy()
    psnr = [metrics.psnr_db(made, exact, peak=1.0) for made in (half, one, wide, all8)]
    assert 200 > psnr[1] > psnr[3] > 15
    assert psnr[0] > psnr[3] + 10
    assert psnr[2] > psnr[3] + 3
