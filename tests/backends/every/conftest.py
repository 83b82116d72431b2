"""Every backend under every recipe: its artifact, and how closely that must match PyTorch."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mfs_deploy import metrics
from mfs_deploy.backends.base import Backend
from mfs_deploy.backends.registry import BACKENDS
from testing.over_blocks import over_blocks

Array = np.ndarray
ARRAYS = {"coreml": {"coreml_io": "tensor"}}  # so that all take arrays; tests/backends/coreml has the pixel buffers
Matches = Callable[[tuple[Array, Array], tuple[Array, Array]], None]

# Least PSNR in dB and largest error, of the swapped crop and of the mask.  Measured at worst, over all backends: fp32 140.6 dB and
# 2.6e-6, 131.1 dB and 7.2e-6; fp16 78.9 dB and 1.1e-3, 74.9 dB and 2.8e-3, where arithmetic is float32 as on x86.
BOUNDS = {"fp32": ((135, 4e-6), (128, 8e-6)), "fp16": ((73, 4e-3), (73, 4e-3))}
# Our evaluator of Core ML rounds to float16 after every operation: 72.9 dB and 2.3e-3, 68.9 dB and 4.8e-3.
ROUNDED = {"coreml": ((71, 4e-3), (67, 6e-3))}
# Processors that also add up in float16.  Measured on an emulated Cortex-A76: 57 dB and 1.7e-2.
HALF_ARITHMETIC = ((54, 2.5e-2), (54, 2.5e-2))


@dataclass(frozen=True)
class Form:
    """What a file format does its own way.

    Attributes:
        title: as ``describe`` has it.
        axes: the order of those of an input or output.
        float32_biases: fp16 artifacts store only weights in float16.
        metadata: it has a place for it.
    """

    title: str
    axes: str
    float32_biases: bool = False
    metadata: bool = True


FORMS = {
    "onnx": Form("ONNX opset 20", "NCHW"),
    "tflite": Form("TFLite schema 3", "NHWC", float32_biases=True),
    "ncnn": Form("ncnn param 7767517", "CHW", float32_biases=True, metadata=False),
    "coreml": Form("Core ML program, specification 7 (iOS 16)", "NCHW"),
}


@pytest.fixture(scope="session", params=BACKENDS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def backend(name: str) -> Backend:
    return BACKENDS[name]


@pytest.fixture(scope="session")
def form(name: str) -> Form:
    return FORMS[name]


@pytest.fixture(scope="session", params=sorted(BOUNDS))
def recipe(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def converted(artifact, name: str) -> Callable[[str], Path]:
    """A recipe to the path of an artifact."""
    return lambda recipe: artifact(name, recipe, **ARRAYS.get(name, {}))


@pytest.fixture(scope="session")
def fp32(converted) -> Path:
    return converted("fp32")


@pytest.fixture
def copy(fp32: Path, tmp_path: Path) -> Path:
    """An fp32 artifact that a test may damage."""
    return shutil.copytree(fp32.parent, tmp_path / "copy") / fp32.name


@pytest.fixture(scope="session")
def files() -> Callable[[Path], list[Path]]:
    """The path of an artifact to all its files; one of FILES may be a folder."""
    return lambda path: sorted(p for p in path.parent.rglob("*") if p.is_file())


@pytest.fixture(scope="session")
def noise(net) -> Callable[[int], tuple[Array, tuple[Array, Array]]]:
    """A size to seeded noise (1, 3, S, S) in [0, 1] and what PyTorch makes of it."""
    import torch

    def make(size: int) -> tuple[Array, tuple[Array, Array]]:
        target = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
        with torch.inference_mode():
            swapped, mask = net(torch.from_numpy(target))
        return target, (swapped.numpy(), mask.numpy())

    return make


@pytest.fixture(scope="session")
def stored(form: Form) -> Callable[..., dict[str, int]]:
    """A graph and the modules kept in float32 to the values that an fp16 artifact stores, by dtype."""

    def count(network, kept: tuple[str, ...] = ()) -> dict[str, int]:
        counts = {"float16": 0, "float32": 0}
        for name, values in network.named_parameters():
            module, kind = name.rsplit(".", 1)
            full = module in kept or (kind == "bias" and form.float32_biases)
            counts["float32" if full else "float16"] += values.numel()
        return {dtype: n for dtype, n in counts.items() if n}

    return count


@pytest.fixture(scope="session")
def as_run(name: str) -> Callable:
    """A graph to the one that the backend makes of it before it converts."""
    import copy

    from mfs_deploy.backends.ncnn import rewrites

    def rewritten(graph):
        graph = copy.deepcopy(graph)
        if name == "ncnn":
            rewrites.rewrite(graph, bool)
        if name == "tflite":
            graph = over_blocks(graph)
        return graph

    return rewritten


@pytest.fixture(scope="session")
def matches(name: str) -> Callable[[str], Matches]:
    """A recipe to an assertion that a frame is as PyTorch has it."""

    def of(recipe: str) -> Matches:
        bounds = BOUNDS[recipe]
        if recipe == "fp16":
            half = HALF_ARITHMETIC if platform.machine() in ("aarch64", "arm64") else bounds
            bounds = ROUNDED.get(name, half)

        def check(frame: tuple[Array, Array], wanted: tuple[Array, Array]) -> None:
            for got, want, (least_db, largest) in zip(frame, wanted, bounds, strict=True):
                assert got.dtype == np.float32
                assert metrics.psnr_db(got, want, peak=1.0) > least_db
                assert metrics.max_error(got, want) < largest

        return check

    return of
