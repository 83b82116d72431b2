"""What the demo weights are trained for.

Pixel and identity losses after MobileFaceSwap (arXiv 2201.03808, section 3.3), with its reweighting of samples by difficulty; the
multi-scale gradient loss and the mask's supervision after MobileFSGAN (ICME 2022).  Here the right answer is known to the pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mfs_deploy.architectures.mobilefaceswap.generator import Generator, Modulation, WeightBlock
from mfs_deploy.demo.rendering.triplets import SOURCE_SIZE

TEMPERATURE = 0.07
READING = 20.0
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


def known(encoder: nn.Module, made: Tensor, embedding: Tensor) -> Tensor:
    """(N,) cosine between what the encoder sees in ``made`` (N, 3, S, S) and the sources' (N, 512) embeddings."""
    face = F.interpolate(made, size=(SOURCE_SIZE, SOURCE_SIZE), mode="area")
    seen: Tensor = encoder(face)[0]
    return (seen * embedding).sum(1)


def swap(made: Tensor, made_mask: Tensor, result: Tensor, mask: Tensor, known: Tensor | None) -> dict[str, Tensor]:
    """The loss of a batch and its parts.

    Args:
        made, made_mask: what the network gave, (N, 3, S, S) and (N, 1, S, S).
        result, mask: the truth.
        known: (N,) identity cosines, or None to leave identity out of this batch.
    """
    weight = 1 + (FACE_WEIGHT - 1) * mask
    pixel = ((made - result).abs() * weight).mean(dim=(1, 2, 3))
    gradient = torch.stack([_gradient(made, result, scale) for scale in range(SCALES)]).mean(0)
    masks = F.binary_cross_entropy(made_mask.clamp(1e-5, 1 - 1e-5), mask, reduction="none").mean(dim=(1, 2, 3))
    parts = {"pixel": pixel, "gradient": gradient, "mask": masks}
    if known is not None:
        parts["identity"] = 1 - known
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
