"""A crash must be reportable without telling whose photo it was, and exit code 1 must mean a crash and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mfs_deploy.commands import crash_log
from mfs_deploy.files import cache_folder


@pytest.fixture
def broken(monkeypatch):
    """``mfs inspect`` has a bug that names the file."""
    from mfs_deploy.evaluate import inspect

    def crash(path: Path, *_: object, **__: object) -> None:
        raise ZeroDivisionError(f"cannot divide {path.resolve()} by anna_kowalska")

    monkeypatch.setattr(inspect, "inspect", crash)


def test_a_crash_leaves_a_log_with_versions_and_command_and_no_names(mfs, broken, tmp_path):
    photo = tmp_path / "anna_kowalska.jpg"
    photo.write_bytes(b"x")
    ran = mfs("inspect", photo)
    assert ran.code == 1
    log = cache_folder(".") / crash_log.NAME
    assert str(log) in ran.err
    text = log.read_text("utf-8")
    assert "mfs inspect <value>.jpg" in text
    assert "mfs-deploy 0" in text
    assert "numpy " in text
    assert "ZeroDivisionError" in text
    assert "test_crash.py" in text
    for private in ("anna", "kowalska", tmp_path.name, os.path.expanduser("~")):
        assert private not in text
        assert private not in ran.err.replace(str(log), "")


def test_a_script_sees_a_crash_as_json(mfs, broken, tmp_path):
    (tmp_path / "bob.jpg").write_bytes(b"x")
    ran = mfs("inspect", tmp_path / "bob.jpg", "--json")
    assert ran.code == 1
    assert ran.json["error"]["kind"] == "bug"
    assert "bob" not in json.dumps(ran.json).replace(str(cache_folder(".")), "")


def test_a_crash_is_shown_whole_where_no_log_can_be_written(mfs, broken, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "bob.jpg").write_bytes(b"x")
    ran = mfs("inspect", tmp_path / "bob.jpg")
    assert ran.code == 1
    assert "ZeroDivisionError" in ran.err
    assert "lines above" in ran.err
    assert "bob" not in ran.err


def test_words_of_ours_stay_readable_in_a_report():
    words = {"export", "onnx", "ncnn", "fp16"}
    args = [
        "export",
        "--backends",
        "onnx,ncnn",
        "--recipe",
        "fp16",
        "--size",
        "224",
        "--source=me/photo.png",
        "--out",
        "bundles/me",
    ]
    line = crash_log.text(ValueError("x"), args, words).splitlines()[2]
    assert line == "mfs export --backends onnx,ncnn --recipe fp16 --size 224 --source=<value>.png --out <value>"
