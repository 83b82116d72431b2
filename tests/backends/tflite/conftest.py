"""TFLite artifacts of the test network.  The converter takes 15 s, so recipes are applied again to what it gave once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mfs_deploy.backends.base import Conversion
from mfs_deploy.backends.tflite import backend as tflite
from mfs_deploy.faces import pixels
from mfs_deploy.quant import recipes
from mfs_deploy.quant.ranges import observe


@pytest.fixture(scope="session")
def make(lowered: bytes, graph, contract, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The name of a recipe, and nodes to keep in float32, to the path of an artifact."""

    def run(name: str, keep: tuple[str, ...] = (), network=graph, start: bytes = lowered) -> Path:
        path = tmp_path_factory.mktemp("tflite") / tflite.FILES[0]
        path.write_bytes(tflite.finish(start, Conversion(network, contract, recipes.load(name), frozenset(keep))))
        return path

    return run


@pytest.fixture(scope="session")
def crops(crop, portrait) -> np.ndarray:
    """What ranges are observed on: the aligned portrait, mirrored, darker, and the whole photo shrunk."""
    whole = pixels.to_tensor(pixels.resize(portrait, 224))
    return np.concatenate([crop, crop[..., ::-1], crop * np.float32(0.6), whole])


@pytest.fixture(scope="session")
def ranges(graph, crops):
    return observe(graph, crops)


@pytest.fixture(scope="session")
def quantized(lowered, graph, contract, ranges, tmp_path_factory):
    """Weights, activations, and further fields of the recipe and the conversion, to the path of an artifact."""

    def run(weights: str, activations: str, *, operations=None, layers=None, **options):
        wanted = recipes.Recipe("test", weights, activations, "", operations or {}, layers or {})
        job = Conversion(graph, contract, wanted, **{"ranges": ranges, **options})
        path = tmp_path_factory.mktemp("tflite") / tflite.FILES[0]
        path.write_bytes(tflite.finish(lowered, job))
        return path

    return run
