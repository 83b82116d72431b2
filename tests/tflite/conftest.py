"""TFLite artifacts of the test network.  The converter takes 15 s, so recipes are applied again to what it gave once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mfs_deploy.backends import tflite
from mfs_deploy.backends.base import Conversion
from mfs_deploy.quant import recipe


@pytest.fixture(scope="session")
def lowered(artifact) -> bytes:
    """The network in float32, to ``finish`` once more: all that ``finish`` gave it is replaced."""
    return artifact("tflite", "fp32").read_bytes()


@pytest.fixture(scope="session")
def make(lowered: bytes, graph, contract, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The name of a recipe, and nodes to keep in float32, to the path of an artifact."""

    def run(name: str, keep: tuple[str, ...] = (), network=graph, start: bytes = lowered) -> Path:
        path = tmp_path_factory.mktemp("tflite") / tflite.FILES[0]
        path.write_bytes(tflite.finish(start, Conversion(network, contract, recipe.load(name), frozenset(keep))))
        return path

    return run
