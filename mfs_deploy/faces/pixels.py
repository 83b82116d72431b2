"""Alignment and paste-back, exactly as MobileFaceSwap's authors do them, and as a network without a mask needs them.

Images here are (H, W, 3) uint8 RGB; masks are (H, W) float32 in [0, 1].  The original works in BGR, but neither operation mixes
channels, so the results are the same numbers.  Source: the MobileFaceSwap authors' ``utils/align_face.py`` and ``utils/util.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.errors import PhotoError
from mfs_deploy.faces.opencv import cv2

Image = NDArray[np.uint8]  # (H, W, 3) RGB
Landmarks = NDArray[np.float64]  # (5, 2) x, y in pixels: the eyes, the nose tip, the mouth corners; image left first

SOURCE_SIZE = 224  # the original aligns the source at 224 and then shrinks it, whatever size the target has
AFFINE = "least-squares affine, 6 degrees of freedom"  # unlike the similarity that most ArcFace code uses
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


@dataclass(frozen=True)
class PasteBack:
    """How the mask of a crop is hardened, softened at its edge, and kept off the crop's border.  Pixels of the crop."""

    threshold: float = 0.001  # above it the mask becomes 1
    morph_kernel: int = 11  # one dilation, then two erosions
    dilations: int = 1
    erosions: int = 2
    blur_kernel: int = 7
    border: int = 10  # this margin is 0 before ...
    border_blur_kernel: int = 11  # ... this blur

    def alpha(self, mask: NDArray[np.float32] | None, size: int) -> NDArray[np.float32]:
        """(S, S) weight of the swapped crop, of the network's (1, 1, S, S) mask."""
        assert mask is not None
        assert mask.shape[2:] == (size, size)
        return soften(mask[0, 0], self)


@dataclass(frozen=True)
class Ellipse:
    """A fixed soft ellipse, for a network that gives no mask.  Lengths are shares of the crop's side.

    With r the distance from the centre over the radius, pixel by pixel, the weight is (1 - r) / edge, between 0 and 1.
    """

    centre: tuple[float, float]  # x, y
    radii: tuple[float, float]
    edge: float

    def alpha(self, mask: NDArray[np.float32] | None, size: int) -> NDArray[np.float32]:
        assert mask is None
        at = (np.arange(size) + 0.5) / size
        x, y = (at - self.centre[0]) / self.radii[0], (at - self.centre[1]) / self.radii[1]
        alpha: NDArray[np.float64] = ((1 - np.hypot(x[None], y[:, None])) / self.edge).clip(0, 1)
        return alpha.astype(np.float32)


ALIGNMENT = AlignmentTemplate()
PASTE_BACK = PasteBack()


def alignment_matrix(landmarks: Landmarks, size: int, template: AlignmentTemplate = ALIGNMENT) -> NDArray[np.float32]:
    """The (2, 3) affine that takes image pixels to pixels of an aligned crop of ``size``, fitted as ``template`` says.

    Raises:
        PhotoError: the landmarks lie on one line or one point, so that no affine follows from them.
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
            hint="pass the eyes, the nose tip and the mouth corners: --landmarks x1,y1,...,x5,y5",
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
    crop = _pixels(cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR))
    square = np.vstack([matrix.astype(np.float64), [0.0, 0.0, 1.0]])
    return crop, np.linalg.pinv(square)[:2]


def resize(image: Image, size: int) -> Image:
    return _pixels(cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR))


def shrink(image: Image, width: int, height: int) -> Image:
    """A smaller picture, each pixel the mean of those it covers."""
    return _pixels(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def to_tensor(image: Image) -> NDArray[np.float32]:
    """(H, W, 3) uint8 to (1, 3, H, W) float32 in [0, 1]."""
    return np.ascontiguousarray(image.astype(np.float32).transpose(2, 0, 1)[None] / np.float32(255))


def to_image(tensor: NDArray[np.float32]) -> Image:
    """(1, 3, H, W) float32 in [0, 1] to (H, W, 3) uint8, rounded; for pictures, not for paste-back."""
    return _pixels(np.clip(np.rint(tensor[0].transpose(1, 2, 0) * 255), 0, 255).astype(np.uint8))


def soften(mask: NDArray[np.float32], p: PasteBack = PASTE_BACK) -> NDArray[np.float32]:
    """The network's mask (S, S) as paste-back uses it: hard inside, a soft edge, nothing at the crop's border."""
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (p.morph_kernel, p.morph_kernel))
    hard = np.where(mask > p.threshold, np.float32(1), mask)
    grown = cv2.dilate(hard, kernel, iterations=p.dilations)
    eroded = cv2.erode(grown, kernel, iterations=p.erosions)
    soft = cv2.blur(eroded, (p.blur_kernel, p.blur_kernel))
    inner = np.zeros_like(mask)
    inner[p.border : -p.border, p.border : -p.border] = 1.0
    return (soft * cv2.blur(inner, (p.border_blur_kernel, p.border_blur_kernel))).astype(np.float32)


def paste_back(
    frame: Image,
    swapped: NDArray[np.float32],
    mask: NDArray[np.float32] | None,
    back: NDArray[np.float64],
    paste: PasteBack | Ellipse = PASTE_BACK,
) -> Image:
    """Blend a swapped crop into the frame it came from: ``blend`` as bytes, truncated and not rounded, as the original does."""
    return _pixels(blend(frame, swapped, mask, back, paste).astype(np.uint8))


def blend(
    frame: Image,
    swapped: NDArray[np.float32],
    mask: NDArray[np.float32] | None,
    back: NDArray[np.float64],
    paste: PasteBack | Ellipse = PASTE_BACK,
) -> NDArray[np.float32]:
    """The finished frame, (H, W, 3) in [0, 255], before it becomes bytes.

    Args:
        frame: (H, W, 3) the whole photo or video frame.
        swapped: (1, 3, S, S) in [0, 1], the network's output.
        mask: (1, 1, S, S) in [0, 1], the network's other output, if it has one.
        back: (2, 3) affine from the crop to the frame, as ``align`` gives it.
        paste: how the architecture's crops are weighed.
    """
    height, width = frame.shape[:2]
    crop = swapped[0].transpose(1, 2, 0) * np.float32(255)
    face = cv2.warpAffine(crop, back, (width, height))
    alpha = cv2.warpAffine(paste.alpha(mask, crop.shape[0]), back, (width, height))[..., None]
    blended: NDArray[np.float32] = face * alpha + frame * (1 - alpha)
    return blended.clip(0, 255)


def _pixels(array: NDArray[Any]) -> Image:
    """What OpenCV made of 8-bit pixels is 8-bit pixels; its annotations do not say so."""
    assert array.dtype == np.uint8
    return array
