"""What is round a head: background, neck, clothes, ears."""

from __future__ import annotations

import torch
from torch import Tensor

from mfs_deploy.demo.rendering import noise
from mfs_deploy.demo.rendering.attributes import Attributes
from mfs_deploy.demo.rendering.canvas import edge, line, smooth
from mfs_deploy.demo.rendering.head import Grid, bell, col
from mfs_deploy.demo.rendering.light import CLOTH_WRAP, lit
from mfs_deploy.demo.rendering.people import People


def _over(under: Tensor, colour: Tensor, alpha: Tensor) -> Tensor:
    return torch.lerp(under, colour, alpha.expand(3, -1, -1, -1))


def background(a: Attributes, grid: Grid) -> Tensor:
    """(3, N, S, S): a wall, a shelf or window of bars, foliage, or lights out of focus."""
    x, y, seed = grid.scene_x, grid.scene_y, a.background_seed
    first, second, third = (a.background[:, i].t()[:, :, None, None] for i in range(3))
    mottle = noise.sample(noise.BLOTCH, x * 0.28 + col(seed[:, 0]), y * 0.28 + col(seed[:, 1]))
    strength = col(torch.where(a.background_kind == 2, 0.30, 0.05))
    slope = (col(seed[:, 2]) - 0.5) * 1.6
    wall = torch.lerp(
        first, second, (0.5 + (y - 0.5) * 0.9 + (x - 0.5) * slope + strength * mottle).clamp(0, 1).expand(3, -1, -1, -1)
    )
    across = torch.where(col(seed[:, 3]) > 0.5, x, y)
    bars = smooth(torch.sin(across * (9 + 22 * col(seed[:, 0])) + col(seed[:, 1]) * 6), 0.55, 0.8)
    mix = bars * col((a.background_kind == 1) * 0.8)
    for k in range(3):
        cx, cy = (col((seed[:, k] * 7.3 + 0.37 * k) % 1), col((seed[:, k + 1] * 5.7 + 0.21 * k) % 1))
        disc = smooth((torch.square(x - cx) + torch.square(y - cy)).sqrt(), 0.10, 0.085)
        mix = torch.maximum(mix, disc * col((a.background_kind == 3) * 0.6))
    bright = col(0.35 + 0.5 * a.light[:, 1]) * (1 - 0.7 * (torch.square(x - 0.5) + torch.square(y - 0.5)))
    return torch.lerp(wall, third, mix.expand(3, -1, -1, -1)) * bright


def neck(under: Tensor, head: People, a: Attributes, grid: Grid) -> Tensor:
    x = grid.body_x - col(0.10 * torch.sin(a.yaw))
    y = grid.body_y
    half = col(head.neck_width) * (1 + 0.35 * torch.square((y - 1.0).clamp_min(0)))
    side = (x / half).clamp(-1, 1)
    cords = 0.12 * line(side.abs() - 0.45 + 0.3 * (y - 1.1), 0.12)
    normal = (0.95 * side, 0.25 + cords, (1 - 0.9 * side * side).sqrt())
    below = 1 - 0.68 * smooth(y, 1.42, 0.85)
    colour = lit(head.skin.t()[:, :, None, None] * (1 - cords), normal, a, below)
    alpha = edge(half - x.abs(), col(grid.pixel)) * edge(y - 0.2, col(grid.pixel))
    return _over(under, colour, alpha)


def clothes(under: Tensor, head: People, a: Attributes, grid: Grid) -> Tensor:
    x, y = grid.body_x, grid.body_y
    side = x.abs()
    top = 1.52 - 0.26 * smooth(side, 0.12, 0.52) + 0.30 * (side - 0.5).clamp_min(0)
    weave = noise.sample(noise.PORE, x * 0.5, y * 0.5 + col(head.texture[:, 0]))
    stripe = 1 - col(head.cloth_stripe) * smooth(torch.sin(y * 26 + x * col(head.texture[:, 1] * 8)), -0.1, 0.1)
    seam = 1 - 0.35 * line(y - top - 0.07, 0.012)
    normal = (0.6 * (x / 1.3).clamp(-1, 1), 0.1 * torch.sin(x * 9 + y * 3) - 0.35, torch.full_like(x, 0.75))
    colour = lit(head.cloth.t()[:, :, None, None] * (stripe * (0.93 + 0.06 * weave)), normal, a, seam, CLOTH_WRAP)
    return _over(under, colour, edge(y - top, col(grid.pixel)))


def body(under: Tensor, head: People, a: Attributes, grid: Grid) -> Tensor:
    """Neck and clothes, on the rows of the view that reach so low."""
    rows = (grid.body_y > 0.2).any(2).any(0).nonzero()
    if not len(rows):
        return under
    first = int(rows[0])
    low = grid.below(first)
    painted = under.clone()
    painted[:, :, first:] = clothes(neck(under[:, :, first:], head, a, low), head, a, low)
    return painted


def ears(head: People, a: Attributes, grid: Grid, turn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Colour (3, N, S, S) and alpha of both ears, and (N, S, S) how far in front of the head the nearer one of them lies."""
    on_left = grid.x < 0
    pair = [_ear_place(head, a, turn, sign) for sign in (-1.0, 1.0)]
    centre_x, centre_y, wide, front = (torch.where(on_left, col(one), col(other)) for one, other in zip(*pair, strict=True))
    sign = torch.where(on_left, -1.0, 1.0)
    x = (grid.x - centre_x) / wide * sign
    y = (grid.y - centre_y) / col(head.ear_size)
    x = x + 0.25 * y  # the ear leans back
    distance = (x * x + y * y * (1 + 0.25 * y.clamp(-1, 1))).clamp_min(1e-6).sqrt()
    alpha = edge((1 - distance) * wide, col(grid.pixel))
    fold = 1 - 0.5 * line(distance - 0.66, 0.12) * smooth(y, 0.7, 0.3) - 0.6 * bell((torch.square(x + 0.25) + y * y) / 0.12)
    normal = (sign * (0.35 + 0.5 * x), 0.3 * y, torch.full_like(x, 0.75))
    pink = head.skin * head.skin.new_tensor((1.0, 0.86, 0.84))
    return lit(pink.t()[:, :, None, None], normal, a, fold), alpha, front


def _ear_place(head: People, a: Attributes, turn: Tensor, sign: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre x, y, half width, and how far in front of the head's side, each (N,)."""
    centre = torch.stack([sign * head.head_width * 0.99, torch.full_like(a.yaw, 0.06), torch.full_like(a.yaw, -0.06)], 1)
    place = (turn @ centre[:, :, None])[:, :, 0]
    wide = head.ear_size * (0.30 + 0.28 * head.ear_out + 0.5 * (torch.sin(a.yaw) * -sign).clamp_min(0))
    return place[:, 0], place[:, 1], wide, smooth(place[:, 2], 0.08, 0.16)
