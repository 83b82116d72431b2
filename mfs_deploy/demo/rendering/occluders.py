"""What may hide part of a face: glasses, a hand, a microphone, a strand of hair.  Only the scenes that have one are painted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mfs_deploy.demo.rendering import noise
from mfs_deploy.demo.rendering.attributes import OCCLUDERS, Attributes
from mfs_deploy.demo.rendering.canvas import edge, line, smooth
from mfs_deploy.demo.rendering.head import Grid, col, rotation
from mfs_deploy.demo.rendering.light import CLOTH_WRAP, highlight, lit
from mfs_deploy.demo.rendering.people import People


@dataclass(frozen=True)
class Occlusion:
    colour: Tensor  # (3, N, S, S) linear
    alpha: Tensor  # (N, S, S) opaque: out of the mask
    veil: Tensor  # (N, S, S) glass over the face: darkens it but leaves it in the mask
    glare: Tensor  # (N, S, S) light added by the glass


Piece = tuple[Tensor, Tensor, Tensor | None, Tensor | None]  # colour, alpha, veil, glare


def occlusion(head: People, a: Attributes, grid: Grid) -> Occlusion:
    empty = torch.zeros_like(grid.x)
    colour, alpha, veil, glare = empty.expand(3, -1, -1, -1).clone(), empty.clone(), empty.clone(), empty.clone()
    painters: dict[str, Callable[[People, Attributes, Grid], Piece]] = {
        "glasses": _glasses,
        "sunglasses": _glasses,
        "hand": _hand,
        "microphone": _microphone,
        "strand": _strand,
    }
    for name, painter in painters.items():
        chosen = (a.occluder == OCCLUDERS.index(name)).nonzero()[:, 0]
        if len(chosen):
            its_colour, its_alpha, its_veil, its_glare = painter(head.take(chosen), a.take(chosen), grid.take(chosen))
            colour[:, chosen], alpha[chosen] = its_colour, its_alpha
            if its_veil is not None and its_glare is not None:
                veil[chosen], glare[chosen] = its_veil, its_glare
    return Occlusion(colour, alpha, veil, glare)


def _lens(x: Tensor, y: Tensor, half_x: Tensor, half_y: Tensor, round_: Tensor) -> Tensor:
    """Signed distance into a rounded rectangle."""
    radius = torch.minimum(half_x, half_y) * round_
    dx, dy = (x.abs() - half_x + radius).clamp_min(0), (y.abs() - half_y + radius).clamp_min(0)
    outside = (dx * dx + dy * dy + 1e-9).sqrt()
    return radius - outside


def _glasses(head: People, a: Attributes, grid: Grid) -> Piece:
    turn, s = rotation(a), a.occluder_seed
    # the glasses' plane stands 0.96 before the head's centre: where rays meet it
    t = (0.96 - (col(turn[:, 0, 2]) * grid.x + col(turn[:, 1, 2]) * grid.y)) / col(turn[:, 2, 2])
    u = col(turn[:, 0, 0]) * grid.x + col(turn[:, 1, 0]) * grid.y + col(turn[:, 2, 0]) * t
    v = col(turn[:, 0, 1]) * grid.x + col(turn[:, 1, 1]) * grid.y + col(turn[:, 2, 1]) * t
    half_x, half_y = col(0.23 + 0.05 * s[:, 0]), col(0.14 + 0.08 * s[:, 1])
    thick = col(0.012 + 0.03 * s[:, 2])
    v = v - col(head.eye_y) - 0.03
    x = u.abs() - col(head.eye_x) - 0.01
    inside = _lens(x, v, half_x, half_y, col(0.35 + 0.65 * s[:, 3]))
    pixel = col(grid.pixel)
    frame = edge(thick - inside.abs(), pixel)
    gap = col(head.eye_x) + 0.01 - half_x
    bridge = edge(gap + thick - u.abs(), pixel) * edge(0.8 * thick - (v + 0.05 + 0.6 * (u * u - gap * gap)).abs(), pixel)
    dark = col((a.occluder == OCCLUDERS.index("sunglasses")).float())
    lens = edge(inside, pixel)
    arm = _arms(head, a, grid, turn, half_x, thick)
    alpha = torch.maximum(torch.maximum(frame, bridge), torch.maximum(arm, lens * dark))
    rim = 0.5 + 0.9 * line(inside - 0.3 * thick, 0.4 * thick)
    streak = smooth(torch.sin((u * 3 + v * 5) + col(s[:, 4] * 6)), 0.80, 0.97) * lens
    colour = a.occluder_colour.t()[:, :, None, None] * rim * (1 - 0.8 * dark * lens) + 0.12 * dark * streak
    return colour, alpha, lens * (1 - dark) * col(0.04 + 0.14 * s[:, 5]), streak * (1 - dark) * 0.13


def _arms(head: People, a: Attributes, grid: Grid, turn: Tensor, half_x: Tensor, thick: Tensor) -> Tensor:
    """The temples: from each hinge back to the ear, where that side is seen."""
    arms = torch.zeros_like(grid.x)
    for sign in (-1.0, 1.0):
        hinge_u = sign * (head.eye_x + 0.01 + half_x[:, 0, 0])
        hinge = torch.stack([hinge_u, head.eye_y, torch.full_like(hinge_u, 0.96)], 1)
        ear = torch.stack([sign * (head.head_width + 0.01), head.eye_y + 0.02, torch.zeros_like(hinge_u)], 1)
        p, q = ((turn @ point[:, :, None])[:, :2, 0] for point in (hinge, ear))
        dx, dy = q[:, 0] - p[:, 0], q[:, 1] - p[:, 1]
        along = ((grid.x - col(p[:, 0])) * col(dx) + (grid.y - col(p[:, 1])) * col(dy)) / col(dx * dx + dy * dy).clamp_min(1e-4)
        k = along.clamp(0, 1)
        distance = (torch.square(grid.x - col(p[:, 0]) - k * col(dx)) + torch.square(grid.y - col(p[:, 1]) - k * col(dy))).sqrt()
        seen = smooth(sign * dx, 0.0, 0.08)[:, None, None]
        arms = torch.maximum(arms, edge(thick * 0.9 - distance, col(grid.pixel)) * seen)
    return arms


def _capsule(grid: Grid, ax: Tensor, ay: Tensor, bx: Tensor, by: Tensor, radius: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Signed distance into a capsule, the unit offset across it (x, y), and the place along it."""
    dx, dy = bx - ax, by - ay
    along = ((grid.x - col(ax)) * col(dx) + (grid.y - col(ay)) * col(dy)) / col(dx * dx + dy * dy)
    k = along.clamp(0, 1)
    ox, oy = grid.x - col(ax) - k * col(dx), grid.y - col(ay) - k * col(dy)
    distance = (ox * ox + oy * oy + 1e-8).sqrt()
    return col(radius) - distance, (ox / col(radius)).clamp(-1, 1), (oy / col(radius)).clamp(-1, 1), along


