"""TFLite artifacts of the test network.  The converter takes 15 s, so it runs once and recipes are applied to what it gave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mfs_deploy import architecture
from mfs_deploy.backends import tflite
from mfs_deploy.backends.base import Conversion
from mfs_deploy.quant import recipe

Make = Callable[..., Path]
METADATA = {"mfs.recipe": "as asked", "mfs.identity": "Zoë"}


@pytest.fixture(scope="session")
def contract():
    return architecture.get("mobilefaceswap").contract(224)


@pytest.fixture(scope="session")
def lowered(graph, contract, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("tflite") / "lowered.tflite"
    tflite._lower(graph, contract, path)
    return path.read_bytes()


@pytest.fixture(scope="session")
def make(lowered: bytes, graph, contract, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The name of a recipe, and nodes to keep in float32, to the path of an artifact."""

    def run(name: str, keep: tuple[str, ...] = (), network=graph, start: bytes = lowered) -> Path:
        path = tmp_path_factory.mktemp("tflite") / tflite.FILES[0]
        path.write_bytes(tflite.finish(start, Conversion(network, contract, recipe.load(name), frozenset(keep), METADATA)))
        return path

    return run


@pytest.fixture(scope="session")
def fp32(make: Make) -> Path:
    return make("fp32")


@pytest.fixture(scope="session")
def fp16(make: Make) -> Path:
    return make("fp16")


@pytest.fixture(scope="session")
def noise(net) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seeded noise (1, 3, 224, 224) in [0, 1] and what PyTorch makes of it."""
    import torch

    target = np.random.default_rng(0).random((1, 3, 224, 224), dtype=np.float32)
    with torch.inference_mode():
        swapped, mask = net(torch.from_numpy(target))
    return target, swapped.numpy(), mask.numpy()
