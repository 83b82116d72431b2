"""A server: ``pip install .`` without extras brings no PyTorch, and that is enough to make people's bundles from a kit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mfs_deploy import manifest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LANDMARKS = "203,101,247,103,225,126,204.4,140.4,243.6,141.6"
LARGEST = 370_000_000  # bytes; OpenCV has 153 million of them, NumPy 73, ONNX Runtime 68, the demo weights 44
NOT_OURS = ("pip", "setuptools", "pkg_resources", "_distutils_hack")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of a new virtual environment."""
    source, place = tmp_path_factory.mktemp("source") / "mfs-deploy", tmp_path_factory.mktemp("server") / "venv"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "constraints.txt"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "mfs_deploy", source / "mfs_deploy", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    pip = [place / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    reached = subprocess.run(
        [*pip, "download", "--no-deps", "-d", source.parent, "click"], capture_output=True, text=True, check=False
    )
    if reached.returncode:
        pytest.skip(f"pip cannot reach its index: {reached.stderr.splitlines()[-1]}")
    subprocess.run([*pip, "install", "--no-compile", "-c", source / "constraints.txt", source], check=True, capture_output=True)
    return place


@pytest.fixture
def mfs_there(installed, tmp_path):
    """``mfs VERB ARGS...`` of that environment; what it prints as JSON."""

    def run(*args: object):
        env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        command = [installed / "bin" / "mfs", *map(str, args), "--json"]
        ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, check=False)
        assert ran.returncode == 0, ran
        return json.loads(ran.stdout)

    return run


def test_it_stays_small_and_brings_no_pytorch(installed):
    (packages,) = installed.glob("lib/python*/site-packages")
    names = {path.name.split("-")[0].lower() for path in packages.iterdir()}
    assert not names & {"torch", "onnx", "coremltools", "ncnn", "skimage", "ai_edge_litert", "litert_torch", "scipy"}
    files = [f for f in packages.rglob("*") if f.is_file() and f.relative_to(packages).parts[0].split("-")[0] not in NOT_OURS]
    bytes_of = sum(f.stat().st_size for f in files if f.suffix != ".pyc")
    assert 100_000_000 < bytes_of < LARGEST


def test_a_photo_and_an_identity_are_stamped_there_with_the_same_bytes(mfs_there, mfs, kit, photo, somebody, tmp_path):
    who = {"photo": ("--source", photo, "--landmarks", LANDMARKS), "identity": ("--identity", somebody(0))}
    for name, args in who.items():
        mfs_there("stamp", kit, *args, "--targets", "onnx,ncnn", "--out", tmp_path / "there" / name)
        assert mfs_there("inspect", tmp_path / "there" / name)["kind"] == "bundle"
        assert mfs("stamp", kit, *args, "--targets", "onnx,ncnn", "--out", tmp_path / "here" / name).code == 0
        assert manifest.list_files(tmp_path / "there" / name) == manifest.list_files(tmp_path / "here" / name)


def test_the_artifact_that_was_stamped_there_runs_there(installed, mfs_there, kit, somebody, tmp_path):
    mfs_there("stamp", kit, "--identity", somebody(0), "--targets", "onnx", "--out", tmp_path / "x")
    code = """
import numpy, onnxruntime, sys
outputs = onnxruntime.InferenceSession(sys.argv[1]).run(None, {"target": numpy.full((1, 3, 224, 224), 0.5, numpy.float32)})
numpy.savez(sys.argv[2], *outputs)
"""
    subprocess.run([installed / "bin" / "python", "-c", code, tmp_path / "x" / "swap.onnx", tmp_path / "got.npz"], check=True)
    with np.load(tmp_path / "got.npz") as got:
        assert [got[name].shape for name in got] == [(1, 3, 224, 224), (1, 1, 224, 224)]
        assert all(np.isfinite(got[name]).all() for name in got)


def test_a_batch_is_done_there(mfs_there, kit, photo, somebody, tmp_path):
    rows = [f'a,{photo},,"{LANDMARKS}"', *(f"p{i},,{somebody(i)}," for i in range(3))]
    (tmp_path / "people.csv").write_text("\n".join(["id,photo,identity,landmarks", *rows]))
    args = ("batch", tmp_path / "people.csv", "--kit", kit, "--targets", "onnx,ncnn", "--out", tmp_path / "out", "--workers", "2")
    assert mfs_there(*args)["counts"] == {"done": 4}
    for name in ("a", "p0", "p1", "p2"):
        assert manifest.verify(tmp_path / "out" / name, manifest.read(tmp_path / "out" / name)) == []
    assert mfs_there(*args)["counts"] == {"kept": 4}
