"""Synthetic detectors that find the sample portrait, opened once, and pictures without a face."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfs_deploy.faces import detectors
from mfs_deploy.faces.portrait import LANDMARKS
from testing import detector_model


@pytest.fixture(scope="session")
def scrfd_file(portrait, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scrfd") / "scrfd.onnx"
    detector_model.write_scrfd(path, portrait, LANDMARKS)
    return path


@pytest.fixture(scope="session")
def yunet_file(portrait, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("yunet") / "yunet.onnx"
    detector_model.write_yunet(path, portrait, LANDMARKS)
    return path


@pytest.fixture(scope="session")
def scrfd(scrfd_file) -> detectors.Detector:
    return detectors.open_detector(scrfd_file)


@pytest.fixture(scope="session")
def yunet(yunet_file) -> detectors.Detector:
    return detectors.open_detector(yunet_file)


@pytest.fixture(params=["coffee.png", "chelsea.png"])
def faceless(request) -> np.ndarray:
    """A cup of coffee (400, 600, 3); a cat (300, 451, 3)."""
    with resources.files("skimage.data").joinpath(request.param).open("rb") as f, Image.open(f) as image:
        return np.array(image.convert("RGB"))
