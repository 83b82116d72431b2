"""Running verbs as a user does: in this process where that shows enough, in one of their own where signals and limits matter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mfs_deploy import cli
from mfs_deploy.bundle import manifest

LANDMARKS = "203,101,247,103,225,126,204.4,140.4,243.6,141.6"


@pytest.fixture(scope="session")
def photo(portrait, once) -> Path:
    from PIL import Image

    return once("photo", lambda folder: Image.fromarray(portrait).save(folder / "eileen.png")) / "eileen.png"


@pytest.fixture(scope="session")
def export_args(checkpoint, photo) -> list[str]:
    """A real export of one backend, as short as it can be."""
    args = ["export", "--checkpoint", checkpoint, "--source", photo, "--landmarks", LANDMARKS, "--backends", "onnx"]
    return [str(a) for a in args]


@pytest.fixture(scope="session")
def made(export_args, once) -> Path:
    """A bundle with an ONNX artifact in fp32; not to be changed."""

    def make(folder: Path) -> None:
        assert cli.main([*export_args, "--recipe", "fp32", "--out", str(folder / "face01"), "--quiet"]) == 0

    return once("made", make) / "face01"


@pytest.fixture(scope="session")
def made_int8(once) -> Path:
    """A bundle of the demo with an NCNN artifact in int8; not to be changed."""

    def make(folder: Path) -> None:
        args = ["export", "--checkpoint", "demo", "--source", "demo", "--backends", "ncnn", "--recipe", "w8a8"]
        assert cli.main([*args, "--calibration", "demo", "--out", str(folder / "face"), "--quiet"]) == 0

    return once("made-int8", make) / "face"


@pytest.fixture
def bundle(made, tmp_path) -> Path:
    """A copy of ``made`` to spoil."""
    import shutil

    return Path(shutil.copytree(made, tmp_path / "face01"))


# A shell's background jobs are started with Ctrl-C ignored: undo that, set the limit, and become the verb.  In the child and not as
# a preexec_fn, since that forks this process, whose threads other tests' libraries started.
LAUNCH = """
import resource, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
limit = int(sys.argv.pop(1))
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
runpy.run_module("mfs_deploy", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``mfs VERB ARGS...`` in a process of its own, ended with the test; no file it writes may exceed ``largest_file`` bytes."""
    started: list[subprocess.Popen[str]] = []

    def run(*args: object, largest_file: int = 0, **kwargs: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(largest_file), *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **{"env": {**os.environ, "PYTHONUNBUFFERED": "1"}, **kwargs},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def scrfd(portrait, tmp_path_factory) -> Path:
    """A model of SCRFD's form that finds the portrait's face and no other."""
    from mfs_deploy.faces.portrait import LANDMARKS
    from testing import detector_model

    path = tmp_path_factory.mktemp("detector") / "scrfd.onnx"
    detector_model.write_scrfd(path, portrait, LANDMARKS)
    return path


# ---- the other architecture


@pytest.fixture(scope="session")
def fsgan(once) -> Path:
    """A folder with generator and identity encoder, seed 1.  Do not write into it."""
    from testing import standin_mobilefsgan

    return once("mobilefsgan", lambda folder: standin_mobilefsgan.write(folder, 1))


@pytest.fixture(scope="session")
def fsgan_bundle(once, fsgan, photo) -> Path:
    """A bundle of all backends in float16, by full conversion.  Do not write into it."""

    def make(folder: Path) -> None:
        args = ["export", "--arch", "mobilefsgan", "--checkpoint", str(fsgan), "--source", str(photo), "--landmarks", LANDMARKS]
        assert cli.main([*args, "--full-conversion", "--out", str(folder / "face"), "--quiet"]) == 0

    return once("mobilefsgan-bundle", make) / "face"


# ---- kits


@pytest.fixture(scope="session")
def kit(once) -> Path:
    """Of the demo checkpoint, with ONNX and NCNN in fp16.  Do not write into it."""

    def make(folder: Path) -> None:
        args = ["--checkpoint", "demo", "--backends", "onnx,ncnn", "--out", str(folder / "kit.safetensors"), "--quiet"]
        assert cli.main(["kit", "pack", *args]) == 0

    return once("kit", make) / "kit.safetensors"


@pytest.fixture(scope="session")
def small_kit(once, kit) -> Path:
    """``kit`` with a generator of a few kilobytes, which gives all of a person's weights one value.  Do not write into it."""
    from dataclasses import replace

    from mfs_deploy.stamping import kit as kits
    from testing import small_generator

    def make(folder: Path) -> None:
        held = kits.load(kit)
        kits.save(folder / "kit.safetensors", replace(held, generator=small_generator.make(held._generator.outputs)))

    return once("small-kit", make) / "kit.safetensors"


@pytest.fixture(scope="session")
def somebody(once, kit) -> Callable[[int], Path]:
    """A number to an identity file of a person who does not exist.  Do not write into it."""
    import numpy as np

    from mfs_deploy.architectures.mobilefaceswap.architecture import random_identity
    from mfs_deploy.checkpoint import identity_file
    from mfs_deploy.stamping import kit as kits

    encoder = kits.load(kit).encoder_sha256

    def path(seed: int) -> Path:
        def make(folder: Path) -> None:
            person = random_identity(np.random.default_rng(seed))
            identity_file.save(folder / "id.safetensors", person.embedding, person.feature_map, encoder)

        return once(f"somebody-{seed}", make) / "id.safetensors"

    return path


@pytest.fixture
def wrong_weight() -> Callable[[Path], None]:
    """Spoils some of a bundle's largest ONNX weights, behind checksums that are right, as somebody who tampers would."""

    def spoil(bundle: Path) -> None:
        import onnx
        from onnx import numpy_helper

        model = onnx.load(bundle / "swap.onnx")
        weight = max(model.graph.initializer, key=lambda t: len(t.raw_data))
        array = numpy_helper.to_array(weight).copy()
        array.reshape(-1)[::50] *= 1.5
        weight.CopyFrom(numpy_helper.from_array(array, weight.name))
        onnx.save(model, bundle / "swap.onnx")
        said = manifest.read(bundle)
        manifest.write(bundle, said | {"files": manifest.list_files(bundle)})

    return spoil
