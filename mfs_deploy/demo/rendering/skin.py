"""Skin: relief of wrinkles and pores, its colour, marks, beard."""

from __future__ import annotations

import torch
from torch import Tensor

from mfs_deploy.demo.rendering import noise
from mfs_deploy.demo.rendering.attributes import Attributes
from mfs_deploy.demo.rendering.canvas import (
    Canvas,
    edge,
    line,
    smooth,
    spot,
)
from mfs_deploy.demo.rendering.head import bell, col
from mfs_deploy.demo.rendering.people import MOLES, People


def wrinkles(canvas: Canvas, face: People, a: Attributes, pixel: Tensor) -> None:
    """Forehead lines, crow's feet and the folds beside the mouth, cut into the relief."""
    u, v = canvas.u, canvas.v
    s = spot(canvas, (v > -0.86) & (v < -0.36) & (u.abs() < 0.52), pixel)
    warp = 0.02 * noise.sample(noise.BLOTCH, s.u * 0.25 + s(face.texture[:, 0]), s.v * 0.4 + s(face.texture[:, 1]))
    strength = (s(face.age) - 0.25).clamp_min(0) * 0.8 + 0.55 * s(a.brow_raise).clamp_min(0) * (0.3 + s(face.age))
    lines = line(torch.sin((s.v + warp - 0.05 * torch.square(s.u)) * 34), 0.35)
    fade = smooth(s.u.abs(), 0.5, 0.25) * smooth(s.v, -0.82, -0.7) * smooth(s.v, -0.38, -0.46)
    s.raise_by(-0.010 * strength * lines * fade)

    s = spot(canvas, (u.abs() > 0.42) & (u.abs() < 0.72) & ((v - col(face.eye_y)).abs() < 0.18), pixel)
    out, down = s.side - s(face.eye_x) - s(face.eye_width), s.v - s(face.eye_y)
    strength = (s(face.age) - 0.3).clamp_min(0) + 0.45 * s(a.smile).clamp_min(0) * (0.2 + s(face.age))
    feet = line(torch.sin(torch.atan2(down, out + 0.08) * 9), 0.4) * smooth(out, 0.0, 0.06) * smooth(out, 0.19, 0.08)
    s.raise_by(-0.006 * strength * feet)

    s = spot(canvas, (u.abs() < 0.5) & (v > col(face.nose_y) - 0.1) & (v < col(face.mouth_y) + 0.2), pixel)
    width = 0.13 * s(face.nose_width)
    along = ((s.v - s(face.nose_y)) / (s(face.mouth_y) - s(face.nose_y))).clamp(-0.3, 1.5)
    path = width + (s(face.mouth_width) + 0.06 + 0.03 * s(a.smile) - width) * along.clamp_min(0).pow(0.75)
    strength = 0.10 + 0.75 * s(face.age) + 0.75 * s(a.smile).clamp_min(0)
    fold = line(s.side - path, 0.028) * smooth(along, -0.15, 0.1) * smooth(along, 1.15, 0.7)
    s.raise_by(-0.017 * strength * fold + 0.006 * strength * line(s.side - path - 0.06, 0.05) * smooth(along, 1.2, 0.7))
    s.darken(1 - 0.22 * strength.clamp_max(1.3) * fold)


def complexion(canvas: Canvas, face: People, tone_of: Tensor) -> None:
    """Tone, blotches, pores and blush, over the whole head; ``tone_of`` (3, N, S, S) or (3, N, 1, 1) is the bare skin."""
    u, v = canvas.u, canvas.v
    at_x, at_y = col(face.texture[:, 0]), col(face.texture[:, 1])
    blotch = noise.sample(noise.BLOTCH, u * 0.3 + at_x, v * 0.3 + at_y)
    pore = noise.sample(noise.PORE, u * 0.4 + at_y, v * 0.4 + at_x)
    canvas.relief.add_(pore * 0.00055)
    side = u.abs()
    cheeks = bell(torch.square((side - 0.42) / 0.2) + torch.square((v - 0.24) / 0.19))
    red = 0.05 * blotch + col(0.28 * face.blush) * cheeks
    tone = 1 + 0.035 * blotch + 0.022 * pore * (0.5 + col(face.age))
    canvas.albedo[0] = tone_of[0] * (tone + 0.25 * red)
    canvas.albedo[1] = tone_of[1] * (tone - red)
    canvas.albedo[2] = tone_of[2] * (tone - 0.85 * red)
    canvas.gloss.copy_(col(face.oil) * (0.30 + 0.03 * pore))


