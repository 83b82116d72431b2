"""One directional light and an ambient one on surfaces given by normals.  Everything is linear light."""

from __future__ import annotations

import torch
from torch import Tensor

from mfs_deploy.demo.rendering.attributes import Attributes
from mfs_deploy.demo.rendering.head import Normal

SKIN_WRAP = (0.32, 0.17, 0.12)  # light that goes under the skin and comes out past the shadow's edge, mostly red
CLOTH_WRAP = (0.1, 0.1, 0.1)


def _half_way(a: Attributes) -> Tensor:
    """(N, 3) between the light and the viewer."""
    viewer = a.light_direction.new_tensor((0.0, 0.0, 1.0))
    return torch.nn.functional.normalize(a.light_direction + viewer, dim=1)


def _dot(normal: Normal, direction: Tensor) -> Tensor:
    """Of normals and (N, 3) directions: (N, S, S)."""
    d = direction.t()[:, :, None, None]
    return normal[0] * d[0] + normal[1] * d[1] + normal[2] * d[2]


def lit(
    albedo: Tensor, normal: Normal, a: Attributes, occlusion: Tensor | float = 1.0, wrap: tuple[float, float, float] = SKIN_WRAP
) -> Tensor:
    """(3, N, S, S) of diffuse light from (3, N, S, S) albedo."""
    facing = _dot(normal, a.light_direction)
    sky = (0.82 - 0.18 * normal[1]) * occlusion
    found = facing.new_empty((3, *facing.shape))
    for k in range(3):
        direct = ((facing + wrap[k]) * (1 / (1 + wrap[k]))).clamp_min(0)
        direct = direct * direct * 0.35 + direct * 0.65
        strength = a.light[:, k, None, None] * direct * occlusion + a.ambient[:, k, None, None] * sky
        torch.mul(albedo[k], strength, out=found[k])
    return found


def highlight(normal: Normal, a: Attributes, gloss: Tensor) -> Tensor:
    """(N, S, S) mirrored light, a broad sheen and a narrow spot."""
    facing = _dot(normal, _half_way(a)).clamp(0, 1)
    sheen = facing.square().square_().square_()
    return gloss * (0.10 * sheen + 0.30 * sheen.square().square_())


def strand_highlight(normal: Normal, a: Attributes) -> Tensor:
    """(N, S, S) light mirrored by strands that run down the surface."""
    half = _half_way(a)
    facing = _dot(normal, half)
    along = (half[:, 1, None, None] - normal[1] * facing) * torch.rsqrt((1 - normal[1] * normal[1]).clamp_min(0.05))
    across = (1 - along * along).clamp_min(0)
    return across.square().square_().square_().square_() * (facing * 0.5 + 0.5).clamp_min(0)
