"""Checks that a face is good enough to read an identity from: large, sharp, and its landmarks in a possible order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.errors import PhotoError
from mfs_deploy.faces import align, pixels
from mfs_deploy.faces.opencv import cv2
from mfs_deploy.faces.pixels import Image, Landmarks

ENCODER_SIZE = 112  # side of the identity encoder's crop in pixels; the eyes are 35 px apart in it

# Half of those 35 px: below it, more than three of four pixels that the encoder sees are interpolated.
MIN_EYE_DISTANCE_PX = 18.0

# See ``sharpness`` for the measurements behind it.
MIN_SHARPNESS = 4.0

_FACE = (slice(36, 104), slice(24, 88))  # brows to chin in the 112 crop, so that a crisp background does not count
_SMOOTHING = 1.5  # sigma, pixels of the 112 crop; suppresses sensor noise, which a bare Laplacian takes for detail
_DIRECTIONS = 8


@dataclass(frozen=True)
class Quality:
    """``eye_distance_px``: in the photo; None without landmarks.  ``sharpness``: see ``sharpness``."""

    eye_distance_px: float | None
    sharpness: float


def check(landmarks: Landmarks | None, crop: Image) -> Quality:
    """Check a face by its landmarks in the photo and its aligned crop (S, S, 3) of any size.

    Raises:
        PhotoError: kind "not-a-face", "face-too-small" or "face-too-blurred".
    """
    eye_distance = None
    if landmarks is not None:
        check_order(landmarks)
        eye_distance = float(np.linalg.norm(landmarks[1] - landmarks[0]))
        if eye_distance < MIN_EYE_DISTANCE_PX:
            raise PhotoError(
                f"the eyes are {eye_distance:.1f} px apart; at least {MIN_EYE_DISTANCE_PX:.0f} px are needed",
                hint="use a photo in which the face is larger",
                kind="face-too-small",
            )
    measured = sharpness(crop)
    if measured < MIN_SHARPNESS:
        raise PhotoError(
            f"the face is too blurred: sharpness {measured:.1f}, at least {MIN_SHARPNESS:.1f} is needed",
            hint="use a photo with the face in focus and held still",
            kind="face-too-blurred",
        )
    return Quality(eye_distance, measured)


def check_order(landmarks: Landmarks) -> None:
    """Refuse landmarks in an impossible order, by which alignment would mirror or fold the face.

    Raises:
        PhotoError: kind "not-a-face", naming the points that look swapped.
    """
    folded = float((landmarks[1] - landmarks[0]) @ (landmarks[4] - landmarks[3])) < 0
    if _determinant(landmarks) > 0 and not folded:
        return
    eyes, mouth, both, upside_down = [1, 0, 2, 3, 4], [0, 1, 2, 4, 3], [1, 0, 2, 4, 3], [3, 4, 2, 0, 1]
    if folded:  # one pair runs against the other; exchanging the right one leaves no mirror image
        swap = eyes if _determinant(landmarks[eyes]) > 0 else mouth
    else:
        swap = both if landmarks[:2, 1].mean() < landmarks[3:, 1].mean() else upside_down
    names = {
        tuple(eyes): "the two eyes look swapped",
        tuple(mouth): "the two mouth corners look swapped",
        tuple(both): "left and right look swapped, at the eyes and at the mouth",
        tuple(upside_down): "the eyes and the mouth corners look swapped",
    }
    raise PhotoError(
        f"the landmarks cannot belong to a face: {names[tuple(swap)]}",
        hint="give them as the image shows them: left eye, right eye, nose tip, left and right mouth corner",
        kind="not-a-face",
    )


def _determinant(landmarks: Landmarks) -> float:
    matrix = align.alignment_matrix(landmarks, ENCODER_SIZE).astype(np.float64)
    return float(np.linalg.det(matrix[:, :2]))


def sharpness(crop: Image) -> float:
    """Detail in the face of an aligned crop (S, S, 3), in percent of its contrast; 0 where there is none.

    The standard deviation of the second derivative along the weakest of eight directions, at a scale of 1.5 px of the 112 crop,
    over the standard deviation of the grey values.  The ratio makes it blind to exposure, the scale to noise, and the weakest
    direction sees motion blur.  (The usual variance of the Laplacian fails here: noise of 5 levels lifts a blur of
    3 px above the sharp original.)  Measured on the sample portrait, blur in pixels of the 112 crop:

        must pass                          must be refused
        as it is                     8.5   blur sigma 3                      3.2
        noise, sigma 20 levels       8.6   the same, JPEG quality 40         3.4
        at 0.3 of its brightness     8.5   the same, noise of 5 levels       3.3
        at 0.3 of its contrast       8.5   the same, noise of 10 levels      3.6
        JPEG quality 40              8.7   blur sigma 4 / 5 / 6              2.3 / 1.7 / 1.3
        half size (eyes 22 px)       7.4   motion over 11 px, 0/45/90 deg    3.7 / 3.8 / 3.3
        eyes 18 px, JPEG quality 40  6.7   motion over 15 px                 2.7 / 2.7 / 2.8

    Between them, and let through: blur sigma 1 6.9, 1.5 5.7, 2 4.6; motion over 7 px 5.4 to 5.7, over 9 px 4.0 to 4.6.
    Faces differ: a hundred of Labeled Faces in the Wild, all with eyes 10 px apart, spread by 20 %; the lowest has 0.59 of
    their mean, the portrait at that size 0.95.  A sharp face as poor in detail as the lowest still has about 5.
    """
    grey = cv2.cvtColor(pixels.resize(crop, ENCODER_SIZE), cv2.COLOR_RGB2GRAY).astype(np.float32)
    smooth = np.asarray(cv2.GaussianBlur(grey, (0, 0), _SMOOTHING), np.float32)
    contrast = float(smooth[_FACE].std())
    if contrast < 1.0:  # of 255: a flat surface
        return 0.0
    xx, yy, xy = (_derivative(smooth, *order) for order in ((2, 0), (0, 2), (1, 1)))
    angles = np.arange(_DIRECTIONS) * (np.pi / _DIRECTIONS)
    along = [(c * c * xx + 2 * c * s * xy + s * s * yy).std() for c, s in zip(np.cos(angles), np.sin(angles), strict=True)]
    return 100 * float(min(along)) / contrast


def _derivative(grey: NDArray[np.float32], dx: int, dy: int) -> NDArray[np.float32]:
    """A second derivative in the face, per square pixel: the Sobel kernels sum to 4 times it."""
    return np.asarray(cv2.Sobel(grey, cv2.CV_32F, dx, dy)[_FACE] / 4, np.float32)
