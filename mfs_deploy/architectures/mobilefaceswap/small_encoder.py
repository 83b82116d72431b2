"""A small identity encoder with the interface of ``arcface.ArcFace``: 1.1 M parameters instead of 52 M, for the demo weights.

Depthwise-separable residual blocks as in MobileFaceNet (Chen et al. 2018, https://arxiv.org/abs/1804.07573).  The embedding comes
from pooled trunk features; the feature map, which the generator turns into depthwise kernels, from a projection of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn.functional import normalize

STEM = 32
STAGES = ((64, 2), (128, 3), (256, 3))  # channels, blocks; stem and stages each halve the size, 112 to 7
EMBEDDING = 512
FIRST_KEY = "trunk.0.weight"


def holds(keys: Iterable[str]) -> bool:
    """Whether a state dict's keys are this encoder's and not the published one's."""
    return FIRST_KEY in keys


class Separable(nn.Module):
    """1x1 expand, 3x3 depthwise, 1x1 project; a residual where the shape stays."""

    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        wide = 2 * a
        self.body = nn.Sequential(
            nn.Conv2d(a, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.PReLU(wide),
            nn.Conv2d(wide, wide, 3, stride=stride, padding=1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.PReLU(wide),
            nn.Conv2d(wide, b, 1, bias=False),
            nn.BatchNorm2d(b),
        )
        self.residual = stride == 1 and a == b

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.residual else y


class SmallEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width = STEM
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)]
        for channels, blocks in STAGES:
            layers += [Separable(width, channels, 2)]
            layers += [Separable(channels, channels, 1) for _ in range(blocks - 1)]
            width = channels
        self.trunk = nn.Sequential(*layers)  # (N, 3, 112, 112) to (N, 256, 7, 7)
        self.embed = nn.Sequential(nn.Linear(width, EMBEDDING), nn.BatchNorm1d(EMBEDDING))
        self.project = nn.Sequential(nn.Conv2d(width, EMBEDDING, 1, bias=False), nn.BatchNorm2d(EMBEDDING))

    def forward(self, face: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding (N, 512), L2-normalised, and feature map (N, 512, 7, 7), of (N, 3, 112, 112) aligned faces, RGB in [0, 1]."""
        features: Tensor = self.trunk(face * 2 - 1)
        return normalize(self.embed(features.mean(dim=(2, 3)))), self.project(features)
