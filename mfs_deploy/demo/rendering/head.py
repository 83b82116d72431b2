"""The shape of a head: a ray for each pixel, where it meets the surface, and which way the surface faces there.

The head is an ellipsoid whose radius is changed by the direction from its centre: first the outline (jaw, cheeks), which
belongs to the head, then the features (nose, sockets, lips, chin), which belong to the face.  Projection is orthographic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mfs_deploy.demo.rendering.attributes import Attributes
from mfs_deploy.demo.rendering.people import People

DEPTH = 0.93  # half the head's length from front to back
JAW_DROP = 0.15  # how far an open mouth lowers the lower lip and the chin


def col(x: Tensor) -> Tensor:
    """(N,) to (N, 1, 1)."""
    return x[:, None, None]


@dataclass(frozen=True)
class Grid:
    """Coordinates of the view's pixel centres, each (N, S, S)."""

    scene_x: Tensor  # the frame is [0, 1] x [0, 1]
    scene_y: Tensor
    body_x: Tensor  # head units, upright, from the head's centre
    body_y: Tensor
    x: Tensor  # head units, rolled with the head
    y: Tensor
    to_head: Tensor  # (N, 2, 2) d(x, y) / d(pixel column, row)
    pixel: Tensor  # (N,) size of a pixel in head units

    def take(self, scenes: Tensor) -> Grid:
        return self._map(lambda x: x[scenes])

    def below(self, row: int) -> Grid:
        """The rows of the view from ``row`` on."""
        return self._map(lambda x: x[:, row:] if x.dim() == 3 and x.shape[1:] != (2, 2) else x)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Grid:
        return Grid(**{f.name: change(getattr(self, f.name)) for f in fields(self)})


@dataclass(frozen=True)
class Surface:
    """Where rays meet the head, each (N, S, S)."""

    u: Tensor  # head coordinates of the hit: right, down
    v: Tensor
    ball: tuple[Tensor, Tensor, Tensor]  # the hit in the ellipsoid's unit coordinates
    inside: Tensor  # signed distance into the silhouette, about head units
    coverage: Tensor  # of the pixel by the head, [0, 1]


def roll_matrix(a: Attributes) -> Tensor:
    """(N, 2, 2) upright to rolled coordinates."""
    c, s = torch.cos(a.roll), torch.sin(a.roll)
    return torch.stack([torch.stack([c, s], 1), torch.stack([-s, c], 1)], 1)


def rotation(a: Attributes) -> Tensor:
    """(N, 3, 3) head to view, without the roll."""
    cy, sy, cp, sp = torch.cos(a.yaw), torch.sin(a.yaw), torch.cos(a.pitch), torch.sin(a.pitch)
    zero = torch.zeros_like(cy)
    yaw = torch.stack([cy, zero, sy, zero, zero + 1, zero, -sy, zero, cy], 1).view(-1, 3, 3)
    pitch = torch.stack([zero + 1, zero, zero, zero, cp, sp, zero, -sp, cp], 1).view(-1, 3, 3)
    return pitch @ yaw


def radii(head: People) -> Tensor:
    """(N, 3)."""
    return torch.stack([head.head_width, head.head_height, torch.full_like(head.head_width, DEPTH)], 1)


def grid(a: Attributes, view: Tensor, size: int) -> Grid:
    """Pixel centres of the view (N, 2, 3), which takes pixels (centres at integers) to the scene."""
    line = torch.arange(size, dtype=torch.float32, device=view.device)
    column, row = line[None, None, :], line[None, :, None]
    m = view.view(-1, 6, 1, 1)
    scene_x = m[:, 0] * column + m[:, 1] * row + m[:, 2]
    scene_y = m[:, 3] * column + m[:, 4] * row + m[:, 5]
    per = col(1 / a.scale)
    body_x, body_y = (scene_x - col(a.place[:, 0])) * per, (scene_y - col(a.place[:, 1])) * per
    roll = roll_matrix(a)
    x = col(roll[:, 0, 0]) * body_x + col(roll[:, 0, 1]) * body_y
    y = col(roll[:, 1, 0]) * body_x + col(roll[:, 1, 1]) * body_y
    to_head = roll @ view[:, :, :2] / a.scale[:, None, None]
    return Grid(scene_x, scene_y, body_x, body_y, x, y, to_head, torch.linalg.det(to_head).abs().sqrt())


