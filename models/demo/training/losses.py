"""What the demo weights are trained for.

Pixel loss after MobileFaceSwap (arXiv 2201.03808, section 3.3), with its reweighting of samples by difficulty; the multi-scale
gradient loss and the mask's supervision after MobileFSGAN (ICME 2022).  Here the right answer is known to the pixel.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from mfs_deploy.architectures.mobilefaceswap.generator import Generator, Modulation, WeightBlock
from mfs_deploy.demo.rendering.render import TEMPLATE

SCALES = 3
FACE_WEIGHT = 4.0  # of a pixel inside the mask against one outside
FEATURE_WEIGHT = 5.0  # of eyes and mouth against the rest of the face: two percent of the pixels, and what people look at first
FEATURE_RADIUS = 7.0  # pixels of a crop of 112
STYLE = 10.0  # a linear layer starts for inputs of size one; an embedding's numbers are 512 ** -0.5, and styles then hardly differ
WEIGHTS = {"pixel": 10.0, "gradient": 5.0, "mask": 2.0, "identity": 1.0}


def swap(made: Tensor, made_mask: Tensor, result: Tensor, mask: Tensor, likeness: Tensor | None) -> dict[str, Tensor]:
    """The loss of a batch and its parts.

    Args:
        made, made_mask: what the network gave, (N, 3, S, S) and (N, 1, S, S).
        result, mask: the truth.
        likeness: (N,) cosine of the numbers read off ``made`` and off ``result``; None leaves identity out of this batch.
    """
    weight = 1 + mask * (FACE_WEIGHT - 1 + (FEATURE_WEIGHT - 1) * features(made.shape[-1]).to(made.device))
    pixel = ((made - result).abs() * weight).mean(dim=(1, 2, 3))
    gradient = torch.stack([_gradient(made, result, scale) for scale in range(SCALES)]).mean(0)
    masks = F.binary_cross_entropy(made_mask.clamp(1e-5, 1 - 1e-5), mask, reduction="none").mean(dim=(1, 2, 3))
    parts = {"pixel": pixel, "gradient": gradient, "mask": masks}
    if likeness is not None:
        parts["identity"] = 1 - likeness
    each = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum(0)
    hard = (pixel / pixel.mean()).detach().clamp(0.5, 2.0)  # samples that are harder count for more
    return {"loss": (each * hard).mean(), **{name: part.detach().mean() for name, part in parts.items()}}


@functools.cache
def features(size: int) -> Tensor:
    """(1, 1, S, S) near 1 at the eyes and the mouth of an aligned crop, 0 far from them."""
    scale = size / 112
    (left, right, _, corner, other) = TEMPLATE
    mouth = ((corner[0] + other[0]) / 2, (corner[1] + other[1]) / 2)
    along = torch.arange(size, dtype=torch.float32)
    spots = [
        torch.exp(-(((along[None, :] / scale - x) / wide) ** 2 + ((along[:, None] / scale - y) / FEATURE_RADIUS) ** 2) / 2)
        for (x, y), wide in ((left, FEATURE_RADIUS), (right, FEATURE_RADIUS), (mouth, 2 * FEATURE_RADIUS))
    ]
    return torch.stack(spots).amax(0)[None, None]


def _gradient(a: Tensor, b: Tensor, scale: int) -> Tensor:
    """(N,) mean difference of image gradients, at half the size ``scale`` times."""
    if scale:
        a, b = (F.avg_pool2d(t, 2**scale) for t in (a, b))
    d = a - b
    return (d[..., 1:] - d[..., :-1]).abs().mean(dim=(1, 2, 3)) + (d[..., 1:, :] - d[..., :-1, :]).abs().mean(dim=(1, 2, 3))


def psnr_inside_db(made: Tensor, result: Tensor, mask: Tensor) -> Tensor:
    """(N,) PSNR where the true mask is above one half."""
    inside = (mask > 0.5).float()
    squared = ((made - result) ** 2 * inside).sum(dim=(1, 2, 3)) / (3 * inside.sum(dim=(1, 2, 3))).clamp_min(1)
    return -10 * torch.log10(squared.clamp_min(1e-10))


@torch.no_grad()
def start_generator(generator: Generator) -> None:
    """Styles that tell people apart, and depthwise kernels as random as their predictor's features make them.

    Kernels that begin as averages must first unlearn to blur: the small network alone had 22.9 dB inside the face after 300 steps
    with them, 23.8 dB with random ones.
    """
    for modulation in (*generator.EncoderModulation, *generator.DecoderModulation):
        assert isinstance(modulation, Modulation)
        modulation.style.weight.mul_(STYLE)
        modulation.style.bias.zero_()
    for block in (*generator.predictor.encoder, *generator.predictor.decoder):
        assert isinstance(block, WeightBlock)
        assert block.weight.bias is not None
        block.weight.bias.zero_()
