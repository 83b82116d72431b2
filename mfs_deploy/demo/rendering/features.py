"""Eyes, brows, nose and mouth: paint on the few pixels each covers.  Both sides are painted at once, on |u|."""

from __future__ import annotations

import torch
from torch import Tensor

from mfs_deploy.demo.rendering import noise
from mfs_deploy.demo.rendering.attributes import Attributes
from mfs_deploy.demo.rendering.canvas import (
    Canvas,
    Spot,
    edge,
    line,
    smooth,
    spot,
)
from mfs_deploy.demo.rendering.head import JAW_DROP, bell, col
from mfs_deploy.demo.rendering.people import People


def _grey(x: Tensor, red: float = 1.0, green: float = 1.0, blue: float = 1.0) -> Tensor:
    return torch.stack([x * red, x * green, x * blue])


def eyes(canvas: Canvas, face: People, a: Attributes, pixel: Tensor) -> None:
    near = ((canvas.u.abs() - col(face.eye_x)).abs() < 0.31) & ((canvas.v - col(face.eye_y) + 0.04).abs() < 0.18)
    s = spot(canvas, near, pixel)
    width = s(face.eye_width)
    x = (s.side - s(face.eye_x)) / width  # -1 at the inner corner, 1 at the outer
    y = (s.v - s(face.eye_y)) / width + s(face.eye_tilt) * x
    fine = s.pixel / width
    arc = (1 - x * x).clamp_min(0)
    closure, smile = s(a.eye_closure), s(a.smile).clamp_min(0)
    height = s(face.eye_height) * (1 + 0.15 * s(a.brow_raise))
    low = (0.62 - 0.16 * smile) * height * arc.sqrt() * (0.45 + 0.55 * arc) * (1 + 0.2 * x)
    high = -height * 0.95 * arc.sqrt() * (0.75 + 0.25 * arc) * (1 - 0.22 * x)
    lid = torch.lerp(high, low * 0.9, closure)
    # skin round the eye: bags, make-up, the crease and the shade under the brow
    age = s(face.age)
    reach = bell(torch.square(x / 1.15))
    s.darken(1 - (0.2 + 0.35 * age) * line(y - low - 0.30 - 0.1 * age, 0.12) * reach)
    s.darken(1 - 0.28 * bell(torch.square((x + 1.15) / 0.5) + torch.square((y + 0.15) / 0.55)))
    crease = -height * (1.02 + 0.5 * s(face.eye_crease)) * arc.clamp_min(0.12).sqrt() * (1 - 0.2 * x)
    above = edge(lid - y, fine)
    powder = above * smooth(y, -1.3, -0.4) * reach * s(face.shadow_strength)
    s.paint(powder, s.colour(face.shadow))
    s.darken(1 - 0.55 * line(y - crease, 0.055) * reach * smooth(arc, 0.0, 0.3))
    # the eyeball, through the opening between the lids
    opening = edge(y - lid, fine) * edge(low - y, fine) * edge(1 - x.abs(), fine)
    _eyeball(s, face, a, x, y, lid, opening, fine)
    # wet rim below, lid edge and lashes above
    s.paint(0.55 * line(y - low, 0.05) * (arc > 0), s.colour(face.skin * face.skin.new_tensor((0.85, 0.5, 0.48))), 0.8)
    lashes = s(face.lashes)
    dark = _grey(torch.full_like(x, 0.012), 1.2)
    rim = line(y - lid + 0.02, (0.05 + 0.05 * lashes) * (1 + 0.35 * x)) * edge(1.08 - x.abs(), fine)
    s.paint((0.45 + 0.5 * lashes).clamp_max(0.97) * rim, dark, 0.1)
    strand = noise.sample(noise.STRAND, x * 0.17 + y * (0.04 + 0.05 * x) + 0.37 * s.sign, y * 0.02 + s(face.texture[:, 0]))
    length = (0.10 + 0.26 * lashes) * (0.55 + 0.45 * x)
    up = ((lid - y) / length).clamp_min(0)
    s.paint(smooth(strand, 0.0, 0.7) * (1 - up).clamp_min(0) * above * lashes.clamp_max(1) * smooth(x.abs(), 1.2, 1.0), dark, 0.1)
    down = ((y - low) / 0.14).clamp_min(0)
    s.paint(0.4 * lashes * smooth(strand, 0.3, 1.0) * (1 - down).clamp_min(0) * (y > low) * smooth(x.abs(), 1.0, 0.8), dark, 0.1)


