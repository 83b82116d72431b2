"""Alignment of a face to a square crop, exactly as MobileFaceSwap's authors do it.

The original works in BGR; no operation here mixes channels, so the results are the same numbers.
Source: the authors' ``utils/align_face.py``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.errors import PhotoError
from mfs_deploy.faces.opencv import cv2
from mfs_deploy.faces.pixels import Image, Landmarks, as_image

SOURCE_SIZE = 224  # the original aligns the source at 224 and then shrinks it, whatever size the target has
AFFINE = "least-squares affine, 6 degrees of freedom"  # unlike the similarity that most ArcFace code uses
LANDMARKS = ("left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner")  # left and right in the image
SIMILARITY = "least-squares similarity, 4 degrees of freedom"


@dataclass(frozen=True)
class AlignmentTemplate:
    """Where the five landmarks lie in an aligned crop of ``base`` pixels; other sizes scale it."""

    base: int = 112
    points: tuple[tuple[float, float], ...] = (
        (30.29459953 + 8, 51.69630051),
        (65.53179932 + 8, 51.50139999),
        (48.02519989 + 8, 71.73660278),
        (33.54930115 + 8, 92.3655014),
        (62.72990036 + 8, 92.20410156),
    )
    solver: str = AFFINE

    def at(self, size: int) -> NDArray[np.float64]:
        return np.array(self.points, np.float64) * (size / self.base)

    def as_dict(self) -> dict[str, object]:
        """The whole alignment as a manifest has it, with what all templates have in common."""
        return {
            **asdict(self),
            "landmarks": LANDMARKS,
            "matrix": "float32",
            "interpolation": "bilinear",
            "outside": 0,
            "rounding": "nearest, ties to even",
        }


ALIGNMENT = AlignmentTemplate()


def alignment_matrix(landmarks: Landmarks, size: int, template: AlignmentTemplate = ALIGNMENT) -> NDArray[np.float32]:
    """The (2, 3) affine from pixels of the image to pixels of an aligned crop of ``size``, by the template's solver.

    Raises:
        PhotoError: the landmarks lie on one line or one point, so that no affine fits.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise PhotoError(f"landmarks have shape {points.shape} or are not finite; five finite x,y pairs are needed")
    a = np.hstack([points, np.ones((5, 1))])
    wanted = template.at(size)
    solution, _, rank, _ = np.linalg.lstsq(a, wanted, rcond=None)
    if rank < 3:
        raise PhotoError(
            f"the five landmarks lie on one line ({np.round(points, 1).tolist()}), so the face cannot be aligned",
            hint="give the eyes, the nose tip and the mouth corners as landmarks",
            kind="not-a-face",
        )
    if template.solver == SIMILARITY:
        (x, y), one, none = points.T, np.ones(5), np.zeros(5)
        turned = np.vstack([np.stack([x, -y, one, none], 1), np.stack([y, x, none, one], 1)])  # of a x - b y + c, b x + a y + d
        (p, q, c, d), *_ = np.linalg.lstsq(turned, wanted.T.reshape(-1), rcond=None)
        return np.array([[p, -q, c], [q, p, d]], np.float32)
    return solution.T.astype(np.float32)


def align(
    image: Image, landmarks: Landmarks, size: int, template: AlignmentTemplate = ALIGNMENT
) -> tuple[Image, NDArray[np.float64]]:
    """The aligned crop (size, size, 3), and the (2, 3) affine from it back to the image."""
    matrix = alignment_matrix(landmarks, size, template)
    crop = as_image(cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR))
    square = np.vstack([matrix.astype(np.float64), [0.0, 0.0, 1.0]])
    return crop, np.linalg.pinv(square)[:2]
