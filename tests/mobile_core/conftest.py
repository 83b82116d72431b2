"""mobile_core built once and kept between runs, and bundles for it.  Skipped, with the reason, without a compiler and CMake."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from testing import core_library

REPOSITORY = Path(__file__).parents[2]
CORE = REPOSITORY / "mobile_core"


@pytest.fixture(scope="session")
def dependencies(kept) -> ModuleType:
    """``get_dependencies.py``, its part of the cache being the user's own."""
    kept("mobile_core")
    spec = importlib.util.spec_from_file_location("get_dependencies", CORE / "get_dependencies.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    try:
        for name in ("cmake", "ninja", "c++"):
            module.program(name)
    except SystemExit as exc:
        pytest.skip(str(exc))
    return module


@pytest.fixture(scope="session")
def built(dependencies, once) -> Callable[..., Path]:
    """A name and CMake's options to a folder with the programs built, in build/; only what changed is compiled."""

    def build(
        name: str,
        *options: str,
        toolchain: Path | None = None,
        settings: dict[str, str] | None = None,
        targets: tuple[str, ...] = (),
    ) -> Path:
        place = REPOSITORY / "build" / f"mobile_core-{name}"

        def make(_: Path) -> None:
            try:
                given = [f"-DMFS_SOURCES={dependencies.sources()}", f"-DMFS_NCNN={dependencies.ncnn(toolchain)}"]
                given += ["-DMFS_TESTS=ON", *options]
                given += [f"-DCMAKE_TOOLCHAIN_FILE={toolchain}"] if toolchain else []
                dependencies.compile(CORE, place, given, settings or {}, *targets)
            except SystemExit as exc:
                pytest.fail(str(exc))

        once(f"mobile-core-{name}", make)
        return place

    return build


@pytest.fixture(scope="session")
def host(built) -> Path:
    """Every source compiled by itself, without warnings."""
    return built("host")


@pytest.fixture(scope="session")
def sanitized(built) -> Path:
    """Our own code under the address and undefined-behaviour sanitizers."""
    return built("sanitized", "-DMFS_SANITIZE=address,undefined", "-DMFS_UNITY=ON")


@pytest.fixture(scope="session")
def arm64(environment, dependencies, built) -> Path:
    """The programs for 64-bit ARM, and the emulated machine.  Skipped where this machine cannot have it."""
    return built(
        "arm64",
        "-DMFS_STATIC=ON",
        "-DMFS_UNITY=ON",
        toolchain=dependencies.AARCH64,
        settings=dependencies.cross_compiler(),
        targets=("mfs-bench-device", "mfs-core-test"),
    )


@pytest.fixture(scope="session")
def library(host: Path) -> core_library.Library:
    """The C API."""
    return core_library.Library(host / "tests" / "libmfs_core_shared.so")


# ---- bundles


@pytest.fixture(scope="session")
def demo_bundle(once) -> Path:
    """As ``mfs export`` writes it, in half precision."""
    from mfs_deploy import cli

    def make(folder: Path) -> None:
        args = ["export", "--checkpoint", "demo", "--source", "demo", "--backends", "ncnn", "--recipe", "fp16", "--quiet"]
        assert cli.main([*args, "--out", str(folder / "demo")]) == 0

    return once("core-bundle-demo", make) / "demo"


@pytest.fixture(scope="session")
def reference(once) -> Callable[[Path], Path]:
    """A bundle to a folder with its reference tensors, unpacked as for a phone."""
    from mfs_deploy.bundle import reference_file

    def unpack(bundle: Path) -> Path:
        return once(f"core-reference-{bundle.name}", lambda folder: reference_file.unpack(bundle / reference_file.NAME, folder))

    return unpack


@pytest.fixture
def copy(golden_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return Path(shutil.copytree(golden_bundle, tmp_path / "face"))


@pytest.fixture(scope="session")
def bare_bundle(once) -> Callable[[str], Path]:
    """An architecture to a bundle without networks: what aligning and pasting need, and a file in place of an artifact."""
    from testing import core_bundles

    def make(arch: str) -> Path:
        return once(f"core-bare-{arch}", lambda folder: core_bundles.write_bare(folder, arch))

    return make


@pytest.fixture(scope="session")
def swapped(golden) -> tuple[np.ndarray, np.ndarray]:
    """A swapped crop and a mask with soft, hard and tiny values: (1, 3, 224, 224) and (1, 1, 224, 224)."""
    y, x = np.mgrid[:224, :224]
    mask = np.clip(1.2 - np.hypot((x - 112) / 80, (y - 120) / 100), 0, 1).astype(np.float32)
    mask += 1e-4 * np.random.default_rng(0).random((224, 224), np.float32)
    picture = golden["target_aligned_bgr"][..., ::-1].astype(np.float32)[::-1].transpose(2, 0, 1)[None] / 255
    return np.ascontiguousarray(picture), mask[None, None]
