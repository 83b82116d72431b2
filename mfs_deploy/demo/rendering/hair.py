"""Hair: a shell over the head with a hairline, and what hangs behind long-haired heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mfs_deploy.demo.rendering import noise
from mfs_deploy.demo.rendering.attributes import Attributes
from mfs_deploy.demo.rendering.canvas import edge, smooth
from mfs_deploy.demo.rendering.head import (
    Grid,
    Normal,
    ball_normal,
    bell,
    col,
    rays,
)
from mfs_deploy.demo.rendering.light import CLOTH_WRAP, lit, strand_highlight
from mfs_deploy.demo.rendering.people import People


@dataclass(frozen=True)
class Hair:
    front: Tensor  # (3, N, S, S) linear colour
    front_alpha: Tensor  # (N, S, S)
    back: Tensor
    back_alpha: Tensor
    shade: Tensor  # (N, S, S) light left to the skin beside the hairline


def _coloured(head: People, a: Attributes, strand: Tensor, normal: Normal) -> Tensor:
    tone = (0.85 + 0.42 * strand).clamp(0.12, 2.2)
    base = lit(head.hair.t()[:, :, None, None] * tone, normal, a, 1.0, CLOTH_WRAP)
    shine = strand_highlight(normal, a) * (0.5 + 0.6 * strand).clamp(0, 1.6)
    tint = (0.25 * head.hair + 0.05).t()[:, :, None, None] * a.light.t()[:, :, None, None]
    return base + tint * shine


def hair(head: People, a: Attributes, grid: Grid, turn: Tensor) -> Hair:
    path = rays(head, grid.x, grid.y, turn)
    length, curl = col(head.hair_length), col(head.curl)
    wave = noise.sample(noise.BLOTCH, grid.x * 0.35 + col(head.texture[:, 1]), grid.y * 0.35 + col(head.texture[:, 0]))
    volume = col(head.hair_volume) * smooth(path.near[1], 0.45, -0.25).maximum(0.7 * (length > 0)) + 0.02 * curl * wave
    radius = 1 + volume
    over = 1 / radius
    x, y, z = (p * over for p in path.hit(radius))
    inside = (radius - path.far.clamp_min(1e-6).sqrt()) * col(head.head_width)
    normal = ball_normal(head, turn, (x, y, z))
    across = (x - 0.5 * col(head.parting)) * (0.42 + 0.18 * z) + 0.09 * curl * wave + 0.04 * y * x
    strand = noise.sample(noise.STRAND, across + col(head.texture[:, 0]), y * 0.06 + z * 0.06 + 0.12 * curl * wave)
    # the hairline: lower at the temples, lower still where a fringe falls, ragged by the strands
    fall = bell(torch.square((x - 0.6 * col(head.parting)) / 0.62))
    line = col(head.hairline / head.head_height) + 0.30 * x * x + col(head.fringe) * fall + 0.025 * strand + 0.02 * wave
    sides = torch.minimum(x.abs() - 0.90 + 0.02 * strand, 0.06 + 3.0 * (length > 0.05) + 0.03 * strand - y)
    behind = torch.minimum(-0.25 - z, 0.5 + 3.0 * (length > 0.05) - y)
    grown = torch.maximum(torch.maximum(line - y, sides), behind)
    grown = grown - 0.07 * smooth(path.far, 0.99, 1.05)  # no loose ends beyond the head's edge
    soft = col(grid.pixel) + 0.012
    front_alpha = edge(grown, soft) * edge(inside + 0.012 * strand, soft) * col(head.hair_cover)
    shade = 1 - 0.42 * torch.exp(grown.clamp_max(0) * 14) * col(head.hair_cover)
    front = _coloured(head, a, strand - 1.1 * torch.exp(-(grown.clamp_min(0)) * 20), normal)
    back, back_alpha = torch.zeros_like(front), torch.zeros_like(front_alpha)
    long = (head.hair_length > 0.05).nonzero()[:, 0]
    if len(long):
        back[:, long], back_alpha[long] = _behind(head.take(long), a.take(long), grid.take(long), wave[long])
    return Hair(front, front_alpha, back, back_alpha, shade)


def _behind(head: People, a: Attributes, grid: Grid, wave: Tensor) -> tuple[Tensor, Tensor]:
    """What hangs behind the neck: down to the shoulders by the hair's length."""
    x = grid.x + col(0.22 * torch.sin(a.yaw))
    y = grid.y
    half = col(head.head_width + 0.8 * head.hair_volume) + 0.16 * col(head.hair_length) * smooth(y, -0.1, 1.0) + 0.03 * wave
    sway = 0.05 * wave * (0.3 + col(head.curl))
    strand = noise.sample(noise.STRAND, x * 0.36 + sway + col(head.texture[:, 1]), y * 0.05 + 0.12 * col(head.curl) * wave)
    end = 0.55 + 1.25 * col(head.hair_length) + 0.05 * strand
    soft = col(grid.pixel) + 0.012
    alpha = edge(half + 0.012 * strand - x.abs(), soft) * edge(end - y, soft) * edge(y + 0.15, soft)
    side = (x / half).clamp(-1, 1)
    normal = (side, torch.zeros_like(side), (1 - 0.95 * side * side).sqrt())
    return _coloured(head, a, strand, normal) * (0.35 + 0.5 * side * side), alpha
