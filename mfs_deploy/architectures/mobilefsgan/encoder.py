"""The identity encoder: MobileFaceNet with an embedding of 512, on the middle of the crop.

Paper: Chen et al. 2018, https://arxiv.org/abs/1804.07573
Source: the authors' code, https://github.com/HoiM/MobileFSGAN/blob/7d630d7529d0d8290a03bf948368b904cd0c0d68/modules/IdentityEncoder.py
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 256  # of the face that it is given
MIDDLE = slice(26, 230)  # of rows and columns: what it looks at, shrunk to ...
SEEN = 112


class Convolution(nn.Module):
    """Convolution, BatchNorm, and PReLU unless ``linear``."""

    def __init__(
        self, a: int, b: int, kernel: int, *, stride: int = 1, padding: int = 0, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(a, b, kernel, stride=stride, padding=padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(b)
        self.prelu = None if linear else nn.PReLU(b)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(x))
        return y if self.prelu is None else self.prelu(y)


class Bottleneck(nn.Module):
    """1x1 expand, 3x3 depthwise, 1x1 project; a residual where the size stays."""

    def __init__(self, a: int, b: int, wide: int, stride: int) -> None:
        super().__init__()
        self.conv = Convolution(a, wide, 1)
        self.conv_dw = Convolution(wide, wide, 3, stride=stride, padding=1, groups=wide)
        self.project = Convolution(wide, b, 1, linear=True)
        self.residual = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.conv_dw(self.conv(x)))
        return x + y if self.residual else y


class Stack(nn.Module):
    def __init__(self, width: int, wide: int, blocks: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*(Bottleneck(width, width, wide, 1) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.model(x)
        return y


class MobileFaceNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Convolution(3, 64, 3, stride=2, padding=1)
        self.conv2_dw = Convolution(64, 64, 3, padding=1, groups=64)
        self.conv_23 = Bottleneck(64, 64, 128, 2)
        self.conv_3 = Stack(64, 128, 4)
        self.conv_34 = Bottleneck(64, 128, 256, 2)
        self.conv_4 = Stack(128, 256, 6)
        self.conv_45 = Bottleneck(128, 128, 512, 2)
        self.conv_5 = Stack(128, 256, 2)
        self.conv_6_sep = Convolution(128, 512, 1)
        self.conv_6_dw = Convolution(512, 512, 7, groups=512, linear=True)
        self.linear = nn.Linear(512, 512, bias=False)
        self.bn = nn.BatchNorm1d(512)

    def forward(self, face: Tensor) -> Tensor:
        """Embeddings (N, 512), L2-normalised, of (N, 3, 256, 256) aligned faces, RGB in [0, 1]."""
        x = F.interpolate(face[:, :, MIDDLE, MIDDLE] * 2 - 1, size=(SEEN, SEEN), mode="bilinear", align_corners=True)
        for part in (self.conv1, self.conv2_dw, self.conv_23, self.conv_3, self.conv_34, self.conv_4, self.conv_45, self.conv_5):
            x = part(x)
        x = self.conv_6_dw(self.conv_6_sep(x)).flatten(1)
        return F.normalize(self.bn(self.linear(x)))
