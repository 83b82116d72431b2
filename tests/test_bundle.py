"""A bundle is the old one, the new one, or none; and a changed byte is seen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mfs_deploy import bundle, manifest
from mfs_deploy.errors import BundleError, OutputError


def fill(folder: Path, text: str) -> None:
    (folder / "swap.onnx").write_text(text)
    (folder / "swap.mlpackage").mkdir()
    (folder / "swap.mlpackage" / "Manifest.json").write_text("{}")
    manifest.write(folder, {**dict.fromkeys(manifest.KEYS), "schema": manifest.SCHEMA, "files": manifest.list_files(folder)})


def publish(out: Path, text: str) -> None:
    with bundle.staging(out) as folder:
        fill(folder, text)
        bundle.publish(folder, out)


def test_a_new_bundle_replaces_the_old_and_leaves_nothing_else(tmp_path):
    out = tmp_path / "made" / "face01"
    publish(out, "old")
    publish(out, "new")
    assert (out / "swap.onnx").read_text() == "new"
    assert os.listdir(out.parent) == ["face01"]
    assert out.stat().st_mode & 0o777 == 0o755


def test_an_interruption_while_writing_leaves_the_old_bundle(tmp_path):
    out = tmp_path / "face01"
    publish(out, "old")
    with pytest.raises(KeyboardInterrupt), bundle.staging(out) as folder:
        fill(folder, "new")
        raise KeyboardInterrupt
    assert (out / "swap.onnx").read_text() == "old"
    assert os.listdir(tmp_path) == ["face01"]


def test_an_interruption_between_the_renames_puts_the_old_bundle_back(tmp_path, monkeypatch):
    out = tmp_path / "face01"
    publish(out, "old")
    rename, calls = os.rename, []

    def interrupted(source, destination):
        calls.append(destination)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(source, destination)

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish(out, "new")
    assert (out / "swap.onnx").read_text() == "old"
    assert os.listdir(tmp_path) == ["face01"]


def test_what_is_not_a_bundle_is_not_replaced(tmp_path):
    for make in (lambda p: p.write_text("x"), lambda p: (p.mkdir(), (p / "photos.zip").write_text("x"))):
        out = tmp_path / f"mine{len(os.listdir(tmp_path))}"
        make(out)
        with pytest.raises(OutputError, match=out.name):
            publish(out, "new")
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(OutputError):
        publish(link, "new")


def test_an_empty_folder_may_become_a_bundle(tmp_path):
    publish(tmp_path, "new")
    assert manifest.verify(tmp_path, manifest.read(tmp_path)) == []


def damage(how: str, folder: Path) -> None:
    if how == "changed":
        (folder / "swap.onnx").write_text("nex")
    elif how == "truncated":
        (folder / "swap.onnx").write_text("")
    elif how == "missing":
        (folder / "swap.mlpackage" / "Manifest.json").unlink()
    elif how == "not in the manifest":
        (folder / "extra.bin").write_text("x")


@pytest.mark.parametrize("how", ["changed", "truncated", "missing", "not in the manifest"])
def test_damage_is_named(tmp_path, how):
    out = tmp_path / "face01"
    publish(out, "new")
    damage(how, out)
    (problem,) = manifest.verify(out, manifest.read(out))
    assert ("has 0 bytes" if how == "truncated" else how) in problem


def test_a_manifest_cannot_make_us_read_outside_the_bundle(tmp_path):
    out = tmp_path / "face01"
    publish(out, "new")
    said = manifest.read(out)
    said["files"]["../../etc/passwd"] = {"bytes": 1, "sha256": "0"}
    assert manifest.verify(out, said) == ["../../etc/passwd points outside the bundle"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 99}', "\xff"])
def test_what_is_not_a_manifest_is_refused(tmp_path, text):
    (tmp_path / manifest.NAME).write_text(text, "latin-1")
    with pytest.raises(BundleError):
        manifest.read(tmp_path)


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(BundleError, match="not a bundle"):
        manifest.read(tmp_path)
