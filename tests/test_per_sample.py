"""Per-sample convolutions: what autograd makes of a grouped convolution, forward and backward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mfs_deploy.nets import per_sample


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