def outline(head: People, a: Attributes, bx: Tensor, by: Tensor) -> Tensor:
    """Relative radius of head and jaw where the unit direction is (bx, by)."""
    low = (by - 0.05).clamp_min(0)
    side = bx * bx
    width = col(head.cheek_fullness) * 2 * (1.05 - low) - col(head.jaw_taper)
    return 1 + low * (side * width + low * col(0.5 * JAW_DROP * a.mouth_open))


def bell(squared: Tensor) -> Tensor:
    """Nearly exp(-squared), exactly 0 from 4 on, and several times as fast."""
    t = torch.add(squared.new_ones(()), squared, alpha=-0.25).clamp_min_(0)
    t *= t
    t *= t
    return t


def _bump(x: Tensor, y: Tensor, width: float | Tensor, height: float | Tensor) -> Tensor:
    p, q = x / width, y / height
    p *= p
    q *= q
    return bell(p.add_(q))


def features(face: People, a: Attributes, u: Tensor, v: Tensor) -> Tensor:
    """Height of the face's features over the outline at head coordinates (u, v), relative to the radius."""
    side = u.abs()
    eye_x, eye_y = col(face.eye_x), col(face.eye_y)
    nose_y, mouth_y = col(face.nose_y), col(face.mouth_y)
    smile, drop = col(a.smile), col(a.mouth_open * JAW_DROP)
    width = col(face.nose_width)
    along = ((v - eye_y) / (nose_y - eye_y)).clamp(0, 1)
    ridge = col(face.nose_bridge) * torch.sigmoid((v - eye_y + 0.03) * 25) + (1 - col(face.nose_bridge)) * along * along
    ridge = ridge * torch.sigmoid((nose_y + 0.075 - v) * 42)
    nose = col(face.nose_out) * ridge * bell(torch.square(u / (width * (0.085 + 0.045 * along))))
    wings = 0.085 * _bump(side - 0.115 * width, v - nose_y - 0.015, 0.048 * width, 0.055)
    tip = 0.045 * col(face.nose_tip) * _bump(u, v - nose_y, 0.085, 0.07)
    eye_u, eye_v = side - eye_x, v - eye_y
    socket = -0.085 * _bump(eye_u + 0.02, eye_v + 0.03, 0.19, 0.115) + 0.045 * _bump(eye_u, eye_v, 0.13, 0.075)
    brow = 0.03 * col(face.brow_ridge) * _bump(side - 0.24, v - col(face.brow_y) - 0.02, 0.24, 0.085)
    cheek = (0.035 * col(face.cheekbone) + 0.035 * smile) * _bump(side - 0.41 - 0.03 * smile, v - 0.17 + 0.04 * smile, 0.16, 0.15)
    muzzle = 0.045 * _bump(u, v - mouth_y, 0.27, 0.19)
    chin = col(face.chin_out) * _bump(u, v - 0.90 - drop, 0.21, 0.12) - 0.03 * _bump(u, v - mouth_y - 0.165 - drop, 0.17, 0.045)
    return nose + wings + tip + socket + brow + cheek + muzzle + chin


