"""NCNN artifacts of the test network, converted once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mfs_deploy import architecture
from mfs_deploy.backends import ncnn
from mfs_deploy.backends.base import Conversion
from mfs_deploy.quant import recipe

Convert = Callable[..., Path]


@pytest.fixture(scope="session")
def contract():
    return architecture.get("mobilefaceswap").contract(224)


@pytest.fixture(scope="session")
def convert(tmp_path_factory: pytest.TempPathFactory) -> Convert:
    """A graph and the name of a recipe to the path of an artifact."""

    def run(graph, name: str, keep: tuple[str, ...] = (), size: int = 224) -> Path:
        folder = tmp_path_factory.mktemp("ncnn")
        contract = architecture.get("mobilefaceswap").contract(size)
        ncnn.convert(Conversion(graph, contract, recipe.load(name), frozenset(keep)), folder)
        assert sorted(p.name for p in folder.iterdir()) == sorted(ncnn.FILES)
        return folder / ncnn.FILES[0]

    return run


@pytest.fixture(scope="session")
def fp32(convert: Convert, graph) -> Path:
    return convert(graph, "fp32")


@pytest.fixture(scope="session")
def fp16(convert: Convert, graph) -> Path:
    return convert(graph, "fp16")


@pytest.fixture
def copy(fp32: Path, tmp_path: Path) -> Path:
    """An fp32 artifact that a test may damage."""
    for file in (fp32, fp32.with_suffix(".bin")):
        shutil.copy(file, tmp_path)
    return tmp_path / fp32.name


@pytest.fixture(scope="session")
def noise(net) -> Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A size to seeded noise (1, 3, S, S) in [0, 1] and what PyTorch makes of it."""
    import torch

    def run(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        target = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
        with torch.inference_mode():
            swapped, mask = net(torch.from_numpy(target))
        return target, swapped.numpy(), mask.numpy()

    return run
