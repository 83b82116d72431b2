"""The sample portrait: NASA's public-domain photograph of Eileen Collins, from scikit-image."""

from __future__ import annotations

from importlib import resources

import numpy as np

from mfs_deploy.errors import MissingExtra
from mfs_deploy.faces.pixels import Image, Landmarks

LANDMARKS: Landmarks = np.array([(203, 101), (247, 103), (225, 126), (204.4, 140.4), (243.6, 141.6)], np.float64)


def read_portrait() -> Image:
    """The portrait, (512, 512, 3) uint8 RGB."""
    from PIL import Image as PillowImage

    try:
        folder = resources.files("skimage.data")
    except ModuleNotFoundError as exc:
        raise MissingExtra("convert", "scikit-image", "the sample portrait") from exc
    with folder.joinpath("astronaut.png").open("rb") as f, PillowImage.open(f) as image:
        return np.array(image.convert("RGB"))
