"""What the demo weights are trained for.

Pixel and identity losses after MobileFaceSwap (arXiv 2201.03808, section 3.3), with its reweighting of samples by difficulty; the
multi-scale gradient loss and the mask's supervision after MobileFSGAN (ICME 2022).  Here the right answer is known to the pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mfs_deploy.nets.mobilefaceswap import Generator, Modulation, WeightBlock

TEMPERATURE = 0.07
READING = 5.0
SCALES = 3
FACE_WEIGHT = 4.0  # of a pixel inside the mask against one outside
STYLE = 10.0  # a linear layer starts for inputs of size one; an embedding's numbers are 512 ** -0.5, and styles then hardly differ
WEIGHTS = {"pixel": 10.0, "gradient": 5.0, "mask": 2.0, "identity": 1.0}


def contrast(sources: Tensor, results: Tensor, targets: Tensor) -> Tensor:
    """InfoNCE both ways between (N, D) unit vectors of sources and of results, with the targets as further wrong answers."""
    same = torch.arange(len(sources), device=sources.device)
    ways = (
        F.cross_entropy(a @ torch.cat([b, targets]).t() / TEMPERATURE, same) for a, b in ((results, sources), (sources, results))
    )
    return sum(ways, torch.zeros((), device=sources.device)) / 2


def identity(embedding: Tensor, read: Tensor, numbers: Tensor) -> dict[str, Tensor]:
    """The encoder's loss and its parts.

    Args:
        embedding: (3 N, 512) of N sources, of the results, of the targets.
        read: (3 N, D) what a linear head reads off the embeddings.
        numbers: (3 N, D) the truth of that.
    """
    sources, results, targets = embedding.chunk(3)
    contrasted = contrast(sources, results, targets)
    misread = F.smooth_l1_loss(read, numbers)
    right = ((results * sources).sum(1) > (results * targets).sum(1)).float().mean()
    parts = {"contrast": contrasted.detach(), "misread": misread.detach(), "right": right}
    return {"loss": contrasted + READING * misread, **parts}


def swap(
    made: Tensor, made_mask: Tensor, result: Tensor, mask: Tensor, source: Tensor, critic: nn.Module | None
) -> dict[str, Tensor]:
    """The loss of a batch and its parts.

    Args:
        made, made_mask: what the network gave, (N, 3, S, S) and (N, 1, S, S).
        result, mask: the truth.
        source: (N, 3, 112, 112).
        critic: a frozen identity encoder, or None to leave identity out of this batch.
    """
    weight = 1 + (FACE_WEIGHT - 1) * mask
    pixel = ((made - result).abs() * weight).mean(dim=(1, 2, 3))
    gradient = torch.stack([_gradient(made, result, scale) for scale in range(SCALES)]).mean(0)
    masks = F.binary_cross_entropy(made_mask.clamp(1e-5, 1 - 1e-5), mask, reduction="none").mean(dim=(1, 2, 3))
    parts = {"pixel": pixel, "gradient": gradient, "mask": masks}
    if critic is not None:
        face = F.interpolate(made, size=source.shape[2:], mode="area")
        parts["identity"] = 1 - (critic(face)[0] * critic(source)[0]).sum(1)
    each = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum(0)
    hard = (pixel / pixel.mean()).detach().clamp(0.5, 2.0)  # samples that are harder count for more
    return {"loss": (each * hard).mean(), **{name: part.detach().mean() for name, part in parts.items()}}


def _gradient(a: Tensor, b: Tensor, scale: int) -> Tensor:
    """(N,) mean difference of image gradients, at half the size ``scale`` times."""
    if scale:
        a, b = (F.avg_pool2d(t, 2**scale) for t in (a, b))
    d = a - b
    return (d[..., 1:] - d[..., :-1]).abs().mean(dim=(1, 2, 3)) + (d[..., 1:, :] - d[..., :-1, :]).abs().mean(dim=(1, 2, 3))


@torch.no_grad()
def start_generator(generator: Generator, embedding: Tensor, feature_map: Tensor, target: Tensor) -> None:
    """Styles that tell people apart; kernels that begin as soft averages, scaled so that every stage gives a deviation of one.

    The swap network has no normalisation between its stages.  Channels that look alike add up in a 1x1 convolution of unit norm, so
    without the scaling a signal grows to 1e12 on its way, and neither training nor float16 can cope.

    Args:
        embedding, feature_map, target: a batch to measure it on.
    """
    blocks = [*reversed(generator.predictor.encoder), *generator.predictor.decoder]  # in the order of the stages
    stages = len(generator.predictor.encoder)
    for modulation in (*generator.EncoderModulation, *generator.DecoderModulation):
        assert isinstance(modulation, Modulation)
        modulation.style.weight.mul_(STYLE)
        modulation.style.bias.zero_()
    for i, block in enumerate(blocks):
        assert isinstance(block, WeightBlock)
        assert block.weight.bias is not None
        taps = 16 if i < stages else 9  # encoder kernels are 4x4, decoder kernels 3x3
        block.weight.weight.mul_(0.1)
        signs = torch.randint(0, 2, block.weight.bias.shape, device=block.weight.bias.device) * 2 - 1
        block.weight.bias.copy_(signs / taps)
    for i, block in enumerate(blocks):
        assert isinstance(block, WeightBlock)
        assert block.weight.bias is not None
        size = generator.stages(generator(embedding, feature_map), target)[i].std()
        block.weight.weight.div_(size)
        block.weight.bias.div_(size)
