"""A bundle is the old one, the new one, or none; and a changed byte is seen."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfs_deploy.bundle import manifest
from mfs_deploy.bundle import publish as bundle
from mfs_deploy.bundle.manifest_types import EllipsePasteEntry, Manifest, MaskPasteEntry
from mfs_deploy.errors import BundleError, OutputError
from testing import manifests


def fill(folder: Path, text: str) -> None:
    (folder / "swap.onnx").write_text(text)
    (folder / "swap.mlpackage").mkdir()
    (folder / "swap.mlpackage" / "Manifest.json").write_text("{}")
    manifests.write(folder)


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


SCHEMAS = range(1, manifest.SCHEMA + 1)


def places(schema: int) -> Iterator[tuple[str, ...]]:
    """Every key of a manifest, and every key of those."""
    for key, value in manifests.example(Manifest, schema).items():
        if key != "schema":
            yield (key,)
        if isinstance(value, dict):
            yield from ((key, inner) for inner in value)


@pytest.mark.parametrize(("schema", "path"), [(schema, path) for schema in SCHEMAS for path in places(schema)])
def test_an_entry_of_the_wrong_type_is_named(tmp_path, schema, path):
    whole = {**manifests.example(Manifest, schema), "schema": schema}
    (tmp_path / manifest.NAME).write_text(json.dumps(whole))
    assert manifest.read(tmp_path) == whole
    *above, key = path
    (whole[above[0]] if above else whole)[key] = None
    (tmp_path / manifest.NAME).write_text(json.dumps(whole))
    with pytest.raises(BundleError, match=f"'{key}' is"):
        manifest.read(tmp_path)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_an_entry_that_is_missing_or_of_another_schema_is_named(tmp_path, schema):
    for kind in (MaskPasteEntry, EllipsePasteEntry):
        whole = {**manifests.example(Manifest, schema), "paste_back": manifests.example(kind, schema), "schema": schema}
        (tmp_path / manifest.NAME).write_text(json.dumps(whole))
        assert manifest.read(tmp_path) == whole
        for change in (
            {"schema": 3 - schema},
            {"more": 1},
            {"paste_back": {**whole["paste_back"], "more": 1}},
            {"float16": {"at": "x"}},
        ):
            (tmp_path / manifest.NAME).write_text(json.dumps(whole | change))
            with pytest.raises(BundleError, match="lacks or adds"):
                manifest.read(tmp_path)


def test_no_manifest_of_an_earlier_schema_is_written():
    with pytest.raises(ValueError, match="schema 1"):
        manifest.to_json({**manifests.example(Manifest), "schema": 1})
    with pytest.raises(ValueError, match="lacks or adds"):
        manifest.to_json({**manifests.example(Manifest, 1), "schema": 2})


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(BundleError, match="not a bundle"):
        manifest.read(tmp_path)
