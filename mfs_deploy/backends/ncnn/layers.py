"""Weights and values inside an NCNN artifact.  See ``base.Layered``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from mfs_deploy.backends.base import ACTIVATED, Array, ConvWeights
from mfs_deploy.backends.ncnn import backend as ncnn
from mfs_deploy.backends.ncnn.files import scales
from mfs_deploy.backends.ncnn.operations import CONVOLUTIONS, INT8, REQUANTIZED
from mfs_deploy.contract import Contract
from mfs_deploy.errors import ConversionError

UNNAMED = ("Input", "Split", "Dropout")  # layers that are no node's


def weights(path: Path) -> ConvWeights:
    layers, stored = ncnn.read(path)
    found: ConvWeights = {}
    for layer in layers:
        if layer.type not in CONVOLUTIONS:
            continue
        arrays = stored[layer.name]
        outputs = layer.integer(0)
        weight = arrays[0].values.astype(np.float32).reshape(outputs, -1, layer.integer(11, layer.integer(1)), layer.integer(1))
        if layer.integer(INT8):
            steps = scales(layer, arrays)[0].values
            weight = weight / np.repeat(steps, outputs // len(steps))[:, None, None, None]
        found[layer.name] = weight, arrays[1].values.astype(np.float32) if layer.integer(5) else None
    return found


def values(path: Path, contract: Contract, target: Array) -> dict[str, Array]:
    layers, _ = ncnn.read(path)
    net = ncnn.load(path, contract, keep_values=True)
    found = {}
    extractor = ncnn.feed(net, contract, target)
    for layer in layers:
        if layer.type in UNNAMED or (layer.type in CONVOLUTIONS and layer.integer(INT8) > REQUANTIZED):
            continue
        code, mat = extractor.extract(layer.outputs[0])
        if code != 0:
            raise ConversionError(f"ncnn failed to compute {layer.name}, with code {code}")
        is_activated = layer.type in CONVOLUTIONS and layer.integer(9)
        found[layer.name + (ACTIVATED if is_activated else "")] = np.array(mat, np.float32)[None]
    return found


def sections(path: Path, contract: Contract, target: Array) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each layer's blob twice: the first time it is computed and given out, the second time only given out."""
    layers, _ = ncnn.read(path)
    extractor = ncnn.feed(ncnn.load(path, contract, keep_values=True), contract, target)
    for layer in layers:
        if layer.type not in ("Input", "Split"):
            yield layer.name, partial(extractor.extract, layer.outputs[0])
            yield layer.name, partial(extractor.extract, layer.outputs[0])


def layer_costs(sections: Sequence[tuple[str, int]]) -> dict[str, int]:
    pairs = zip(sections[::2], sections[1::2], strict=True)
    return {name: first - again for (name, first), (_, again) in pairs}
