"""Who someone is: parameters of a rendered person, sampled by seed.

Lengths are in head units: the head is about 2.2 high and 1.5 wide, its centre is the origin, x points image right, y down,
z to the viewer.  Colours are linear light, (N, 3) RGB.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mfs_deploy.demo.rendering.parameters import Batch, Draw

STREAM = 1
# sRGB of skin from the lightest to the darkest, and of hair; squared where used (the renderer's gamma is 2)
SKIN = ((0.97, 0.84, 0.77), (0.92, 0.74, 0.63), (0.83, 0.62, 0.48), (0.69, 0.48, 0.34), (0.51, 0.33, 0.23), (0.33, 0.21, 0.155))
HAIR = ((0.09, 0.08, 0.08), (0.22, 0.15, 0.11), (0.38, 0.26, 0.17), (0.56, 0.40, 0.24), (0.80, 0.66, 0.43), (0.56, 0.25, 0.12))
HAIR_WEIGHTS = (3.0, 3.0, 2.0, 1.5, 1.5, 1.0)
IRIS = ((0.20, 0.12, 0.07), (0.36, 0.23, 0.11), (0.42, 0.40, 0.20), (0.28, 0.47, 0.33), (0.33, 0.52, 0.68), (0.48, 0.54, 0.58))
MOLES = 4


@dataclass(frozen=True)
class People(Batch):
    """N persons.  The first group stays with the head in a swap, the second is the face that travels."""

    # head, ears, neck, hair, clothes: (N,) unless said otherwise
    head_width: Tensor
    head_height: Tensor
    jaw_taper: Tensor
    cheek_fullness: Tensor
    ear_size: Tensor
    ear_out: Tensor
    neck_width: Tensor
    hair: Tensor  # (N, 3)
    hair_cover: Tensor  # 0 bald, 1 full
    hair_volume: Tensor
    hair_length: Tensor  # 0 short, 1 on the shoulders
    hairline: Tensor
    fringe: Tensor
    parting: Tensor
    curl: Tensor
    cloth: Tensor  # (N, 3)
    cloth_stripe: Tensor
    # skin: the head's own, and the face's
    skin: Tensor  # (N, 3)
    texture: Tensor  # (N, 2) where in the noise atlas this skin and hair lie
    blush: Tensor
    freckles: Tensor
    oil: Tensor
    age: Tensor  # 0 young, 1 old: wrinkles, folds, bags
    beard: Tensor  # 0 none, 1 full
    moustache: Tensor
    stubble: Tensor
    beard_colour: Tensor  # (N, 3)
    moles: Tensor  # (N, MOLES, 4): x, y, radius, strength
    scar: Tensor  # (N, 5): x, y, angle, half length, strength
    # features
    eye_x: Tensor
    eye_y: Tensor
    eye_width: Tensor
    eye_height: Tensor
    eye_tilt: Tensor
    eye_crease: Tensor
    iris: Tensor  # (N, 3)
    iris_size: Tensor
    lashes: Tensor
    shadow: Tensor  # (N, 3) eyelid make-up
    shadow_strength: Tensor
    brow: Tensor  # (N, 3)
    brow_y: Tensor
    brow_thickness: Tensor
    brow_arch: Tensor
    brow_tilt: Tensor
    brow_length: Tensor
    brow_ridge: Tensor
    nose_y: Tensor
    nose_out: Tensor
    nose_bridge: Tensor
    nose_width: Tensor
    nose_tip: Tensor
    cheekbone: Tensor
    mouth_y: Tensor
    mouth_width: Tensor
    lip_upper: Tensor
    lip_lower: Tensor
    lip_bow: Tensor
    lip: Tensor  # (N, 3)
    chin_out: Tensor
    chin_cleft: Tensor


def _ramp(stops: tuple[tuple[float, ...], ...], position: Tensor) -> Tensor:
    """Colour at ``position`` in [0, 1] along the stops, made linear."""
    table = torch.tensor(stops)
    x = position.clamp(0, 1) * (len(stops) - 1)
    low = x.floor().long().clamp_max(len(stops) - 2)
    part = (x - low)[:, None]
    return torch.square(table[low] * (1 - part) + table[low + 1] * part)


def _hair_colour(d: Draw, age: Tensor, dark: Tensor) -> Tensor:
    kind = d.choice(HAIR_WEIGHTS)
    # dark skin goes with dark hair more often than not
    kind = torch.where((dark > 0.55) & (d.uniform() < 0.85), kind % 2, kind)
    colour = torch.tensor(HAIR)[kind] * d.uniform(0.85, 1.15)[:, None]
    grey = ((age - 0.55) / 0.35).clamp(0, 1) * d.uniform(0.3, 1.0)
    return torch.square(colour + (0.72 - colour) * 0.9 * grey[:, None])


def _moles(d: Draw) -> Tensor:
    columns = []
    for _ in range(MOLES):
        there = d.chance(0.5)
        columns.append(
            torch.stack([d.uniform(-0.5, 0.5), d.uniform(-0.45, 0.8), d.uniform(0.016, 0.034), there * d.uniform(0.5, 0.95)], 1)
        )
    return torch.stack(columns, 1)


def sample_people(n: int, seed: int) -> People:
    """N identities.  Identity i of a seed is the same for every n."""
    d = Draw(n, seed, STREAM)
    male = d.chance(0.5)
    age = d.uniform() ** 1.3
    tone = d.uniform()
    undertone = torch.stack([d.normal(1.0, 0.03), torch.ones(n), d.normal(1.0, 0.07)], 1)
    skin = _ramp(SKIN, tone) * undertone
    hair = _hair_colour(d, age, tone)
    bald = male * d.chance(0.08 + 0.22 * age)
    long_hair = torch.where(male > 0, d.chance(0.12), d.chance(0.75))
    bearded = male * d.chance(0.42)
    made_up = (1 - male) * d.chance(0.5)
    lip_natural = skin * torch.tensor((0.80, 0.47, 0.47))
    lip_made_up = torch.square(torch.stack([d.uniform(0.5, 0.85), d.uniform(0.1, 0.35), d.uniform(0.15, 0.4)], 1))
    brow_darker = d.uniform(0.35, 0.9)[:, None]
    eye_kind = d.uniform() * torch.where(tone > 0.6, 0.3, 1.0)
    return People(
        head_width=d.normal(0.765, 0.042) + 0.015 * male,
        head_height=d.normal(1.09, 0.035),
        jaw_taper=(d.normal(0.44, 0.11) - 0.18 * male).clamp(0.04, 0.68),
        cheek_fullness=d.normal(0.0, 0.07),
        ear_size=d.normal(0.2, 0.025),
        ear_out=d.uniform(0.4, 1.0),
        neck_width=d.normal(0.43, 0.03) + 0.09 * male,
        hair=hair,
        hair_cover=1 - bald,
        hair_volume=torch.where(long_hair > 0, d.uniform(0.06, 0.17), d.uniform(0.02, 0.2)),
        hair_length=long_hair * d.uniform(0.35, 1.0),
        hairline=d.normal(-0.66, 0.05) - 0.06 * male * age,
        fringe=d.chance(0.4) * d.uniform(0.08, 0.32),
        parting=d.uniform(-0.55, 0.55),
        curl=d.uniform() ** 2.0 * (0.5 + 0.8 * tone),
        cloth=torch.square(d.colour(0.05, 0.85)),
        cloth_stripe=d.chance(0.4) * d.uniform(0.1, 0.6),
        skin=skin,
        texture=torch.stack([d.uniform(), d.uniform()], 1),
        blush=d.uniform(0.0, 1.0) ** 1.5 + 0.4 * made_up,
        freckles=d.chance(0.3) * d.uniform(0.25, 0.95) * (1 - 0.7 * tone),
        oil=d.uniform(0.25, 1.0),
        age=age,
        beard=bearded * (d.uniform() * 2.2 - 0.9).clamp(0, 1),
        moustache=bearded * (d.uniform() * 1.8 - 0.6).clamp(0, 1),
        stubble=male * d.uniform(0.0, 0.8),
        beard_colour=hair * brow_darker * 0.9,
        moles=_moles(d),
        scar=torch.stack(
            [
                d.uniform(-0.45, 0.45),
                d.uniform(-0.3, 0.7),
                d.uniform(0, 3.1416),
                d.uniform(0.05, 0.14),
                d.chance(0.15) * d.uniform(0.5, 1.0),
            ],
            1,
        ),
        eye_x=d.normal(0.325, 0.026),
        eye_y=d.normal(-0.11, 0.028),
        eye_width=d.normal(0.165, 0.018),
        eye_height=d.normal(0.44, 0.10) + 0.03 * (1 - male),
        eye_tilt=d.normal(0.06, 0.09),
        eye_crease=d.uniform(0.0, 1.0),
        iris=_ramp(IRIS, eye_kind),
        iris_size=d.normal(0.42, 0.03),
        lashes=d.uniform(0.25, 0.7) + 0.5 * (1 - male),
        shadow=torch.square(d.colour(0.1, 0.6)),
        shadow_strength=made_up * d.uniform(0.1, 0.7),
        brow=hair * brow_darker,
        brow_y=d.normal(-0.335, 0.03) + 0.025 * male,
        brow_thickness=(d.normal(0.040, 0.011) + 0.014 * male).clamp(0.018, 0.085),
        brow_arch=d.normal(0.05, 0.025) - 0.02 * male,
        brow_tilt=d.normal(0.014, 0.032),
        brow_length=d.normal(0.215, 0.022),
        brow_ridge=d.uniform(0.0, 0.7) + 0.6 * male,
        nose_y=d.normal(0.275, 0.042),
        nose_out=d.normal(0.25, 0.035) + 0.02 * male,
        nose_bridge=d.normal(0.35, 0.11),
        nose_width=d.normal(1.0, 0.19) + 0.12 * tone,
        nose_tip=d.normal(1.0, 0.18),
        cheekbone=d.uniform(0.0, 1.6),
        mouth_y=d.normal(0.615, 0.028),
        mouth_width=d.normal(0.275, 0.034),
        lip_upper=(d.normal(0.056, 0.019) + 0.018 * tone).clamp_min(0.02),
        lip_lower=(d.normal(0.072, 0.019) + 0.016 * tone).clamp_min(0.03),
        lip_bow=d.uniform(0.0, 0.55),
        lip=torch.where(made_up[:, None] > 0, lip_made_up, lip_natural),
        chin_out=d.normal(0.07, 0.03),
        chin_cleft=male * d.chance(0.25),
    )
