"""A backend of another package works like ours once it is installed, and is refused by name when it is not one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mfs_deploy.backends import installed
from mfs_deploy.backends.registry import BACKENDS, OURS
from mfs_deploy.errors import ConversionError
from testing.backend_contract import check_backend

# ONNX under other names: what a package of somebody else holds, in one module.
MIRROR = """
from mfs_deploy.backends.onnx import backend as onnx
from mfs_deploy.backends.onnx.backend import FORMATS, LAYOUT, describe, open

NAME, TITLE, EXTRA, RUNS_HERE = "mirror", "Mirror", "", True
PACKAGES = ("mirror-backend", *onnx.PACKAGES)
FILES = ("mirror.onnx",)


def convert(job, directory):
    onnx.convert(job, directory)
    (directory / onnx.FILES[0]).rename(directory / FILES[0])
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A module's source to a package that is installed in a folder on the path, as pip leaves it."""
    site = tmp_path / "site"

    def run(source: str = MIRROR, name: str = "mirror") -> Path:
        record = site / f"{name}_backend-1.0.dist-info"
        record.mkdir(parents=True)
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-backend\nVersion: 1.0\n")
        (record / "entry_points.txt").write_text(f"[mfs_deploy.backends]\n{name} = {name}_backend\n")
        (site / f"{name}_backend.py").write_text(source)
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]))
        forget(name)
        return site

    def forget(name: str) -> None:
        installed._points.cache_clear()
        installed._load.cache_clear()
        sys.modules.pop(f"{name}_backend", None)

    yield run
    monkeypatch.undo()
    installed._points.cache_clear()
    installed._load.cache_clear()
    sys.modules.pop("mirror_backend", None)


def mfs(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "mfs_deploy", *map(str, args)], capture_output=True, text=True, check=False)


def test_a_neighbours_backend_keeps_the_contract(install, tmp_path):
    install()
    assert list(BACKENDS) == [*OURS, "mirror"]
    check_backend("mirror", tmp_path)


def test_a_neighbours_artifact_is_exported_and_held_against_pytorch(install, tmp_path):
    """In processes of their own, workers included: all that tells them of it is what pip wrote down."""
    install()
    out = tmp_path / "bundle"
    ran = mfs("export", "--checkpoint", "demo", "--source", "demo", "--backends", "onnx,mirror", "--out", out, "--json")
    assert ran.returncode == 0, ran.stderr
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    assert manifest["artifacts"]["mirror"]["files"] == ["mirror.onnx"]
    assert manifest["versions"]["mirror-backend"] == "1.0"
    assert (out / "mirror.onnx").stat().st_size > 900_000
    ran = mfs("parity", out, "--json")
    assert ran.returncode == 0, ran.stderr
    psnr_db = {name: entry["cases"][0]["swapped_psnr_db"] for name, entry in json.loads(ran.stdout)["artifacts"].items()}
    assert psnr_db["mirror"] == psnr_db["onnx"] > 60
    described = json.loads(mfs("inspect", out / "mirror.onnx", "--json").stdout)
    assert described["backend"] == "mirror"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (('FILES = ("mirror.onnx",)', 'FILES = "mirror.onnx"'), "FILES must be a tuple of text"),
        (("def convert(job, directory)", "def convert(job)"), "convert must be a function of job and directory"),
        (("LAYOUT, describe, open", "LAYOUT, describe"), "open must be a function"),
        (('"mirror", "Mirror"', '"mirrors", "Mirror"'), "NAME must be 'mirror'"),
        (("RUNS_HERE = ", "RUNS_THERE = "), "RUNS_HERE must be True or False"),
        (("from mfs_deploy.backends.onnx import", "from no_such_package import"), "cannot be imported: No module named"),
    ],
)
def test_a_module_that_is_no_backend_is_refused_and_says_why(install, change, problem):
    assert change[0] in MIRROR
    install(MIRROR.replace(*change))
    with pytest.raises(ConversionError, match="the backend 'mirror' of the package mirror-backend") as caught:
        BACKENDS["mirror"]
    assert problem in caught.value.message
    assert caught.value.kind == "backend"


def test_the_name_of_one_of_ours_is_refused(install):
    install(MIRROR, name="onnx")
    with pytest.raises(ConversionError, match="'onnx' of the package onnx-backend has the name of a backend of mfs-deploy"):
        list(BACKENDS)
    assert BACKENDS["onnx"] is OURS["onnx"]


def test_help_does_not_look_for_installed_backends(install):
    install("raise SystemExit('imported')")
    ran = mfs("export", "--help")
    assert (ran.returncode, ran.stderr) == (0, "")


def test_an_unknown_name_lists_the_neighbours_too(install, tmp_path):
    install()
    ran = mfs("export", "--checkpoint", "demo", "--source", "demo", "--backends", "mirrow", "--out", tmp_path / "x")
    assert ran.returncode == 2
    assert "choose from: onnx, tflite, ncnn, coreml, mirror" in ran.stderr
