"""What ``demo`` stands for: weights trained on rendered people, and two people they were never trained on.

The source is a photo of one, the target a photo of the other, and because both are rendered the exact result is known too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mfs_deploy.demo.rendering import triplets
from mfs_deploy.demo.rendering.attributes import Attributes, path, sample_attributes
from mfs_deploy.demo.rendering.people import People, sample_people
from mfs_deploy.demo.rendering.render import Rendered, render, render_swap
from mfs_deploy.demo.rendering.triplets import HELD_OUT
from mfs_deploy.files import shipped

FRAME = 512  # pixels of each side of a photo
SOURCE, TARGET = HELD_OUT + 10, HELD_OUT + 13  # seeds
CALIBRATION = 400_000  # seed, of triplets
CLIP_FPS = 25

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Photo:
    """``image`` (H, W, 3) uint8 RGB, and where the face is in it, (5, 2) pixels."""

    image: Image
    landmarks: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scene:
    """A photo, and the same photo with the source's face: the exact result of the swap."""

    target: Photo
    truth: Image


def weights() -> tuple[Path, Path]:
    """The generator's file and the identity encoder's."""
    folder = shipped("models/demo/weights")
    return folder / "generator.safetensors", folder / "identity_encoder.safetensors"


def source() -> Photo:
    return _photos(render(sample_people(1, SOURCE), sample_attributes(1, SOURCE), FRAME))[0]


def scene() -> Scene:
    return _scenes(sample_people(1, TARGET), sample_attributes(1, TARGET), FRAME)[0]


def clip(frames: int, size: int = 256) -> list[Scene]:
    """The target moving and talking for ``frames`` frames, with the truth of each."""
    moving = path(sample_attributes(1, TARGET), frames, fps=CLIP_FPS)
    return _scenes(sample_people(1, TARGET).take([0] * frames), moving, size)


def crops(size: int) -> Image:
    """(64, S, S, 3) aligned faces of rendered people, none of them held out: what ``demo`` stands for as a calibration set."""
    return _pixels(triplets.targets(triplets.SHARD, CALIBRATION, size))


def _scenes(people: People, attributes: Attributes, size: int) -> list[Scene]:
    faces = sample_people(1, SOURCE).take([0] * len(people))
    before, after = render_swap(people, faces, attributes, size)
    return [Scene(photo, truth) for photo, truth in zip(_photos(before), _pixels(after.image), strict=True)]


def _photos(rendered: Rendered) -> list[Photo]:
    landmarks = rendered.landmarks.double().numpy()
    return [Photo(image, points) for image, points in zip(_pixels(rendered.image), landmarks, strict=True)]


def _pixels(images: torch.Tensor) -> Image:
    """(N, 3, H, W) in [0, 1] to (N, H, W, 3) uint8."""
    return np.ascontiguousarray((images * 255).round().byte().permute(0, 2, 3, 1).numpy())
