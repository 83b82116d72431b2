"""Five landmarks of a face: given by the user, or of one of the faces that a detector finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mfs_deploy.errors import PhotoError, UsageError
from mfs_deploy.faces.pixels import Image, Landmarks

POINTS = ("image-left eye", "image-right eye", "nose tip", "image-left mouth corner", "image-right mouth corner")
THRESHOLD = 0.6  # of a detector's score, as in the original


@dataclass(frozen=True)
class Face:
    """One detection, in pixels of the image it was found in.

    Attributes:
        box: x1, y1, x2, y2; it may reach beyond the image.
        landmarks: (5, 2), in the order of ``POINTS``.
    """

    score: float
    box: tuple[float, float, float, float]
    landmarks: Landmarks


def parse(text: str, option_prefix: str = "") -> Landmarks:
    """``x1,y1,...,x5,y5`` to (5, 2).

    Raises:
        UsageError: not ten finite numbers; names the wrong one.
    """
    option = f"--{option_prefix}landmarks"
    hint = f"{option} x1,y1,...,x5,y5: " + ", ".join(POINTS)
    words = [word.strip() for word in text.split(",")]
    if len(words) != 10:
        raise UsageError(f"{option} has {len(words)} values; 10 are needed, an x and a y for each of 5 points", hint=hint)
    values = []
    for i, word in enumerate(words):
        where = f"{option} value {i + 1} ({'xy'[i % 2]} of the {POINTS[i // 2]})"
        try:
            values.append(float(word))
        except ValueError as exc:
            raise UsageError(f"{where} is {word!r}, which is not a number", hint=hint) from exc
        if not np.isfinite(values[-1]):
            raise UsageError(f"{where} is {word!r}; a finite number of pixels is needed", hint=hint)
    return np.array(values, np.float64).reshape(5, 2)


def check_inside(landmarks: Landmarks, image: Image) -> None:
    """Raises UsageError where a landmark lies outside the image."""
    height, width = image.shape[:2]
    for name, (x, y) in zip(POINTS, landmarks, strict=True):
        if not (0 <= x < width and 0 <= y < height):
            raise UsageError(
                f"the {name} at {x:g},{y:g} is outside the image, which is {width}x{height} pixels",
                hint="give landmarks in pixels of the whole photo, right way up, from its top left corner",
            )


def choose(faces: Sequence[Face], image_shape: tuple[int, ...], index: int | None, option_prefix: str = "") -> Face:
    """The face to use; faces are numbered from 1, left to right.

    Raises:
        PhotoError: kind "no-face", or "several-faces" without an ``index``.
        UsageError: there is no face of that number.
    """
    ordered = sorted(faces, key=lambda face: face.box)
    if not ordered:
        raise PhotoError(
            f"no face found in the {image_shape[1]}x{image_shape[0]} image with a score of at least {THRESHOLD}",
            hint=f"use a photo that shows the whole face from the front, or pass --{option_prefix}landmarks x1,y1,...,x5,y5",
            kind="no-face",
        )
    if index is None and len(ordered) > 1:
        listed = "; ".join(f"{i}: {_describe(face)}" for i, face in enumerate(ordered, 1))
        raise PhotoError(
            f"{len(ordered)} faces found ({listed})",
            hint=f"choose one with --{option_prefix}face N, counted from the left",
            kind="several-faces",
        )
    if index is not None and not 1 <= index <= len(ordered):
        found = "one face was" if len(ordered) == 1 else f"{len(ordered)} faces were"
        raise UsageError(f"--{option_prefix}face {index}: {found} found", hint=f"pass a number from 1 to {len(ordered)}")
    return ordered[(index or 1) - 1]


def best(faces: Sequence[Face]) -> Face | None:
    """The face with the highest score, as the original chooses in every frame; None if there is no face."""
    return max(faces, key=lambda face: face.score, default=None)


def _describe(face: Face) -> str:
    x1, y1, x2, y2 = (round(v) for v in face.box)
    return f"{x2 - x1}x{y2 - y1} px at {x1},{y1}, score {face.score:.2f}"
