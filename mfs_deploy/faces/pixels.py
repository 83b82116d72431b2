"""Images as arrays: (H, W, 3) uint8 RGB, and as the tensors that networks take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.faces.opencv import cv2

Image = NDArray[np.uint8]  # (H, W, 3) RGB
Landmarks = NDArray[np.float64]  # (5, 2) x, y in pixels: the eyes, the nose tip, the mouth corners; image left first


def resize(image: Image, size: int) -> Image:
    return as_image(cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR))


def shrink(image: Image, width: int, height: int) -> Image:
    """A smaller picture, each pixel the mean of those it covers."""
    return as_image(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def to_tensor(image: Image) -> NDArray[np.float32]:
    """(H, W, 3) uint8 to (1, 3, H, W) float32 in [0, 1]."""
    return np.ascontiguousarray(image.astype(np.float32).transpose(2, 0, 1)[None] / np.float32(255))


def to_image(tensor: NDArray[np.float32]) -> Image:
    """(1, 3, H, W) float32 in [0, 1] to (H, W, 3) uint8, rounded; for pictures, not for paste-back."""
    return as_image(np.clip(np.rint(tensor[0].transpose(1, 2, 0) * 255), 0, 255).astype(np.uint8))


def as_image(array: NDArray[Any]) -> Image:
    """The same array, typed: OpenCV keeps 8-bit pixels, and its annotations do not say so."""
    assert array.dtype == np.uint8
    return array