def _hand(head: People, a: Attributes, grid: Grid) -> Piece:
    """Four fingers that come from below, on one side, over a cheek or the mouth."""
    s = a.occluder_seed
    side = torch.where(s[:, 0] < 0.5, -1.0, 1.0)
    root_x, root_y = side * (0.35 + 0.45 * s[:, 1]), 1.25 + 0.25 * s[:, 2]
    lean = side * (-0.35 + 0.5 * s[:, 3])
    colour = grid.x.new_zeros((3, *grid.x.shape))
    alpha = torch.zeros_like(grid.x)
    for k in range(4):
        ax = root_x + 0.145 * (k - 1.5)
        length = 0.75 + 0.25 * s[:, 4] - (0.13 if k in (0, 3) else 0.0)
        reach = lean + 0.05 * (k - 1.5)
        inside, ox, oy, along = _capsule(grid, ax, root_y, ax + reach * length, root_y - length, torch.full_like(ax, 0.082))
        round_ = (1 - (ox * ox + oy * oy)).clamp_min(0.02).sqrt()
        normal = (ox, oy, round_)
        knuckle = 1 - 0.22 * line(torch.sin(along * 9.4), 0.12)
        nail = smooth(along, 0.86, 0.9) * smooth(ox.abs(), 0.62, 0.5)
        tint = grid.x.new_tensor((1.0, 0.92, 0.9))[:, None, None, None]
        finger = lit(head.skin.t()[:, :, None, None] * tint * (1 + 0.18 * nail), normal, a, knuckle * (0.45 + 0.55 * round_))
        finger = finger + highlight(normal, a, 0.25 + nail)
        mine = edge(inside, col(grid.pixel))
        colour = torch.lerp(colour, finger, mine.expand(3, -1, -1, -1))
        alpha = torch.maximum(alpha, mine)
    inside, ox, oy, _ = _capsule(grid, root_x, root_y + 0.16, root_x + side * 0.2, root_y + 1.6, torch.full_like(root_x, 0.29))
    normal = (0.8 * ox, 0.8 * oy, (1 - 0.8 * (ox * ox + oy * oy)).clamp_min(0.1).sqrt())
    palm = edge(inside, col(grid.pixel)) * (1 - alpha)
    colour = torch.lerp(colour, lit(head.skin.t()[:, :, None, None] * 0.95 + 0 * ox, normal, a), palm.expand(3, -1, -1, -1))
    return colour, torch.maximum(alpha, palm), None, None


