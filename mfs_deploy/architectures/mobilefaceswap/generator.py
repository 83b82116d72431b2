"""MobileFaceSwap in PyTorch: the generator, which predicts weights, and the small network, which runs with them.

Source: section 3 of the paper (https://arxiv.org/abs/2201.03808) and the authors' code,
https://github.com/Seanseattle/MobileFaceSwap/blob/f9ce4f38328939b1b9136f86ce58276b73f9f84c/models/model.py
  Parameter names follow the published checkpoint, so that a state dict
loads without a map; only the framework's own leaf names differ (see ``checkpoint/paddle_names.py``).

Every upsampling is 2x bilinear with aligned corners; every activation is LeakyReLU with slope 0.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mfs_deploy.architectures import per_sample

SLOPE = 0.1
STYLE_DIM = 512
ENCODER = (3, 32, 64, 128, 256, 512)  # channels before and after each stride-2 stage
DECODER_IN = (512, 512, 256, 128)  # after concatenation with the skip of the same size
DECODER_OUT = (256, 128, 64, 32)
MASK = (512, 128, 64, 32, 8, 2)
DEMODULATION_EPS = 1e-16
AfterStage = Callable[[int, Tensor], Tensor]  # of a stage's number and its features (N, C, H, W)


def upsample2x(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


class Upsample2x(nn.Module):
    """Holds the place of an upsampling in a Sequential, so that indices match the published keys."""

    def forward(self, x: Tensor) -> Tensor:
        return upsample2x(x)


def final_branch() -> nn.Sequential:
    """Decoder features (N, 32, S/2, S/2) to colour (N, 3, S, S) in [-1, 1].  Shared by all identities."""
    width = DECODER_OUT[-1]
    return nn.Sequential(
        Upsample2x(),
        nn.Conv2d(width, width // 4, 1),
        nn.BatchNorm2d(width // 4),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(width // 4, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(3, 3, 3, padding=1),
        nn.Tanh(),
    )


def mask_branch() -> nn.Sequential:
    """Bottleneck (N, 512, S/32, S/32) to the blend mask (N, 1, S, S) in [0, 1].  Shared by all identities."""
    stages: list[nn.Module] = [
        nn.Sequential(
            Upsample2x(),
            nn.Conv2d(a, a, 3, padding=1, groups=a),
            nn.Conv2d(a, b, 1),
            nn.BatchNorm2d(b),
            nn.LeakyReLU(SLOPE),
        )
        for a, b in pairwise(MASK)
    ]
    return nn.Sequential(*stages, nn.Conv2d(2, 1, 3, padding=1), nn.Sigmoid())


def depthwise_pointwise(a: int, b: int, *, kernel: int, stride: int) -> nn.Sequential:
    """A depthwise then a 1x1 convolution with nothing between, as every encoder and decoder stage has it."""
    return nn.Sequential(
        nn.Conv2d(a, a, kernel, stride=stride, padding=1, groups=a),
        nn.Conv2d(a, b, 1),
    )


class BakedNet(nn.Module):
    """The fixed network of one identity: 499,825 parameters, of which a bake sets 411,664.

    The bake never sets the biases of ``Encoder`` and ``Decoder``.  The original framework initialises them to zero and PyTorch
    does not, so they are zeroed here: without this every swap is silently wrong.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Encoder = nn.ModuleList(depthwise_pointwise(a, b, kernel=4, stride=2) for a, b in pairwise(ENCODER))
        self.Decoder = nn.ModuleList(
            depthwise_pointwise(a, b, kernel=3, stride=1) for a, b in zip(DECODER_IN, DECODER_OUT, strict=True)
        )
        self.final = final_branch()
        self.mask = mask_branch()
        for branch in (self.Encoder, self.Decoder):
            for conv in branch.modules():
                if isinstance(conv, nn.Conv2d) and conv.bias is not None:
                    nn.init.zeros_(conv.bias)

    def forward(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Swap.

        Args:
            target: (N, 3, S, S) RGB in [0, 1], S a multiple of 32.

        Returns:
            swapped (N, 3, S, S) RGB in [0, 1], already blended with the target; mask (N, 1, S, S) in [0, 1].
        """
        x = (target - 0.5) / 0.5
        skips = []
        for stage in self.Encoder:
            x = F.leaky_relu(stage(x), SLOPE)
            skips.append(x)
        mask = self.mask(x)
        for i, stage in enumerate(self.Decoder):
            x = F.leaky_relu(stage(upsample2x(x)), SLOPE)
            if i + 1 < len(self.Decoder):
                x = torch.cat((x, skips[len(self.Decoder) - 1 - i]), dim=1)
        colour = (1 + self.final(x)) / 2
        return colour * mask + (1 - mask) * target, mask


@dataclass(frozen=True)
class PredictedWeights:
    """The weights that the generator predicts for N identities.

    ``depthwise``: per stage (N, C, k, k).  ``pointwise``: per stage (N, out, in, 1, 1).  Encoder stages first, then decoder.
    """

    depthwise: tuple[Tensor, ...]
    pointwise: tuple[Tensor, ...]


class WeightBlock(nn.Module):
    """One step of the predictor: features for the next step, and the depthwise kernels of one stage."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(a, b, 3, padding=1)
        self.norm = nn.BatchNorm2d(b)
        self.weight = nn.Conv2d(b, b, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = F.leaky_relu(self.norm(self.conv(x)), SLOPE)
        return features, self.weight(features)


class WeightPredictor(nn.Module):
    """Identity feature map (N, 512, 7, 7) to depthwise kernels: 4x4 for the encoder, 3x3 for the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(STYLE_DIM, STYLE_DIM, 4)
        self.first_decoder = nn.Conv2d(STYLE_DIM, STYLE_DIM, 2)
        self.decoder_norm = nn.BatchNorm2d(STYLE_DIM)
        self.norm = nn.BatchNorm2d(STYLE_DIM)
        # The encoder's kernels are predicted from the deepest stage outwards, hence the reversed channels.
        widths = (STYLE_DIM, *reversed(ENCODER[:-1]))
        self.encoder = nn.ModuleList(WeightBlock(a, b) for a, b in pairwise(widths))
        widths = (STYLE_DIM, *DECODER_IN)
        self.decoder = nn.ModuleList(WeightBlock(a, b) for a, b in pairwise(widths))

    def forward(self, feature_map: Tensor) -> tuple[Tensor, ...]:
        x = F.leaky_relu(self.norm(self.first(feature_map)), SLOPE)
        y = F.leaky_relu(self.decoder_norm(self.first_decoder(x)), SLOPE)
        encoder, decoder = [], []
        for block in self.encoder:
            x, kernels = block(x)
            encoder.append(kernels)
        for block in self.decoder:
            y, kernels = block(y)
            decoder.append(kernels)
        return (*reversed(encoder), *decoder)


class Modulation(nn.Module):
    """Scales a shared 1x1 weight by a style and normalises each output filter (StyleGAN2's modulation, demodulation)."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.style = nn.Linear(STYLE_DIM, a)
        self.weight = nn.Parameter(torch.empty(b, a, 1, 1))
        nn.init.kaiming_uniform_(self.weight, a=SLOPE)

    def forward(self, embedding: Tensor) -> Tensor:
        scale: Tensor = self.style(embedding)[:, None, :, None, None]  # (N, 1, in, 1, 1)
        weight = self.weight[None] * (scale + 1)
        # Not square(): that becomes ONNX's Pow, which is two thirds of the generator's time in ONNX Runtime.
        norm = (weight * weight).sum(dim=(2, 3, 4), keepdim=True)
        return weight * torch.rsqrt(norm + DEMODULATION_EPS)


class Generator(nn.Module):
    """Identity to weights: 20.7 M values, run once per identity, never on the phone."""

    def __init__(self) -> None:
        super().__init__()
        self.EncoderModulation = nn.ModuleList(Modulation(a, b) for a, b in pairwise(ENCODER))
        self.DecoderModulation = nn.ModuleList(Modulation(a, b) for a, b in zip(DECODER_IN, DECODER_OUT, strict=True))
        self.predictor = WeightPredictor()
        self.final = final_branch()
        self.mask = mask_branch()

    def forward(self, embedding: Tensor, feature_map: Tensor) -> PredictedWeights:
        """Predict weights from (N, 512) L2-normalised embeddings and (N, 512, 7, 7) feature maps."""
        modulations = (*self.EncoderModulation, *self.DecoderModulation)
        return PredictedWeights(
            depthwise=self.predictor(feature_map),
            pointwise=tuple(m(embedding) for m in modulations),
        )

    def swap(self, predicted: PredictedWeights, target: Tensor, after: AfterStage | None = None) -> tuple[Tensor, Tensor]:
        """Run the swap with predicted weights applied on the fly, each sample with its own.

        This is how the network is trained, and the reference that a bake must reproduce.  Shapes as ``BakedNet.forward``.
        """
        features = self.stages(predicted, target, after)
        mask = self.mask(features[len(ENCODER) - 2])
        # The first 1x1 convolution commutes with the upsampling before it, and costs a quarter there.
        resize, narrow, *rest = self.final
        x = resize(narrow(features[-1]))
        for layer in rest:
            x = layer(x)
        colour = (1 + x) / 2
        return colour * mask + (1 - mask) * target, mask

    def stages(self, predicted: PredictedWeights, target: Tensor, after: AfterStage | None = None) -> list[Tensor]:
        """Features after each encoder stage, then after each decoder stage; training may change them with ``after``."""

        def stage(x: Tensor, *, stride: int) -> Tensor:
            i = len(outputs)
            x = per_sample.depthwise(x, predicted.depthwise[i], stride=stride)
            x = F.leaky_relu(per_sample.pointwise(x, predicted.pointwise[i]), SLOPE)
            outputs.append(after(i, x) if after else x)
            return outputs[-1]

        outputs: list[Tensor] = []
        x = (target - 0.5) / 0.5
        for _ in ENCODER[1:]:
            x = stage(x, stride=2)
        for i in range(len(DECODER_OUT)):
            x = stage(upsample2x(x), stride=1)
            if i + 1 < len(DECODER_OUT):
                x = torch.cat((x, outputs[len(DECODER_OUT) - 1 - i]), dim=1)
        return outputs
