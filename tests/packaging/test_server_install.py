"""A server: ``pip install .`` without extras stays under 200 MB and makes bundles of identity files; with [photos], of photos."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mfs_deploy.bundle import manifest

ROOT = Path(__file__).parents[2]
LANDMARKS = "203,101,247,103,225,126,204.4,140.4,243.6,141.6"
LARGEST = 200_000_000  # bytes; NumPy has 73 million of them, ONNX Runtime 68, the demo weights 44
NOT_OURS = ("pip", "setuptools", "pkg_resources", "_distutils_hack")


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder of a new virtual environment."""
    place = tmp_path_factory.mktemp("server") / "venv"
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    pip = [place / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    reached = subprocess.run([*pip, "download", "--no-deps", "-d", place, "click"], capture_output=True, text=True, check=False)
    if reached.returncode:
        pytest.skip(f"pip cannot reach its index: {reached.stderr.splitlines()[-1]}")
    subprocess.run(
        [*pip, "install", "--ignore-installed", "--no-compile", "-c", ROOT / "constraints.txt", wheel],
        check=True,
        capture_output=True,
    )
    return place


@pytest.fixture(scope="module")
def with_photos(installed, tmp_path_factory) -> Path:
    """As ``pip install .[photos]`` gives it: OpenCV beside what the other has."""
    place = tmp_path_factory.mktemp("photos") / "venv"
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    (packages,) = place.glob("lib/python*/site-packages")
    (plain,) = installed.glob("lib/python*/site-packages")
    (packages / "plain.pth").write_text(str(plain))
    pip = [place / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--no-compile", "--no-deps"]
    subprocess.run([*pip, "-c", ROOT / "constraints.txt", "opencv-python-headless"], check=True, capture_output=True)
    return place


def mfs_of(place: Path, folder: Path, *args: object, code: int = 0):
    """What ``mfs VERB ARGS...`` of an environment prints as JSON."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    command = [place / "bin" / "python", "-m", "mfs_deploy", *map(str, args), "--json"]
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=folder, env=env, check=False)
    assert ran.returncode == code, ran
    return json.loads(ran.stdout)


def test_an_install_without_extras_stays_small_and_brings_no_pytorch(installed):
    (packages,) = installed.glob("lib/python*/site-packages")
    names = {path.name.split("-")[0].lower() for path in packages.iterdir()}
    assert not names & {"torch", "onnx", "coremltools", "ncnn", "skimage", "ai_edge_litert", "litert_torch", "scipy", "cv2"}
    files = [f for f in packages.rglob("*") if f.is_file() and f.relative_to(packages).parts[0].split("-")[0] not in NOT_OURS]
    bytes_of = sum(f.stat().st_size for f in files if f.suffix != ".pyc")
    assert 100_000_000 < bytes_of < LARGEST


def test_an_identity_is_stamped_there_with_the_same_bytes_and_runs_there(installed, mfs, kit, somebody, tmp_path):
    args = ("stamp", kit, "--identity", somebody(0), "--backends", "onnx,ncnn", "--out")
    mfs_of(installed, tmp_path, *args, tmp_path / "there")
    assert mfs_of(installed, tmp_path, "inspect", tmp_path / "there")["kind"] == "bundle"
    assert mfs(*args, tmp_path / "here").code == 0
    assert manifest.list_files(tmp_path / "there") == manifest.list_files(tmp_path / "here")
    code = """
import numpy, onnxruntime, sys
outputs = onnxruntime.InferenceSession(sys.argv[1]).run(None, {"target": numpy.full((1, 3, 224, 224), 0.5, numpy.float32)})
numpy.savez(sys.argv[2], *outputs)
"""
    subprocess.run([installed / "bin" / "python", "-c", code, tmp_path / "there" / "swap.onnx", tmp_path / "got.npz"], check=True)
    with np.load(tmp_path / "got.npz") as got:
        assert [got[name].shape for name in got] == [(1, 3, 224, 224), (1, 1, 224, 224)]
        assert all(np.isfinite(got[name]).all() for name in got)


def test_photos_need_the_extra_and_then_are_stamped_with_the_same_bytes(installed, with_photos, mfs, kit, photo, tmp_path):
    args = ("stamp", kit, "--source", photo, "--landmarks", LANDMARKS, "--backends", "onnx,ncnn", "--out")
    refused = mfs_of(installed, tmp_path, *args, tmp_path / "no", code=5)
    assert "[photos]" in refused["error"]["hint"]
    assert not (tmp_path / "no").exists()
    mfs_of(with_photos, tmp_path, *args, tmp_path / "there")
    assert mfs(*args, tmp_path / "here").code == 0
    assert manifest.list_files(tmp_path / "there") == manifest.list_files(tmp_path / "here")


def test_a_batch_without_extras_makes_all_but_photos(installed, with_photos, kit, photo, somebody, tmp_path):
    rows = [f'a,{photo},,"{LANDMARKS}"', *(f"p{i},,{somebody(i)}," for i in range(3))]
    (tmp_path / "people.csv").write_text("\n".join(["id,photo,identity,landmarks", *rows]))
    args = ("batch", tmp_path / "people.csv", "--kit", kit, "--backends", "onnx,ncnn", "--out", tmp_path / "out", "--workers", "2")
    without = mfs_of(installed, tmp_path, *args, code=12)
    assert without["counts"] == {"failed": 1, "done": 3}
    assert without["failed"][0]["error_kind"] == "missing-extra"
    assert mfs_of(with_photos, tmp_path, *args)["counts"] == {"done": 1, "unchanged": 3}
    for name in ("a", "p0", "p1", "p2"):
        assert manifest.verify(tmp_path / "out" / name, manifest.read(tmp_path / "out" / name)) == []
