"""The identity encoder: ArcFace's SE-IR ResNet with blocks [3, 4, 23, 3], at 112 x 112.

Source: Deng et al., "ArcFace", CVPR 2019 (https://arxiv.org/abs/1801.07698), and the MobileFaceSwap authors' code, whose parameter
names are kept: https://github.com/Seanseattle/MobileFaceSwap/blob/f9ce4f38328939b1b9136f86ce58276b73f9f84c/models/arcface.py
  Unlike most ArcFace code it has a 3x3 stem without padding and a max pool, normalises its input
with ImageNet statistics, shares one PReLU slope between both activations of a block, and applies the second one after the sum.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 112
EMBEDDING = 512
MEAN = (0.485, 0.456, 0.406)  # ImageNet, RGB
STD = (0.229, 0.224, 0.225)
LAYERS = (3, 4, 23, 3)


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(channels, channels // 16), nn.PReLU(), nn.Linear(channels // 16, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.fc(x.mean(dim=(2, 3)))
        return x * gate[:, :, None, None]


class IRBlock(nn.Module):
    def __init__(self, a: int, b: int, stride: int, *, project: bool) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(a)
        self.conv1 = nn.Conv2d(a, a, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(a)
        self.prelu = nn.PReLU()
        self.conv2 = nn.Conv2d(a, b, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(b)
        self.se = SqueezeExcite(b)
        self.downsample = nn.Sequential(nn.Conv2d(a, b, 1, stride=stride, bias=False), nn.BatchNorm2d(b)) if project else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.prelu(self.bn1(self.conv1(self.bn0(x))))
        y = self.se(self.bn2(self.conv2(y)))
        shortcut = x if self.downsample is None else self.downsample(x)
        result: Tensor = self.prelu(y + shortcut)
        return result


class ArcFace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU()
        width = 64
        for i, (planes, blocks) in enumerate(zip((64, 128, 256, 512), LAYERS, strict=True)):
            stride = 1 if i == 0 else 2
            stack = [IRBlock(width, planes, stride, project=i > 0)]
            stack += [IRBlock(planes, planes, 1, project=False) for _ in range(blocks - 1)]
            self.add_module(f"layer{i + 1}", nn.Sequential(*stack))
            width = planes
        self.bn2 = nn.BatchNorm2d(512)
        self.fc = nn.Linear(512 * 7 * 7, EMBEDDING)
        self.bn3 = nn.BatchNorm1d(EMBEDDING)

    def forward(self, face: Tensor) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            face: (N, 3, 112, 112) aligned face, RGB in [0, 1].

        Returns:
            embedding (N, 512), L2-normalised; feature map (N, 512, 7, 7), before the fully connected layer.
        """
        mean = face.new_tensor(MEAN)[None, :, None, None]
        std = face.new_tensor(STD)[None, :, None, None]
        x = self.prelu(self.bn1(self.conv1((face - mean) / std)))
        x = F.max_pool2d(x, 2)
        for i in range(len(LAYERS)):
            x = self.get_submodule(f"layer{i + 1}")(x)
        feature_map = self.bn2(x)
        embedding = self.bn3(self.fc(feature_map.flatten(1)))
        return embedding / torch.linalg.vector_norm(embedding, dim=1, keepdim=True), feature_map
