"""Divides every channel of every stage by its size while the swap network trains, and folds the sizes away afterwards, exactly.

Between its stages the network has no normalisation: features grow by orders of magnitude, and each step then changes less of them.
A positive factor passes through every stage, LeakyReLU included, so a division by a fixed size can move into the weights that read
the channel: training is conditioned as if the network were normalised, and the network that ships is the published one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mfs_deploy.architectures.mobilefaceswap.generator import (
    DECODER_OUT,
    ENCODER,
    Generator,
    WeightBlock,
)

STAGES = (*ENCODER[1:], *DECODER_OUT)  # channels of each stage's output
BOTTLENECK = len(ENCODER) - 2  # the stage that the mask reads
MOMENTUM = 0.02
EPSILON = 1e-8


class Sizes(nn.Module):
    """Root mean square of each channel of each stage: of the batch in training, of the running average otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.squares = nn.ParameterList(nn.Parameter(torch.ones(width), requires_grad=False) for width in STAGES)

    def forward(self, stage: int, features: Tensor) -> Tensor:
        """``features`` (N, C, H, W) of a stage, each channel divided by its size."""
        squares: Tensor = self.squares[stage]
        if self.training:
            squares = features.square().mean(dim=(0, 2, 3))
            self.squares[stage].data.lerp_(squares.detach(), MOMENTUM)
        return features * torch.rsqrt(squares + EPSILON)[:, None, None]

    @torch.no_grad()
    def fold(self, generator: Generator) -> None:
        """Have ``generator`` compute without the divisions what it computed with them, each stage's features near size one."""
        sizes = [torch.sqrt(squares + EPSILON) for squares in self.squares]
        for i, block in enumerate([*reversed(generator.predictor.encoder), *generator.predictor.decoder]):  # in the order of stages
            assert isinstance(block, WeightBlock)
            assert block.weight.bias is not None
            whole = sizes[i].square().mean().sqrt()
            sizes[i] /= whole
            factor = 1 / (whole * read_sizes(i, sizes))
            block.weight.weight.mul_(factor[:, None, None, None])
            block.weight.bias.mul_(factor)
        first = generator.mask[0]
        assert isinstance(first, nn.Sequential)
        for conv, size in ((first[1], sizes[BOTTLENECK][:, None]), (generator.final[1], sizes[-1])):
            assert isinstance(conv, nn.Conv2d)
            conv.weight.div_(size[..., None, None])
        for squares in self.squares:
            squares.fill_(1 - EPSILON)


def read_sizes(stage: int, sizes: list[Tensor]) -> Tensor:
    """Of each channel that ``stage`` reads, its size."""
    if stage == 0:
        return torch.ones(ENCODER[0], device=sizes[0].device)
    if stage <= BOTTLENECK + 1:  # also the first decoder stage: it reads the last encoder stage
        return sizes[stage - 1]
    skip = 2 * BOTTLENECK + 1 - stage
    return torch.cat([sizes[stage - 1], sizes[skip]])
