"""Brings the sizes of a trained swap network's features back to one, without changing what it computes.

Between its stages the network has no normalisation, and before each branch ends there is one, so training feels no size: features
grow to 1e11 within hundreds of steps, where float16 ends at 65,504.  Every stage is homogeneous (a positive factor passes through),
so a stage's kernels can be divided by a factor if the kernels that read it are multiplied by it.  Exact up to the epsilon of the
branches' first BatchNorm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mfs_deploy.nets.mobilefaceswap import DECODER_OUT, ENCODER, Generator, WeightBlock


@torch.no_grad()
def settle(generator: Generator, embedding: Tensor, feature_map: Tensor, target: Tensor) -> None:
    """Rescale ``generator`` in place so that each stage's features have a deviation of one on the batch given.

    Args:
        generator: in eval mode.
        embedding, feature_map, target: (N, 512), (N, 512, 7, 7) and (N, 3, S, S).
    """
    sizes = [features.std() for features in generator.stages(generator(embedding, feature_map), target)]
    for i, block in enumerate([*reversed(generator.predictor.encoder), *generator.predictor.decoder]):
        assert isinstance(block, WeightBlock)
        factor = _read_sizes(i, sizes) / sizes[i]
        block.weight.weight.mul_(factor[:, None, None, None])
        assert block.weight.bias is not None
        block.weight.bias.mul_(factor)
    first, rest = generator.mask[0], sizes[len(ENCODER) - 2]
    assert isinstance(first, nn.Sequential)
    for conv in (first[1], first[2]):
        _shrink_bias(conv, rest)
    _shrink_norm(first[3], rest)
    _shrink_bias(generator.final[1], sizes[-1])
    _shrink_norm(generator.final[2], sizes[-1])


def _read_sizes(i: int, sizes: list[Tensor]) -> Tensor:
    """Of each channel that stage ``i`` reads, the size it had."""
    stages = len(ENCODER) - 1
    if i == 0:
        return torch.ones(ENCODER[0], device=sizes[0].device)
    if i <= stages:  # also the first decoder stage: it reads the last encoder stage
        return sizes[i - 1].repeat(ENCODER[i])
    skip = len(DECODER_OUT) - (i - stages)
    return torch.cat([sizes[i - 1].repeat(DECODER_OUT[i - stages - 1]), sizes[skip].repeat(ENCODER[skip + 1])])


def _shrink_bias(conv: nn.Module, size: Tensor) -> None:
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    conv.bias.div_(size)


def _shrink_norm(norm: nn.Module, size: Tensor) -> None:
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.div_(size)
    norm.running_var.div_(size**2)
