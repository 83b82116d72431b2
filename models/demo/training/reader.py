"""A network that reads the renderer's own numbers off a face: the demo's identity encoder, and the judge of a swap.

Plain strided convolutions; the last 7 x 7 map is flattened instead of averaged, since in an aligned face place is information.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.1
EMBEDDING = 512
HIDDEN = 384
NARROW = 32  # channels of the map that is flattened
LAYERS = ((24, 5, 2), (48, 3, 2), (48, 3, 1), (96, 3, 2), (96, 3, 1), (192, 3, 2), (192, 3, 1))  # channels, kernel, stride
LENGTH = 2.0  # of a constant component: a face near the mean must not become noise when it is made a unit vector


def block(a: int, b: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(SLOPE))


class FaceReader(nn.Module):
    """1.7 M parameters for 53 numbers.

    Args:
        numbers: how many are read.
        widths: factor on the channels of the trunk; a second judge has another.
    """

    def __init__(self, numbers: int, widths: float = 1.0) -> None:
        super().__init__()
        self.numbers = numbers
        channels = [3, *(int(width * widths) for width, _, _ in LAYERS)]
        self.trunk = nn.Sequential(
            *(block(channels[i], channels[i + 1], kernel, stride) for i, (_, kernel, stride) in enumerate(LAYERS))
        )
        self.narrow = block(channels[-1], NARROW, 1)
        self.hidden = nn.Sequential(nn.Linear(NARROW * 49, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.LeakyReLU(SLOPE))
        self.out = nn.Linear(HIDDEN, numbers)
        self.spread = nn.Linear(numbers, EMBEDDING)
        self.project = nn.Linear(EMBEDDING, EMBEDDING)
        self.position = nn.Parameter(torch.randn(EMBEDDING, 7, 7))

    def read(self, face: Tensor) -> Tensor:
        """(N, D) numbers of (N, 3, 112, 112) aligned faces, RGB in [0, 1]."""
        x = (face * 2 - 1).contiguous(memory_format=torch.channels_last)
        numbers: Tensor = self.out(self.hidden(self.narrow(self.trunk(x)).flatten(1)))
        return numbers

    def express(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding (N, 512), L2-normalised, and feature map (N, 512, 7, 7), of (N, D) numbers."""
        rest = numbers.new_zeros(len(numbers), EMBEDDING - self.numbers - 1)
        embedding = F.normalize(torch.cat([numbers, torch.full_like(numbers[:, :1], LENGTH), rest], 1))
        spread = self.project(F.leaky_relu(self.spread(numbers), SLOPE))
        return embedding, spread[:, :, None, None] + self.position

    def forward(self, face: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding (N, 512), L2-normalised, and feature map (N, 512, 7, 7), of (N, 3, 112, 112) aligned faces, RGB in [0, 1]."""
        return self.express(self.read(face))

    def map_parameters(self) -> list[nn.Parameter]:
        """What makes the feature map, which is trained with the generator; the rest is frozen by then."""
        return [*self.spread.parameters(), *self.project.parameters(), self.position]


def as_read(image: Tensor) -> Tensor:
    """(N, 3, S, S) at the size that is read."""
    if image.shape[-1] == 112:
        return image
    small = image.shape[-1] < 112
    if small:
        return F.interpolate(image, size=(112, 112), mode="bilinear", align_corners=False)
    return F.interpolate(image, size=(112, 112), mode="area")
