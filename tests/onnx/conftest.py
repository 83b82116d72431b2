"""ONNX artifacts of the test network, converted once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mfs_deploy import architecture
from mfs_deploy.backends import onnx
from mfs_deploy.backends.base import Conversion
from mfs_deploy.quant import recipe

Convert = Callable[..., Path]
METADATA = {"mfs.recipe": "as asked", "mfs.identity": "Zoë"}


@pytest.fixture(scope="session")
def contract():
    return architecture.get("mobilefaceswap").contract(224)


@pytest.fixture(scope="session")
def convert(tmp_path_factory: pytest.TempPathFactory, contract) -> Convert:
    """A graph and the name of a recipe to the path of an artifact."""

    def run(graph, name: str, keep: tuple[str, ...] = (), size: int = 224) -> Path:
        folder = tmp_path_factory.mktemp("onnx")
        size_contract = architecture.get("mobilefaceswap").contract(size)
        onnx.convert(Conversion(graph, size_contract, recipe.load(name), frozenset(keep), METADATA), folder)
        assert [p.name for p in folder.iterdir()] == list(onnx.FILES)
        return folder / onnx.FILES[0]

    return run


@pytest.fixture(scope="session")
def fp32(convert: Convert, graph) -> Path:
    return convert(graph, "fp32")


@pytest.fixture(scope="session")
def fp16(convert: Convert, graph) -> Path:
    return convert(graph, "fp16")


@pytest.fixture(scope="session")
def noise(net) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seeded noise (1, 3, 224, 224) in [0, 1] and what PyTorch makes of it."""
    import torch

    target = np.random.default_rng(0).random((1, 3, 224, 224), dtype=np.float32)
    with torch.inference_mode():
        swapped, mask = net(torch.from_numpy(target))
    return target, swapped.numpy(), mask.numpy()
