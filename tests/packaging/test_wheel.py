"""``pip install .`` gives a whole package: an editable install hides what a wheel lacks."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from mfs_deploy import cli

# What is beside the package in a checkout, and inside it in a wheel.
DATA = ("export_configs/*.toml", "models/*/card.toml", "models/demo/weights/*.safetensors")
LANDMARKS = "203,101,247,103,225,126,204.4,140.4,243.6,141.6"


def content(source: Path) -> set[str]:
    """What a wheel has to hold: every file of the package, and the data."""
    package = {str(path.relative_to(source)) for path in (source / "mfs_deploy").rglob("*") if path.is_file()}
    return package | {f"mfs_deploy/{path.relative_to(source)}" for pattern in DATA for path in source.glob(pattern)}


def held(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_a_wheel_holds_the_package_and_its_data_and_nothing_else(wheel, source):
    expected = content(source)
    assert {"mfs_deploy/devices/phone.py", "mfs_deploy/models/demo/weights/generator.safetensors"} <= expected
    assert held(wheel) == expected


def test_a_source_distribution_builds_the_same_wheel(wheel, source, tmp_path):
    code = "from setuptools import build_meta; import sys; build_meta.build_sdist(sys.argv[1])"
    place = tmp_path / "source"
    place.symlink_to(source)
    subprocess.run([sys.executable, "-c", code, tmp_path], cwd=place, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as members:
        members.extractall(tmp_path / "unpacked", filter="data")
    (folder,) = (tmp_path / "unpacked").iterdir()
    code = "from setuptools import build_meta; import sys; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, tmp_path], cwd=folder, check=True, capture_output=True)
    (built,) = tmp_path.glob("*.whl")
    assert held(built) == held(wheel)


# ---- the package as a wheel installs it


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A new virtual environment's ``bin``: the wheel, and all other packages from the environment that runs the tests."""
    place = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", place / "bin" / "python"]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", wheel], check=True)
    (packages,) = place.glob("lib/python*/site-packages")
    # The links of editable installs lie there in .pth files, which are not read in a folder that a .pth file names.
    (packages / "third_party.pth").write_text(sysconfig.get_path("purelib"))
    return place / "bin"


@pytest.fixture(scope="module")
def run(installed, tmp_path_factory, cache_home) -> Callable[..., str]:
    """A program of ``installed`` and its arguments to what it prints; run far from the checkout."""
    folder = tmp_path_factory.mktemp("elsewhere")
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "XDG_CACHE_HOME": str(cache_home), "OMP_NUM_THREADS": "1"}

    def run(program: str, *args: object) -> str:
        ran = subprocess.run(
            [installed / program, *map(str, args)], capture_output=True, text=True, cwd=folder, env=env, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    return run


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory) -> Path:
    """Of the demo person, with an ONNX artifact."""
    place = tmp_path_factory.mktemp("bundle") / "demo"
    run("mfs-export", "--checkpoint", "demo", "--source", "demo", "--backends", "onnx", "--out", place, "--quiet")
    return place


def verbs(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from verbs(below, *path, name)


def test_the_installed_package_is_the_one_that_runs(run, installed):
    place = Path(run("python", "-c", "import mfs_deploy; print(mfs_deploy.__file__)").strip())
    assert place.is_relative_to(installed.parent)


@pytest.mark.parametrize("verb", list(verbs(cli.mfs)), ids=" ".join)
def test_every_verb_says_what_it_does(run, verb):
    assert run("mfs", *verb, "--help").startswith(f"Usage: mfs {' '.join(verb)}".strip())


def test_every_backend_converts_and_runs(run):
    found = json.loads(run("mfs", "doctor", "--json"))
    assert {one["backend"] for one in found["backends"] if one["works"]} == {"onnx", "tflite", "ncnn", "coreml"}


def test_a_bundle_made_there_is_checked_timed_shown_and_used_there(run, bundle, portrait, tmp_path):
    from PIL import Image

    assert json.loads(run("mfs", "inspect", bundle, "--json"))["kind"] == "bundle"
    assert json.loads(run("mfs", "parity", bundle, "--json"))["artifacts"].keys() == {"onnx"}
    (tmp_path / "bench.json").write_text(run("mfs", "bench", bundle, "--runs", "100", "--json"))
    run("mfs", "report", bundle, tmp_path / "bench.json", "--out", tmp_path / "report.html")
    assert "<svg" in (tmp_path / "report.html").read_text("utf-8")
    Image.fromarray(portrait).save(tmp_path / "photo.png")
    run(
        "mfs",
        "swap",
        "--bundle",
        bundle,
        "--image",
        tmp_path / "photo.png",
        "--landmarks",
        LANDMARKS,
        "--out",
        tmp_path / "out.png",
    )
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (512, 512)
