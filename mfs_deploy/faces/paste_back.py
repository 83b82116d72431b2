"""Paste-back: a swapped crop blended into the frame it was cut from, by the network's mask or a fixed ellipse.

Masks are (H, W) float32 in [0, 1].  Source: the MobileFaceSwap authors' ``utils/util.py``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.faces.opencv import cv2
from mfs_deploy.faces.pixels import Image, as_image

# For a manifest: the steps of ``blend`` and ``paste_back`` for a crop and its weights.
BLENDING = {
    "interpolation": "bilinear",
    "outside": 0,
    "blend": "255 * swapped * alpha + frame * (1 - alpha)",
    "rounding": "toward zero, of what is clipped to [0, 255]",
}
BLENDING_STEPS = ("warp", "blend", "round")


@dataclass(frozen=True)
class PasteBack:
    """How the mask of a crop is thresholded, blurred at its edge, and faded out at the crop's border.  In pixels of the crop."""

    threshold: float = 0.001  # above it the mask becomes 1
    morph_kernel: int = 11  # one dilation, then two erosions
    dilations: int = 1
    erosions: int = 2
    blur_kernel: int = 7
    border: int = 10  # this margin is 0 before ...
    border_blur_kernel: int = 11  # ... this blur

    def alpha(self, mask: NDArray[np.float32] | None, size: int) -> NDArray[np.float32]:
        """The (S, S) weight of the swapped crop, from the network's (1, 1, S, S) mask."""
        assert mask is not None
        assert mask.shape[2:] == (size, size)
        return soften(mask[0, 0], self)

    def as_dict(self) -> dict[str, object]:
        """The whole paste-back as a manifest has it: its steps in order, and what all crops have in common."""
        return {
            **asdict(self),
            **BLENDING,
            "kind": "mask",
            "steps": ("threshold", "dilate", "erode", "blur", "border", *BLENDING_STEPS),
            "threshold_rule": "1 where mask > threshold, else mask",
            "morph_shape": "square",
            "morph_border": "pixels outside the crop do not count",
            "blur": "mean over a square",
            "blur_border": "mirrored, the outermost pixel not repeated",
            "border_rule": "alpha * blur(0 in the border pixels along each side, 1 inside)",
        }


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

    def as_dict(self) -> dict[str, object]:
        """As ``PasteBack.as_dict``."""
        r = "hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1])"
        return {
            **asdict(self),
            **BLENDING,
            "kind": "ellipse",
            "steps": ("ellipse", *BLENDING_STEPS),
            "ellipse_rule": f"clip((1 - {r}) / edge, 0, 1) with x = (column + 0.5) / size, y = (row + 0.5) / size",
        }


PASTE_BACK = PasteBack()


def soften(mask: NDArray[np.float32], p: PasteBack = PASTE_BACK) -> NDArray[np.float32]:
    """The network's mask (S, S) as paste-back uses it: 1 inside, a soft edge, 0 at the crop's border."""
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
    return as_image(blend(frame, swapped, mask, back, paste).astype(np.uint8))


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
        paste: how the architecture weights its crops.
    """
    height, width = frame.shape[:2]
    crop = swapped[0].transpose(1, 2, 0) * np.float32(255)
    face = cv2.warpAffine(crop, back, (width, height))
    alpha = cv2.warpAffine(paste.alpha(mask, crop.shape[0]), back, (width, height))[..., None]
    blended: NDArray[np.float32] = face * alpha + frame * (1 - alpha)
    return blended.clip(0, 255)
