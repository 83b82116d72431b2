"""Convolutions in other forms: each sample with its own weights, and a whole batch as one matrix product."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mfs_deploy.architectures import per_sample
from mfs_deploy.stamping.patch_convolutions import PatchConv, with_patches


@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (3, 1)])
def test_depthwise_gradients_are_those_of_autograd(kernel, stride):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(2, 3, kernel, kernel, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: per_sample.depthwise(a, b, stride=stride), (x, kernels))
    plain = torch.stack([F.conv2d(x[i : i + 1], kernels[i][:, None], stride=stride, padding=1, groups=3)[0] for i in range(2)])
    torch.testing.assert_close(per_sample.depthwise(x, kernels, stride=stride), plain)


def test_pointwise_gives_each_sample_its_own_weights():
    x, weights = torch.randn(2, 3, 4, 5), torch.randn(2, 6, 3, 1, 1)
    plain = torch.cat([F.conv2d(x[i : i + 1], weights[i]) for i in range(2)])
    torch.testing.assert_close(per_sample.pointwise(x, weights), plain)


@pytest.mark.parametrize(("kernel", "padding"), [(2, 0), (3, 1), ((3, 5), (1, 2))])
def test_a_product_of_patches_is_the_convolution(kernel, padding):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(5, 7, kernel, padding=padding), torch.nn.Conv2d(7, 4, 1)).double()
    x = torch.randn(3, 5, 6, 9, dtype=torch.float64)
    other = with_patches(net)
    assert [type(module) for module in other.children()] == [PatchConv, torch.nn.Conv2d]
    torch.testing.assert_close(other(x), net(x), rtol=0, atol=1e-14)
