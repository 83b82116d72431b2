"""A plain ``pip install``, without PyTorch and the converters: a clear word and the pip line, never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

BLOCKED = ("torch", "onnx", "onnxscript", "litert_torch", "ai_edge_litert", "coremltools", "ncnn", "pnnx", "skimage")
CODE = f"""
import sys
from importlib import metadata
for name in {BLOCKED!r}:
    sys.modules[name] = None
version = metadata.version
def missing(name):
    if name.replace("-", "_") in {BLOCKED!r}:
        raise metadata.PackageNotFoundError(name)
    return version(name)
metadata.version = missing
from mfs_deploy.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", CODE, *map(str, args)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "verb", [("export", "--checkpoint", "demo", "--source", "demo", "--out", "x"), ("identity", "x", "--checkpoint", "y")]
)
def test_what_needs_torch_says_so(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = run(*verb, "--json")
    assert ran.returncode == 5, ran
    error = json.loads(ran.stdout)["error"]
    assert error["kind"] == "missing-extra"
    assert 'pip install -c constraints.txt ".[all]"' in error["hint"]
    assert list(tmp_path.iterdir()) == []


def test_doctor_lists_what_to_install_and_which_recipes_that_brings():
    ran = run("doctor", "--json")
    assert ran.returncode == 0, ran
    said = json.loads(ran.stdout)
    assert said["recipes"] == {
        name: {"onnx": onnx, "tflite": tflite, "ncnn": ncnn, "coreml": coreml}
        for name, (onnx, tflite, ncnn, coreml) in {
            "fp32": (True, True, True, True),
            "fp16": (True, True, True, True),
            "w8": (True, True, False, True),
            "w8a8": (True, True, True, True),
            "w8a16": (True, True, False, False),
            "mixed": (True, True, True, True),
            "pal6": (False, False, False, True),
            "pal4": (False, False, False, True),
        }.items()
    }
    found = {d["backend"]: d for d in said["backends"]}
    assert set(found) == {"onnx", "tflite", "ncnn", "coreml"}
    for name, diagnosis in found.items():
        assert not diagnosis["installed"]
        assert not diagnosis["works"]
        assert f'".[{name}]"' in diagnosis["advice"]


def test_doctor_prints_recipes_in_columns_of_backends():
    ran = run("doctor")
    assert ran.returncode == 0, ran
    lines = [line.split() for line in ran.stdout.splitlines()]
    at = lines.index(["recipe", "onnx", "tflite", "ncnn", "coreml"])
    assert lines[at - 1] == []
    assert ["w8a8", "yes", "yes", "yes", "yes"] in lines[at:]
    assert ["w8", "yes", "yes", "-", "yes"] in lines[at:]
    assert ["pal4", "-", "-", "-", "yes"] in lines[at:]


def test_a_bundle_is_made_inspected_and_kept_without_torch(small_kit, somebody, tmp_path):
    ran = run("stamp", small_kit, "--identity", somebody(0), "--backends", "onnx,ncnn", "--out", tmp_path / "x", "--json")
    assert ran.returncode == 0, ran
    ran = run("inspect", tmp_path / "x", "--json")
    assert ran.returncode == 0, ran
    assert json.loads(ran.stdout)["checksums"] == "all 3 files are as they were written"
    (tmp_path / "x" / "swap.onnx").write_bytes(b"")
    ran = run("inspect", tmp_path / "x", "--json")
    assert (ran.returncode, json.loads(ran.stdout)["error"]["kind"]) == (8, "bundle")
