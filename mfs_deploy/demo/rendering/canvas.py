"""What is painted on a head before it is lit, and painting on the few pixels that a feature covers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mfs_deploy.demo.rendering.head import bell


@dataclass(frozen=True)
class Canvas:
    """Buffers of one layer, painted in place.  ``relief`` is read for normals before ``albedo`` is painted."""

    needed: Tensor  # (N, S, S) bool: pixels worth painting
    u: Tensor  # (N, S, S) head coordinates
    v: Tensor
    relief: Tensor  # (N, S, S) height in head units
    albedo: Tensor  # (3, N, S, S) linear
    gloss: Tensor  # (N, S, S) strength of the highlight
    occlusion: Tensor  # (N, S, S) share of light that arrives
    glow: Tensor  # (N, S, S) white added after lighting: catchlights


@dataclass(frozen=True)
class Spot:
    """Some pixels of a canvas: flat indices, and the scene of each."""

    canvas: Canvas
    index: Tensor  # (M,)
    scene: Tensor  # (M,)
    u: Tensor
    v: Tensor
    side: Tensor  # |u|
    sign: Tensor  # of u
    pixel: Tensor  # size of a pixel in head units

    def __call__(self, parameter: Tensor) -> Tensor:
        """(N,) to (M,)."""
        return parameter.index_select(0, self.scene)

    def colour(self, parameter: Tensor) -> Tensor:
        """(N, 3) to (3, M)."""
        return parameter.t().contiguous().index_select(1, self.scene)

    def _scale(self, buffer: Tensor, factor: Tensor) -> None:
        flat = buffer.view(-1)
        flat.index_copy_(0, self.index, flat.index_select(0, self.index) * factor)

    def _add(self, buffer: Tensor, amount: Tensor) -> None:
        flat = buffer.view(-1)
        flat.index_copy_(0, self.index, flat.index_select(0, self.index) + amount)

    def raise_by(self, height: Tensor) -> None:
        self._add(self.canvas.relief, height)

    def darken(self, factor: Tensor) -> None:
        self._scale(self.canvas.occlusion, factor)

    def shine(self, amount: Tensor) -> None:
        self._add(self.canvas.glow, amount)

    def tint(self, factor: Tensor) -> None:
        """Multiply the albedo by (3, M)."""
        for plane, its in zip(self.canvas.albedo, factor, strict=True):
            self._scale(plane, its)

    def paint(self, alpha: Tensor, colour: Tensor, gloss: float | Tensor | None = None) -> None:
        """Lay (3, M) over the albedo; ``gloss`` replaces the skin's where given."""
        for plane, its in zip(self.canvas.albedo, colour, strict=True):
            flat = plane.view(-1)
            flat.index_copy_(0, self.index, torch.lerp(flat.index_select(0, self.index), its, alpha))
        if gloss is not None:
            flat = self.canvas.gloss.view(-1)
            flat.index_copy_(0, self.index, flat.index_select(0, self.index) * (1 - alpha) + alpha * gloss)


def spot(canvas: Canvas, where: Tensor, pixel: Tensor) -> Spot:
    """The pixels where ``where`` (N, S, S) holds; ``pixel`` (N,)."""
    index = (where & canvas.needed).reshape(-1).nonzero()[:, 0]
    scene = index // (where.shape[1] * where.shape[2])
    u, v = canvas.u.reshape(-1).index_select(0, index), canvas.v.reshape(-1).index_select(0, index)
    return Spot(canvas, index, scene, u, v, u.abs(), torch.where(u < 0, -1.0, 1.0), pixel.index_select(0, scene))


def edge(distance: Tensor, pixel: Tensor) -> Tensor:
    """1 where the signed distance is positive, 0 where it is negative, a ramp one pixel wide between."""
    return (distance / pixel + 0.5).clamp(0, 1)


def line(distance: Tensor, width: float | Tensor) -> Tensor:
    """1 on a line, falling off as a Gaussian of ``width``."""
    return bell(torch.square(distance / width))


def smooth(x: Tensor, low: float, high: float) -> Tensor:
    """0 below ``low``, 1 above ``high``, smooth between; ``low`` may be the greater."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)
