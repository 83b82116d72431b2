"""A bundle is the old one, the new one, or none; and a changed byte is seen."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mfs_deploy.bundle import manifest
from mfs_deploy.bundle import publish as bundle
from mfs_deploy.errors import BundleError, OutputError


def example(form: Any) -> Any:
    """The least value of a form in ``manifest.FORM``."""
    if isinstance(form, dict):
        return {key: example(value) for key, value in form.items() if key is not ...}
    if isinstance(form, list):
        return []
    return {str: "x", int: 1, dict: {}}.get(form, 1.0)


def fill(folder: Path, text: str) -> None:
    (folder / "swap.onnx").write_text(text)
    (folder / "swap.mlpackage").mkdir()
    (folder / "swap.mlpackage" / "Manifest.json").write_text("{}")
    manifest.write(folder, {**example(manifest.FORM), "schema": manifest.SCHEMA, "files": manifest.list_files(folder)})


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
def test_verify_names_what_is_damaged(tmp_path, how):
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
    assert manifest.verify(out, said) == ["'../../etc/passwd' is missing"]


def test_links_and_pipes_in_a_bundle_are_seen(tmp_path):
    out = tmp_path / "face01"
    publish(out, "new")
    (out / "swap.onnx").unlink()
    (out / "swap.onnx").symlink_to("/etc/hostname")
    os.mkfifo(out / "pipe")
    assert manifest.verify(out, manifest.read(out)) == ["'swap.onnx' is not a regular file", "'pipe' is not in the manifest"]


def test_a_folder_with_a_manifest_of_another_kind_is_not_replaced(tmp_path):
    """A web extension has a manifest.json too."""
    out = tmp_path / "extension"
    out.mkdir()
    (out / "manifest.json").write_text('{"manifest_version": 3}')
    (out / "code.js").write_text("x")
    with pytest.raises(OutputError, match="not a bundle"):
        publish(out, "new")
    assert (out / "code.js").exists()


def test_a_file_put_into_a_bundle_is_not_lost(tmp_path):
    out = tmp_path / "face01"
    publish(out, "old")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError):
        publish(out, "new")


def test_a_rejected_bundle_replaces_only_an_earlier_rejected_one(tmp_path):
    out = tmp_path / "face01"
    for _ in range(2):
        with bundle.staging(out) as folder:
            fill(folder, "bad")
            place = bundle.keep_rejected(folder, out, {"complaints": ["x"]})
    assert (place / "parity.json").is_file()
    (place / "parity.json").unlink()
    with pytest.raises(OutputError, match="in the way"), bundle.staging(out):
        pass


def test_a_failed_export_takes_the_folders_it_made_with_it(tmp_path):
    with pytest.raises(KeyboardInterrupt), bundle.staging(tmp_path / "new" / "deep" / "face01"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 99}', '{"schema": 1}', "\xff", "[" * 200_000])
def test_what_is_not_a_manifest_is_refused(tmp_path, text):
    (tmp_path / manifest.NAME).write_text(text, "latin-1")
    with pytest.raises(BundleError):
        manifest.read(tmp_path)


def places(form: object, path: tuple = ()) -> list[tuple]:
    """Every place in the form."""
    found = [path] if path else []
    if isinstance(form, dict):
        found += [p for key, value in form.items() if key is not ... for p in places(value, (*path, key))]
    return found


@pytest.mark.parametrize("path", [p for p in places(manifest.FORM) if p != ("schema",)], ids=".".join)
def test_an_entry_of_the_wrong_type_is_named(tmp_path, path):
    publish(tmp_path, "new")
    said = manifest.read(tmp_path)
    inner = said
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = None
    (tmp_path / manifest.NAME).write_text(json.dumps(said))
    with pytest.raises(BundleError, match=f"'{path[-1]}' is"):
        manifest.read(tmp_path)


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(BundleError, match="not a bundle"):
        manifest.read(tmp_path)