def _eyeball(s: Spot, face: People, a: Attributes, x: Tensor, y: Tensor, lid: Tensor, opening: Tensor, fine: Tensor) -> None:
    gaze_x = 0.42 * s(a.gaze[:, 0]) * s.sign
    gaze_y = 0.24 * s(a.gaze[:, 1]) - 0.05
    dx, dy = x - gaze_x, y - gaze_y
    distance = (dx * dx + dy * dy).sqrt()
    radius = s(face.iris_size)
    white = _grey(torch.full_like(x, 0.70) - 0.20 * x * x, 1.0, 0.95, 0.93)
    white = white * (1 - _grey(0.25 * smooth(x.abs(), 0.5, 1.0), 0.0, 0.6, 0.7))
    angle = torch.atan2(dy, dx)
    fibre = noise.sample(noise.STRAND, angle / 6.2832 * 0.5 + s(face.texture[:, 1]), distance * 0.03)
    ring = distance / radius
    depth = (0.85 + 0.3 * fibre).clamp(0.3, 1.7) * (1.25 - 0.9 * smooth(ring, 0.72, 1.0)) * (1 + 0.9 * dy / radius)
    iris = s.colour(face.iris) * depth.clamp_min(0.15) * 1.25 + 0.10 * smooth(ring, 0.75, 0.4) * torch.tensor(
        [[0.55], [0.28], [0.08]], device=x.device
    )
    ball = torch.lerp(white, iris, edge(radius - distance, fine * 1.3).expand(3, -1))
    ball = ball * (1 - 0.97 * edge(radius * 0.43 - distance, fine * 1.3))
    ball = ball * (1 - 0.6 * torch.exp(-(y - lid).clamp_min(0) / 0.11))
    s.paint(opening, ball, 0.05)
    light = a.light_direction
    spark = bell((torch.square((dx * s.sign - 0.26 * s(light[:, 0]))) + torch.square(dy - 0.26 * s(light[:, 1]) + 0.02)) / 0.0065)
    s.shine(opening * (0.85 * spark + 0.04))


def brows(canvas: Canvas, face: People, a: Attributes, pixel: Tensor) -> None:
    near = (canvas.u.abs() - 0.32).abs().lt(0.34) & ((canvas.v - col(face.brow_y) + 0.03).abs() < 0.17)
    s = spot(canvas, near, pixel)
    length = s(face.brow_length)
    x = (s.side - s(face.eye_x) - 0.01) / length
    arch = s(face.brow_arch) * (1 - torch.square(x - 0.12)) - s(face.brow_tilt) * x
    centre = s(face.brow_y) + 0.03 - 0.085 * s(a.brow_raise) - arch
    thickness = s(face.brow_thickness) * (1 - 0.62 * smooth(x, 0.1, 1.1)) * (0.75 + 0.25 * smooth(x, -1.1, -0.6))
    y = (s.v - centre) / thickness
    strand = noise.sample(
        noise.STRAND, s.side * 0.30 + (s.v - centre) * (0.38 - 0.2 * x) + s(face.texture[:, 0]), s.v * 0.05 + s.sign
    )
    body = (1 - y * y) - smooth(x.abs(), 0.82, 1.08) * 1.4
    alpha = smooth(body + 0.35 * strand, 0.0, 0.85) * smooth(x.abs(), 1.15, 0.95)
    s.paint(alpha * (0.78 + 0.10 * strand.clamp(-1, 1)), s.colour(face.brow) * (1 + 0.25 * strand.clamp(-1, 2)), 0.15)


def nose(canvas: Canvas, face: People, a: Attributes, pixel: Tensor) -> None:
    tip = col(face.nose_y)
    s = spot(canvas, (canvas.u.abs() < 0.38) & (canvas.v > tip - 0.32) & (canvas.v < tip + 0.22), pixel)
    width, below = s(face.nose_width), s.v - s(face.nose_y)
    # nostrils, the crease round each wing, the shade below and beside
    hole = bell(torch.square((s.side - 0.062 * width) / (0.030 * width)) + torch.square((below - 0.062) / 0.018))
    wing_x, wing_y = (s.side - 0.105 * width) / (0.062 * width), (below - 0.015) / 0.066
    rim = (wing_x * wing_x + wing_y * wing_y).sqrt()
    crease = line(rim - 1, 0.17) * smooth(wing_x, 0.0, 0.5)
    floor = bell(torch.square(s.u / (0.13 * width)) + torch.square((below - 0.085) / 0.032))
    s.darken((1 - 0.9 * hole) * (1 - 0.45 * crease) * (1 - 0.35 * floor))
    # the shadow the nose casts away from the light
    light = a.light_direction
    cast_x = s.u + 0.17 * s(light[:, 0])
    cast_y = below - 0.05 + 0.12 * s(light[:, 1])
    strength = 0.5 * smooth(s(light[:, 0]).abs() + (-s(light[:, 1])).clamp_min(0), 0.1, 0.9)
    behind = smooth(-s.u * s(light[:, 0]) - 0.5 * below * s(light[:, 1]), 0.0, 0.045)
    s.darken(1 - strength * behind * bell(torch.square(cast_x / 0.13) + torch.square(cast_y / 0.13)))
    s.tint(1 - _grey(0.12 * bell(torch.square(s.u / 0.12) + torch.square(below / 0.08)), 0.0, 1.0, 0.9))


