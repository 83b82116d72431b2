"""What a camera does to a picture, in pixels of the view: blur, grain, JPEG."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mfs_deploy.demo.rendering import noise
from mfs_deploy.demo.rendering.attributes import Attributes

TAPS = 3
# ITU-T T.81 annex K, the tables that libjpeg scales by quality
LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), (99,) * 8, (99,) * 8, (99,) * 8, (99,) * 8,
)  # fmt: skip
YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def photograph(image: Tensor, a: Attributes) -> Tensor:
    """(N, 3, S, S) sRGB in [0, 1] as the scene's camera would store it.  Grain is the same for the same ``noise_seed``."""
    image = _where(image, a.blur > 0, a, _blur)
    image = _where(image, a.noise > 0, a, _grain).clamp(0, 1)
    return _where(image, a.jpeg_quality < 100, a, _jpeg).clamp(0, 1)


def _where(image: Tensor, chosen: Tensor, a: Attributes, change: Callable[[Tensor, Attributes], Tensor]) -> Tensor:
    index = chosen.nonzero()[:, 0]
    if not len(index):
        return image
    image = image.clone()
    image[index] = change(image[index], a.take(index))
    return image


def _blur(image: Tensor, a: Attributes) -> Tensor:
    size = image.shape[-1]
    sigma = (a.blur * size / 224)[:, None, None, None]
    weights = [torch.exp(-torch.square(k / sigma) / 2) for k in range(TAPS + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    for axis, pad in ((3, (TAPS, TAPS, 0, 0)), (2, (0, 0, TAPS, TAPS))):
        wide = torch.nn.functional.pad(image, pad, mode="replicate")
        image = wide.narrow(axis, TAPS, size) * (weights[0] / total)
        for k in range(1, TAPS + 1):
            both = wide.narrow(axis, TAPS - k, size) + wide.narrow(axis, TAPS + k, size)
            image += both * (weights[k] / total)
    return image


def _grain(image: Tensor, a: Attributes) -> Tensor:
    """Stronger in the dark, as after the camera's gamma."""
    strength = a.noise[:, None, None, None] * (1.35 - 0.7 * image)
    return image + strength * noise.grain(a.noise_seed, image.shape[-1])


def _cosines(like: Tensor) -> Tensor:
    k = torch.arange(8, device=like.device, dtype=like.dtype)
    basis = torch.cos((2 * k[None, :] + 1) * k[:, None] * torch.pi / 16) / 2
    basis[0] /= 2**0.5
    return basis


def _jpeg(image: Tensor, a: Attributes) -> Tensor:
    """Quantised 8 x 8 cosine blocks, without chroma subsampling."""
    n, _, size, _ = image.shape
    extra = -size % 8
    ycc = image.new_tensor(YCC)
    planes = torch.einsum("kc,ncij->nkij", ycc, image * 255) - image.new_tensor((128.0, 0, 0))[:, None, None]
    planes = torch.nn.functional.pad(planes, (0, extra, 0, extra), mode="replicate") if extra else planes
    side = (size + extra) // 8
    basis = torch.kron(_cosines(image), _cosines(image))  # (64, 64): both axes of a block at once
    blocks = planes.view(n, 3, side, 8, side, 8).permute(0, 1, 2, 4, 3, 5).reshape(n, 3, -1, 64)
    quality = a.jpeg_quality.clamp(5, 99)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)[:, None, None, None]
    table = (image.new_tensor((LUMA, CHROMA, CHROMA))[None] * scale).round().clamp_min(1).reshape(n, 3, 1, 64)
    blocks = ((blocks @ basis.t() / table).round() * table) @ basis
    planes = blocks.view(n, 3, side, side, 8, 8).permute(0, 1, 2, 4, 3, 5).reshape(n, 3, side * 8, side * 8)[:, :, :size, :size]
    planes = planes + image.new_tensor((128.0, 0, 0))[:, None, None]
    return (torch.einsum("ck,nkij->ncij", torch.linalg.inv(ycc), planes) / 255).contiguous()