def _microphone(head: People, a: Attributes, grid: Grid) -> Piece:
    s = a.occluder_seed
    cx, cy = 0.75 * (s[:, 0] - 0.5), 0.72 + 0.35 * s[:, 1]
    radius = 0.17 + 0.06 * s[:, 2]
    inside, ox, oy, _ = _capsule(grid, cx, cy, cx + 1e-3, cy, radius)
    handle, hx, hy, _ = _capsule(grid, cx, cy, cx + (s[:, 3] - 0.5) * 1.2, cy + 1.6, radius * 0.55)
    ball, stick = edge(inside, col(grid.pixel)), edge(handle, col(grid.pixel))
    mesh = 0.55 + 0.45 * torch.sin((grid.x + grid.y) * 75) * torch.sin((grid.x - grid.y) * 75)
    round_ = (1 - (ox * ox + oy * oy)).clamp_min(0.01).sqrt()
    normal = (ox, oy, round_)
    tube = (hx, hy, (1 - (hx * hx + hy * hy)).clamp_min(0.01).sqrt())
    base = a.occluder_colour.t()[:, :, None, None]
    head_colour = lit((0.5 * base + 0.04) * mesh, normal, a, 1.0, CLOTH_WRAP) + highlight(normal, a, 0.9 * mesh)
    stick_colour = lit(base * 0.3 + 0.01 + 0 * hx, tube, a, 1.0, CLOTH_WRAP) + highlight(tube, a, torch.ones_like(hx))
    return torch.lerp(stick_colour, head_colour, ball.expand(3, -1, -1, -1)), torch.maximum(ball, stick), None, None


def _strand(head: People, a: Attributes, grid: Grid) -> Piece:
    """A lock of the head's own hair that falls over one eye and cheek."""
    s = a.occluder_seed
    side = torch.where(s[:, 0] < 0.5, -1.0, 1.0)
    along = (grid.y + 0.95) / col(1.2 + 0.7 * s[:, 1])
    middle = col(side) * (0.05 + col(0.25 + 0.3 * s[:, 2]) * along + 0.10 * torch.sin(along * col(3 + 3 * s[:, 3])))
    width = col(0.035 + 0.05 * s[:, 4]) * (1.15 - along).clamp_min(0)
    x = (grid.x - middle) / width.clamp_min(1e-3)
    fibre = noise.sample(noise.STRAND, x * 0.10 + col(s[:, 5]), grid.y * 0.05)
    alpha = smooth(1 - x.abs() + 0.45 * fibre, 0.0, 0.6) * smooth(along, 0.0, 0.06) * smooth(along, 1.1, 1.0)
    side_ = x.clamp(-1, 1)
    normal = (0.8 * side_, torch.zeros_like(x), (1 - 0.64 * side_ * side_).sqrt())
    tone = (0.9 + 0.45 * fibre).clamp(0.15, 2)
    colour = lit(head.hair.t()[:, :, None, None] * tone, normal, a, 1.0, CLOTH_WRAP)
    return colour + 0.10 * (highlight(normal, a, tone)), alpha, None, None