def _lip_lines(s: Spot, face: People, a: Attributes) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x along the mouth in [-1, 1], then v of: the upper lip's top, its lower edge, the lower lip's upper edge, its bottom."""
    smile, opened = s(a.smile), s(a.mouth_open)
    x = s.u / (s(face.mouth_width) * (1 + 0.13 * smile))
    arc = (1 - x * x).clamp_min(0)
    seam = s(face.mouth_y) - 0.055 * smile * x * x + 0.25 * JAW_DROP * opened
    gap = (opened * JAW_DROP + 0.012 * smile.clamp_min(0)) * arc.sqrt()
    bow = 1 - s(face.lip_bow) * bell(torch.square(x / 0.16)) - 0.12 * x.abs()
    top_edge, bottom_edge = seam - 0.55 * gap, seam + 0.75 * gap
    top = top_edge - s(face.lip_upper) * (1 - 0.25 * smile) * arc.pow(0.7) * bow
    bottom = bottom_edge + s(face.lip_lower) * (1 - 0.2 * smile) * arc.pow(0.6)
    return x, top, top_edge, bottom_edge, bottom


def mouth_spot(canvas: Canvas, face: People, pixel: Tensor) -> Spot:
    middle = col(face.mouth_y)
    return spot(canvas, (canvas.u.abs() < 0.46) & (canvas.v > middle - 0.17) & (canvas.v < middle + 0.32), pixel)


def mouth_relief(canvas: Canvas, face: People, a: Attributes, pixel: Tensor) -> None:
    s = mouth_spot(canvas, face, pixel)
    x, top, top_edge, bottom_edge, bottom = _lip_lines(s, face, a)
    within = smooth(x.abs(), 1.0, 0.8)
    upper = 1 - torch.square(2 * (s.v - top) / (top_edge - top + 1e-3).clamp_min(0.02) - 1)
    lower = 1 - torch.square(2 * (s.v - bottom_edge) / (bottom - bottom_edge + 1e-3).clamp_min(0.02) - 1)
    philtrum = line(s.u, 0.03) * smooth(s.v - s(face.nose_y), 0.09, 0.13) * smooth(top - s.v, 0.0, 0.03)
    cleft = s(face.chin_cleft) * line(s.u, 0.022) * smooth(s.v - s(face.mouth_y) - s(a.mouth_open) * JAW_DROP, 0.2, 0.26)
    s.raise_by(-0.012 * cleft)
    s.raise_by(within * (0.020 * upper.clamp_min(0) + 0.030 * lower.clamp_min(0)) - 0.009 * philtrum)


def mouth(canvas: Canvas, face: People, a: Attributes, pixel: Tensor) -> None:
    s = mouth_spot(canvas, face, pixel)
    x, top, top_edge, bottom_edge, bottom = _lip_lines(s, face, a)
    ends = edge((1.0 - x.abs()) * s(face.mouth_width), s.pixel)
    soft = s.pixel + 0.008
    grain = noise.sample(noise.STRAND, x * 0.16 + s(face.texture[:, 0]), s.v * 0.05)
    lips = edge(s.v - top, soft) * edge(bottom - s.v, soft) * ends
    colour = s.colour(face.lip) * (1 + 0.09 * grain) * (1 - 0.18 * edge(top_edge - s.v, soft))
    s.paint(lips * 0.93, colour, 0.55)
    # inside: dark, the tongue, the upper teeth and a little of the lower
    hole = edge(s.v - top_edge, s.pixel) * edge(bottom_edge - s.v, s.pixel) * ends
    deep = (s.v - top_edge) / (bottom_edge - top_edge).clamp_min(0.01)
    tongue = smooth(deep, 0.55, 0.9) * bell(torch.square(x / 0.55))
    inner = _grey(0.025 + 0.17 * tongue, 1.5, 0.45, 0.45)
    s.paint(hole, inner, 0.35)
    height = 0.062 - 0.02 * x * x
    gaps = 1 - 0.35 * line(torch.sin(s.u * 3.1416 / 0.058), 0.16) * smooth(s.u.abs(), 0.0, 0.01)
    teeth = hole * edge(top_edge + height - s.v, s.pixel) * smooth(x.abs(), 0.95, 0.75)
    shade = gaps * (1 - 0.55 * smooth(x.abs(), 0.2, 0.95)) * (0.75 + 0.25 * smooth(s.v - top_edge, 0.0, 0.02))
    s.paint(teeth, _grey(0.68 * shade, 1.0, 0.95, 0.86), 0.5)
    # the seam, the corners, the shade below
    s.darken(1 - 0.72 * line(s.v - top_edge, 0.013) * ends * (1 - 0.6 * hole) - 0.25 * line(s.v - bottom_edge, 0.01) * ends * hole)
    corner = torch.square((x.abs() - 1.02) * 0.28 / 0.035) + torch.square((s.v - top_edge) / 0.03)
    s.darken(1 - 0.45 * bell(corner))
    s.darken(1 - 0.22 * line(s.v - bottom - 0.045, 0.035) * smooth(x.abs(), 0.9, 0.3))
