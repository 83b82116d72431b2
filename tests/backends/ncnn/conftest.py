"""An NCNN artifact to damage, and int8 artifacts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def copy(fp32: Path, tmp_path: Path) -> Path:
    """An fp32 artifact that a test may damage."""
    for file in (fp32, fp32.with_suffix(".bin")):
        shutil.copy(file, tmp_path)
    return tmp_path / fp32.name


@pytest.fixture(scope="session")
def crops(crop) -> np.ndarray:
    """The aligned portrait, its mirror image, darker and brighter, (4, 3, 224, 224)."""
    return np.concatenate([crop, crop[..., ::-1], crop * 0.7, np.minimum(crop * 1.2 + 0.05, 1)]).astype(np.float32)


@pytest.fixture(scope="session")
def seen(graph, crops) -> dict:
    """The ranges of ``graph`` on ``crops``."""
    from mfs_deploy.quant import ranges

    return ranges.observe(graph, crops)


@pytest.fixture(scope="session")
def quantized(graph, contract, seen, tmp_path_factory) -> Callable[..., Path]:
    """What a recipe of int8 leaves in other formats, by layer and by kind, to the path of a new artifact."""
    from mfs_deploy.backends.base import Conversion
    from mfs_deploy.backends.ncnn import backend as ncnn
    from mfs_deploy.quant.recipes import Format, Recipe

    def make(network=graph, ranges=seen, default=("int8", "int8"), keep=(), **tables) -> Path:
        if default == ("int8", "int8"):  # asked for by kind, so that int8 is tested where it does not pay as well
            tables = {"operations": {"conv": Format("int8", "int8")}, **tables}
        folder = tmp_path_factory.mktemp("ncnn-int8")
        recipe = Recipe("int8", default[0], default[1], "for tests", **tables)
        ncnn.convert(Conversion(network, contract, recipe, frozenset(keep), ranges=ranges), folder)
        return folder / ncnn.FILES[0]

    return make


@pytest.fixture(scope="session")
def int8(quantized) -> Path:
    """All convolutions int8.  Do not write into it."""
    return quantized()


@pytest.fixture
def flips_refused(contract) -> Callable[[Path], int]:
    """An artifact to how many of 200 flipped bits in its graph are refused.

    A bit that survives the check must leave something that ncnn can run, which ``open`` does: it must not end the process.
    """
    from mfs_deploy.backends.ncnn import backend as ncnn
    from mfs_deploy.errors import BundleError

    def flip(path: Path) -> int:
        data, refused = path.read_bytes(), 0
        rng = np.random.default_rng(0)
        for at, bit in zip(rng.integers(0, len(data), 200), rng.integers(0, 8, 200), strict=True):
            damaged = bytearray(data)
            damaged[at] ^= 1 << int(bit)
            path.write_bytes(damaged)
            try:
                ncnn.open(path, contract)
            except BundleError:
                refused += 1
        return refused

    return flip
