"""How a scene was taken: pose, expression, light, surroundings, camera, sampled by seed and independent of who is in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mfs_deploy.demo.rendering.parameters import Batch, Draw

STREAM = 2
OCCLUDERS = ("none", "glasses", "sunglasses", "hand", "microphone", "strand")
OCCLUDER_WEIGHTS = (5.0, 2.0, 0.4, 1.0, 0.7, 0.9)


@dataclass(frozen=True)
class Attributes(Batch):
    """N scenes.  Angles in radians; (N,) unless said otherwise; colours linear light, (N, 3)."""

    yaw: Tensor  # positive turns the face to image right
    pitch: Tensor  # positive looks down
    roll: Tensor
    place: Tensor  # (N, 2) the head's centre in the frame, which is [0, 1] x [0, 1]
    scale: Tensor  # frame widths per head unit
    mouth_open: Tensor  # 0 to 1, as the next four
    smile: Tensor  # -0.4 to 1
    brow_raise: Tensor  # -0.4 to 1
    eye_closure: Tensor
    gaze: Tensor  # (N, 2) right, down, each in [-1, 1]
    light_direction: Tensor  # (N, 3) unit, towards the light: x right, y down, z to the viewer
    light: Tensor  # (N, 3)
    ambient: Tensor  # (N, 3)
    background: Tensor  # (N, 3, 3): three colours
    background_seed: Tensor  # (N, 4) in [0, 1]
    background_kind: Tensor  # (N,) long
    occluder: Tensor  # (N,) long, an index into OCCLUDERS
    occluder_seed: Tensor  # (N, 6) in [0, 1]
    occluder_colour: Tensor  # (N, 3)
    exposure: Tensor
    white_balance: Tensor  # (N, 3)
    blur: Tensor  # standard deviation in pixels of a 224 view
    noise: Tensor  # standard deviation at mid grey
    noise_seed: Tensor  # (N,) long
    jpeg_quality: Tensor  # 20 to 100; 100 is no JPEG


def _muted(colour: Tensor) -> Tensor:
    """Less saturated: walls and foliage are seldom pure colours."""
    return torch.lerp(colour, colour.mean(1, keepdim=True).expand_as(colour), 0.55)


def sample_attributes(n: int, seed: int) -> Attributes:
    """N scenes, independent of any person.  Scene i of a seed is the same for every n."""
    d = Draw(n, seed, STREAM)
    azimuth, elevation = d.normal(0.0, 0.75), d.uniform(-0.15, 1.0)
    direction = torch.stack(
        [
            torch.sin(azimuth) * torch.cos(elevation),
            -torch.sin(elevation),
            torch.cos(azimuth).clamp_min(0.15) * torch.cos(elevation),
        ],
        1,
    )
    warmth = d.normal(0.0, 0.11)
    tint = torch.stack([1 + warmth, torch.ones(n), 1 - warmth], 1)
    base = _muted(d.colour(0.08, 0.9))
    speaking = d.chance(0.45)
    return Attributes(
        yaw=d.normal(0.0, 0.24),
        pitch=d.normal(0.02, 0.13),
        roll=d.normal(0.0, 0.12),
        place=torch.stack([d.uniform(0.44, 0.56), d.uniform(0.42, 0.52)], 1),
        scale=d.uniform(0.22, 0.31),
        mouth_open=speaking * d.uniform(0.1, 1.0),
        smile=d.uniform(-0.3, 1.0),
        brow_raise=d.normal(0.1, 0.3).clamp(-0.4, 1.0),
        eye_closure=torch.where(d.uniform() < 0.06, torch.ones(n), (d.uniform() - 0.55).clamp_min(0)),
        gaze=torch.stack([d.normal(0.0, 0.4), d.normal(0.0, 0.25)], 1).clamp(-1, 1),
        light_direction=torch.nn.functional.normalize(direction, dim=1),
        light=d.uniform(0.55, 1.15)[:, None] * tint,
        ambient=d.uniform(0.13, 0.45)[:, None] * (1 + 0.15 * (d.colour(0, 1) - 0.5)) / tint.sqrt(),
        background=torch.square(
            torch.stack([base, (base + _muted(d.colour(-0.3, 0.3))).clamp(0.02, 0.95), _muted(d.colour(0.05, 0.95))], 1)
        ),
        background_seed=torch.stack([d.uniform() for _ in range(4)], 1),
        background_kind=d.choice((1.0, 1.0, 1.0, 1.0)),
        occluder=d.choice(OCCLUDER_WEIGHTS),
        occluder_seed=torch.stack([d.uniform() for _ in range(6)], 1),
        occluder_colour=torch.square(d.colour(0.02, 0.6)) * d.uniform(0.1, 1.0)[:, None],
        exposure=torch.exp(d.normal(0.0, 0.16)),
        white_balance=torch.stack([d.normal(1.0, 0.05), torch.ones(n), d.normal(1.0, 0.06)], 1),
        blur=d.chance(0.35) * d.uniform(0.4, 1.3),
        noise=d.chance(0.7) * d.uniform(0.0, 0.03),
        noise_seed=(d.uniform() * (1 << 23)).long(),
        jpeg_quality=torch.where(d.uniform() < 0.5, d.uniform(45.0, 96.0), torch.full((n,), 100.0)),
    )


def milder(a: Attributes) -> Attributes:
    """The same scenes with smaller turns, softer side light, a better camera, and no strand of hair over the face.

    Number formats are still stressed: dark and light skin, glasses, hands, microphones, grain and JPEG of 75 and more remain.
    """
    level = a.light[:, 1:2]
    light = (0.85 + 0.5 * (level - 0.85)) * (1 + 0.4 * (a.light / level - 1))
    ambient = a.ambient.mean(1, keepdim=True)
    strand = a.occluder == OCCLUDERS.index("strand")
    return replace(
        a,
        yaw=0.75 * a.yaw,
        pitch=0.75 * a.pitch,
        roll=0.75 * a.roll,
        light_direction=_towards(a.light_direction, sideways=0.6, front=0.45),
        light=light,
        ambient=a.ambient + 0.4 * (0.32 - ambient),
        exposure=a.exposure.sqrt(),
        white_balance=1 + 0.5 * (a.white_balance - 1),
        occluder=torch.where(strand, torch.zeros_like(a.occluder), a.occluder),
        noise=0.5 * a.noise,
        jpeg_quality=a.jpeg_quality.clamp_min(75),
    )


def portrait(a: Attributes) -> Attributes:
    """The same scenes as a user is asked to take his photo: facing the camera, even light, nothing before the face, no JPEG."""
    a = milder(a)
    return replace(
        a,
        yaw=0.5 * a.yaw,
        pitch=0.6 * a.pitch,
        roll=0.5 * a.roll,
        mouth_open=0.3 * a.mouth_open,
        smile=0.15 + 0.5 * (a.smile - 0.15),
        brow_raise=0.5 * a.brow_raise,
        eye_closure=a.eye_closure.clamp_max(0.25),
        gaze=0.4 * a.gaze,
        light_direction=_towards(a.light_direction, sideways=0.5, front=0.7),
        light=0.5 * (a.light + 0.85),
        ambient=0.36 + 0.4 * (a.ambient - 0.36),
        exposure=a.exposure.sqrt(),
        occluder=torch.zeros_like(a.occluder),
        noise=0.5 * a.noise,
        jpeg_quality=torch.full_like(a.jpeg_quality, 100),
    )


def soft_lens(a: Attributes, view: int = 224) -> Attributes:
    """The same scenes through a lens that spreads a point over 0.8 to 1.2 pixels (standard deviation) of a view of ``view``.

    The renderer samples points: without a lens edges are jagged, which no camera's are and no small network can draw.
    """
    return replace(a, blur=(0.8 + 0.4 * a.background_seed[:, 0]) * 224 / view)


def _towards(direction: Tensor, sideways: float, front: float) -> Tensor:
    """Unit vectors (N, 3) with less of x, and at least ``front`` of z before they are made unit again."""
    x, y, z = direction.unbind(1)
    return torch.nn.functional.normalize(torch.stack([sideways * x, y, z.clamp_min(front)], 1), dim=1)


def plain_camera(attributes: Attributes) -> Attributes:
    """The same scenes with no blur, noise or JPEG."""
    zero = torch.zeros_like(attributes.blur)
    return replace(attributes, blur=zero, noise=zero, jpeg_quality=zero + 100)


def path(start: Attributes, frames: int, seed: int = 0, fps: float = 25.0) -> Attributes:
    """One scene as a clip: the head turns and nods, the mouth talks, the eyes wander and blink; light and camera stay.

    Args:
        start: one scene (N = 1); the first frame is close to it.
        frames: length of the clip.
    """
    if len(start) != 1:
        raise ValueError(f"a path starts from one scene, not {len(start)}")
    d = Draw(1, seed, STREAM + 1)
    one = start.take([0] * frames)
    time = torch.arange(frames, dtype=torch.float32, device=start.yaw.device) / fps

    def swing(low_hz: float, high_hz: float) -> Tensor:
        """0 at the first frame, smooth, within [-1, 1]."""
        first, second = d.uniform(low_hz, high_hz).item(), d.uniform(low_hz, high_hz).item()
        sign = 1.0 if d.uniform().item() < 0.5 else -1.0
        return sign * (0.7 * torch.sin(2 * math.pi * first * time) + 0.3 * torch.sin(2 * math.pi * second * time))

    syllables = torch.square(torch.sin(2 * math.pi * 2.1 * time)) * (0.6 + 0.4 * swing(0.3, 0.9))
    blink = torch.exp(-torch.square(((time + d.uniform(0.2, 2.0).item()) % 2.6 - 1.3) / 0.07))
    drift = torch.stack([swing(0.1, 0.3), swing(0.1, 0.3)], 1) * 0.02
    return replace(
        one,
        yaw=(one.yaw + 0.38 * swing(0.15, 0.4)).clamp(-0.6, 0.6),
        pitch=(one.pitch + 0.12 * swing(0.2, 0.5)).clamp(-0.35, 0.35),
        roll=one.roll + 0.08 * swing(0.1, 0.4),
        place=one.place + drift,
        scale=one.scale * (1 + 0.04 * swing(0.1, 0.3)),
        mouth_open=(one.mouth_open * 0.3 + 0.6 * syllables).clamp(0, 1),
        smile=(one.smile + 0.3 * swing(0.1, 0.4)).clamp(-0.4, 1),
        brow_raise=(one.brow_raise + 0.25 * swing(0.1, 0.5)).clamp(-0.4, 1),
        eye_closure=torch.maximum(one.eye_closure.clamp_max(0.4), blink),
        gaze=(one.gaze + 0.4 * torch.stack([swing(0.2, 0.6), swing(0.2, 0.6)], 1)).clamp(-1, 1),
        noise_seed=one.noise_seed + 7919 * torch.arange(frames, device=one.noise_seed.device),
    )