def _half(x: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(x[:, None], scale_factor=0.5, mode="bilinear", align_corners=False)[:, 0]


def _double(x: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.nn.functional.interpolate(x[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


@dataclass(frozen=True)
class Rays:
    """Rays in the unit-ball coordinates of a head: for each the point nearest to the centre, and the way to the viewer."""

    near: tuple[Tensor, Tensor, Tensor]  # each (N, S, S)
    far: Tensor  # (N, S, S) squared distance of ``near``
    way: Tensor  # (N, 3)
    squared: Tensor  # (N,) of ``way``

    def hit(self, radius: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where the rays meet a ball of this radius; ``near`` where they miss it."""
        t = ((radius * radius - self.far).clamp_min(0) / col(self.squared)).sqrt()
        x, y, z = (self.near[i] + col(self.way[:, i]) * t for i in range(3))
        return x, y, z


def rays(head: People, x: Tensor, y: Tensor, turn: Tensor) -> Rays:
    """Rays through (x, y) of the view; ``turn`` (N, 3, 3) takes head to view coordinates."""
    q = turn.transpose(1, 2) / radii(head)[:, :, None]  # columns: the view's x, y, z in unit-ball coordinates
    way = q[:, :, 2]
    squared = (way * way).sum(1)
    flat = q[:, :, :2] - way[:, :, None] * (q[:, :, :2] * way[:, :, None]).sum(1, keepdim=True) / squared[:, None, None]
    near_x, near_y, near_z = (col(flat[:, i, 0]) * x + col(flat[:, i, 1]) * y for i in range(3))
    return Rays((near_x, near_y, near_z), near_x * near_x + near_y * near_y + near_z * near_z, way, squared)


def meet(head: People, face: People, a: Attributes, x: Tensor, y: Tensor, pixel: Tensor, turn: Tensor, steps: int = 4) -> Surface:
    """Where rays meet the head: ``steps`` corrections of the radius, at half resolution where x is an image."""
    r = radii(head)
    image = x.shape[-2] > 1 and x.shape[-1] % 2 == 0
    full = rays(head, x, y, turn)
    coarse = rays(head, _half(x), _half(y), turn) if image else full
    radius = torch.ones_like(coarse.far)
    for step in range(steps):
        bx, by, _ = coarse.hit(radius)
        found = outline(head, a, bx, by) + features(face, a, bx * col(r[:, 0]), by * col(r[:, 1]))
        radius = torch.lerp(radius, found, 1.0 if step < 2 else 0.6)
    if image:
        radius = _double(radius, (x.shape[-2], x.shape[-1]))
    ball = full.hit(radius)
    # the silhouette is the head's alone: it does not move when the face is another's
    inside = (outline(head, a, full.near[0], full.near[1]) - full.far.clamp_min(1e-6).sqrt()) * col(r[:, 0])
    coverage = (inside / col(pixel) + 0.5).clamp(0, 1)
    return Surface(ball[0] * col(r[:, 0]), ball[1] * col(r[:, 1]), ball, inside, coverage)


Normal = tuple[Tensor, Tensor, Tensor]  # x, y, z in view coordinates, each (N, S, S)


def ball_normal(head: People, turn: Tensor, ball: tuple[Tensor, Tensor, Tensor]) -> Normal:
    """Unit normals of the ellipsoid at a hit in unit-ball coordinates."""
    m = turn / radii(head)[:, None, :]
    x, y, z = (col(m[:, i, 0]) * ball[0] + col(m[:, i, 1]) * ball[1] + col(m[:, i, 2]) * ball[2] for i in range(3))
    return _unit(x, y, z)


def _unit(x: Tensor, y: Tensor, z: Tensor) -> Normal:
    scale = (x * x + y * y + z * z).clamp_min_(1e-6).rsqrt_()
    return x * scale, y * scale, z * scale


def normals(surface: Surface, relief: Tensor, head: People, turn: Tensor, grid: Grid) -> Normal:
    """Unit normals: the ellipsoid's, bent by the slope of ``relief`` (head units) in the view."""
    x, y, z = ball_normal(head, turn, surface.ball)
    padded = torch.nn.functional.pad(relief[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) * 0.5
    down = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) * 0.5
    inverse = torch.linalg.inv(grid.to_head)
    x = x - col(inverse[:, 0, 0]) * across - col(inverse[:, 1, 0]) * down
    y = y - col(inverse[:, 0, 1]) * across - col(inverse[:, 1, 1]) * down
    return _unit(x, y, z)


def landmarks(head: People, face: People, a: Attributes) -> Tensor:
    """(N, 5, 2) in the scene: eye centres, nose tip, mouth corners, image left first, of the face on the head."""
    ex, ey, mw = face.eye_x, face.eye_y, face.mouth_width * (1 + 0.13 * a.smile)
    corner = face.mouth_y - 0.055 * a.smile + 0.25 * JAW_DROP * a.mouth_open
    zero = torch.zeros_like(ex)
    u = torch.stack([-ex, ex, zero, -mw, mw], 1)
    v = torch.stack([ey, ey, face.nose_y, corner, corner], 1)
    straight = torch.eye(3, device=u.device).expand(len(a), 3, 3)
    surface = meet(head, face, a, u[:, None], v[:, None], torch.ones_like(ex), straight, steps=8)
    points = (torch.stack(surface.ball, 3)[:, 0] * radii(head)[:, None, :]) @ rotation(a).transpose(1, 2)
    upright = points[:, :, :2] @ roll_matrix(a)  # row vectors times the matrix: the inverse roll
    return upright * a.scale[:, None, None] + a.place[:, None, :]