def marks(canvas: Canvas, face: People, pixel: Tensor) -> None:
    """Freckles, moles and scars."""
    u, v = canvas.u, canvas.v
    s = spot(canvas, (col(face.freckles) > 0) & (v > -0.55) & (v < 0.6) & (u.abs() < 0.68), pixel)
    dots = noise.sample(noise.SPOT, s.u * 0.62 + s(face.texture[:, 0]), s.v * 0.62 + s(face.texture[:, 1]))
    where = bell(torch.square(s.u / 0.45) + torch.square((s.v - 0.12) / 0.26))
    strength = s(face.freckles) * smooth(dots, 0.55, 1.3) * (0.2 + 0.8 * where)
    s.tint(1 - strength * strength.new_tensor([[0.22], [0.42], [0.52]]))
    _moles(canvas, face, pixel)
    x, y = col(face.scar[:, 0]), col(face.scar[:, 1])
    s = spot(canvas, (col(face.scar[:, 4]) > 0) & ((u - x).abs() < 0.2) & ((v - y).abs() < 0.2), pixel)
    c, n = torch.cos(s(face.scar[:, 2])), torch.sin(s(face.scar[:, 2]))
    dx, dy = s.u - s(face.scar[:, 0]), s.v - s(face.scar[:, 1])
    along, across = (dx * c + dy * n) / s(face.scar[:, 3]), dy * c - dx * n + 0.15 * torch.square(dx * c + dy * n)
    alpha = line(across, 0.011) * smooth(along.abs(), 1.0, 0.6) * s(face.scar[:, 4])
    s.paint(0.75 * alpha, s.colour(face.skin * face.skin.new_tensor((1.2, 0.95, 0.92))).clamp_max(1), 0.9)


def _moles(canvas: Canvas, face: People, pixel: Tensor) -> None:
    """All moles at once: each pixel takes the one it lies deepest in."""
    depth, dark = torch.full_like(canvas.u, -1.0), torch.zeros_like(canvas.u)
    for k in range(MOLES):
        x, y, radius, strength = (col(face.moles[:, k, i]) for i in range(4))
        inside = radius * (strength > 0) - (torch.square(canvas.u - x) + torch.square(canvas.v - y)).sqrt()
        dark = torch.where(inside > depth, strength, dark)
        depth = torch.maximum(depth, inside)
    s = spot(canvas, depth > -0.02, pixel)
    alpha = edge(depth.view(-1).index_select(0, s.index), s.pixel + 0.008) * dark.view(-1).index_select(0, s.index)
    s.paint(alpha, s.colour(face.skin * face.skin.new_tensor((0.22, 0.14, 0.11))))


def beard(canvas: Canvas, face: People, a: Attributes, pixel: Tensor) -> None:
    """Stubble, moustache and beard on the lower face, of strands that run down."""
    some = col(torch.maximum(torch.maximum(face.beard, face.moustache), face.stubble)) > 0
    s = spot(canvas, some & (canvas.v > 0.02), pixel)
    middle, drop = s(face.mouth_y), s(a.mouth_open) * 0.12
    wave = noise.sample(noise.BLOTCH, s.u * 0.9 + s(face.texture[:, 0]), s.v * 0.9)
    ragged = 0.03 * wave
    border = middle - 0.02 - 0.62 * (s.side - 0.40).clamp_min(0) / 0.3 + 0.45 * (0.34 - s.side).clamp_min(0)
    jaw = smooth(s.v + ragged - border, -0.05, 0.10)
    under_nose = s(face.nose_y) + 0.105
    wide = s(face.mouth_width) * 1.18
    lip = (
        smooth(s.v - under_nose + ragged, -0.01, 0.04) * smooth(s.v - middle - 0.16, 0.0, -0.12) * smooth(s.side / wide, 1.12, 0.9)
    )
    patch = bell(torch.square(s.u / 0.05) + torch.square((s.v - middle - 0.15 - drop) / 0.06))
    bare = bell(torch.square(s.u / (0.9 * wide)) * 2.5) * smooth(s.v - middle - 0.19 - drop, 0.02, -0.02)
    jaw = jaw * (1 - bare)
    strand = noise.sample(noise.STRAND, s.u * 0.34 + 0.05 * wave + s(face.texture[:, 1]), s.v * 0.09 + 0.03 * wave)
    dots = noise.sample(noise.PORE, s.u * 0.55, s.v * 0.55 + s(face.texture[:, 0]))
    zone = torch.maximum(jaw, lip)
    s.tint(1 - s(face.stubble) * zone * (0.22 + 0.16 * smooth(dots, 0.0, 1.2)) * strand.new_tensor([[1.0], [0.9], [0.75]]))
    hair = torch.maximum(s(face.beard) * torch.maximum(jaw, 0.8 * patch), s(face.moustache) * lip)
    alpha = smooth(hair * (1.3 + 0.22 * strand), 0.15, 1.05)
    s.paint(alpha * 0.94, s.colour(face.beard_colour) * (1.15 + 0.5 * strand).clamp_min(0.25), 0.3)
    s.raise_by(0.012 * alpha)
