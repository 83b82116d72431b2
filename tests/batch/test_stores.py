"""Bundles as objects: whatever write the store fails at, a bundle is seen whole or not at all, and the next try ends it."""

from __future__ import annotations

import itertools
import json

import pytest

pytest.importorskip("fsspec")

from mfs_deploy.batch import stores
from mfs_deploy.batch.object_store import Objects
from mfs_deploy.batch.results import PersonResult
from mfs_deploy.bundle import manifest
from mfs_deploy.errors import MissingExtra, OutputError, StoreFailed
from testing import manifests


@pytest.fixture
def store():
    made = Objects("memory://bundles/many")
    yield made
    made._fs.store.clear()


@pytest.fixture
def folder(tmp_path):
    """Contents by name to a folder with a manifest."""
    numbers = itertools.count()

    def make(**contents: bytes):
        path = tmp_path / str(next(numbers))
        (path / "sub").mkdir(parents=True)
        for name, content in contents.items():
            (path / name.replace("__", "/")).write_bytes(content)
        manifests.write(path)
        return path

    return make


def seen(store: Objects, name: str, tmp_path) -> dict[str, bytes] | None:
    """What a reader finds: nothing where there is no manifest, and otherwise the files, which must be what it says."""
    if store._read(f"{name}/{manifest.NAME}") is None:
        return None
    with store.fetched(name) as found:
        assert manifest.verify(found, manifest.read(found)) == []
        return {key: (found / key).read_bytes() for key in manifest.read(found)["files"]}


def test_wherever_the_store_fails_a_bundle_is_whole_or_not_there(store, folder, tmp_path, monkeypatch):
    old = folder(**{"a.onnx": b"old", "sub__b.bin": b"old b", "gone.bin": b"x"})
    new = folder(**{"a.onnx": b"new", "sub__b.bin": b"new b", "c.bin": b"c"})
    before, after = ({k: (f / k).read_bytes() for k in manifest.list_files(f)} for f in (old, new))
    write, remove = Objects._write, Objects._remove
    cut = False
    for step in itertools.count():
        store._fs.store.clear()
        store.publish(old, PersonResult("p", "done", "of old"))
        left = [step]

        def limited(contents, real, left=left):
            """Each object is one step; those before the failure are written or removed."""
            for item in contents:
                if not left[0]:
                    raise StoreFailed("memory://", "cut")
                left[0] -= 1
                real(store, {item: contents[item]} if isinstance(contents, dict) else [item])

        monkeypatch.setattr(store, "_write", lambda contents: limited(contents, write))
        monkeypatch.setattr(store, "_remove", lambda keys: limited(keys, remove))
        try:
            store.publish(new, PersonResult("p", "done", "of new"))
        except StoreFailed:
            cut = True
            assert seen(store, "p", tmp_path) in (None, before, after)
            assert store.earlier("p", lambda: "of new") is None
            unchanged = store.earlier("p", lambda: "of old")
            assert unchanged is None or seen(store, "p", tmp_path) == before
        else:
            assert cut
            assert step == 8  # record, two removed, three files, manifest, record
            break
        finally:
            monkeypatch.undo()
        store.publish(new, PersonResult("p", "done", "of new"))
        assert seen(store, "p", tmp_path) == after
        assert set(store._list("p")) == {*after, manifest.NAME}
        assert store.earlier("p", lambda: "of new") is not None


def test_foreign_objects_in_the_bucket_are_never_overwritten(store, folder):
    store._write({"p/thesis.tex": b"x", "q/manifest.json": b"{}", "r": b"x", "s/a.onnx": b"mine"})
    before = dict(store._fs.store)
    for name in "pqrs":
        with pytest.raises(OutputError, match="not a bundle's"):
            store.publish(folder(**{"a.onnx": b"1"}), PersonResult(name, "done"))
        assert store.earlier(name, lambda: "") is None
    assert store._fs.store.keys() == before.keys()


def test_a_bundle_whose_record_is_lost_is_replaced(store, folder, tmp_path):
    store.publish(folder(**{"a.onnx": b"1", "b.bin": b"2"}), PersonResult("p", "done", "x"))
    store._remove([".records/p.json"])
    assert store.earlier("p", lambda: "x") is None
    store.publish(folder(**{"a.onnx": b"3"}), PersonResult("p", "done", "x"))
    assert seen(store, "p", tmp_path) == {"a.onnx": b"3"}
    assert store.earlier("p", lambda: "x") == PersonResult("p", "done", "x")


@pytest.mark.parametrize(
    "record", [b"", b"[]", b"{}", b'{"objects": [], "outcome": {}}', b'{"objects": {}, "outcome": {"id": 5}}', b"\xff"]
)
def test_a_person_whose_record_is_damaged_is_made_again(store, folder, record):
    store.publish(folder(**{"a.onnx": b"1"}), PersonResult("p", "done", "x"))
    store._write({".records/p.json": record})
    assert store.earlier("p", lambda: "x") is None
    store.publish(folder(**{"a.onnx": b"2"}), PersonResult("p", "done", "x"))
    assert store.earlier("p", lambda: "x") == PersonResult("p", "done", "x")


def test_another_persons_record_is_not_believed(store, folder):
    store.publish(folder(**{"a.onnx": b"1"}), PersonResult("p", "done", "x"))
    record = json.loads(store._read(".records/p.json"))
    store._write({".records/q.json": json.dumps({**record, "objects": {}}).encode()})
    assert store.earlier("q", lambda: "x") is None


def test_a_name_that_leads_out_is_not_followed(store, monkeypatch):
    monkeypatch.setattr(store, "_list", lambda name: {"../../evil": "1"})
    with pytest.raises(Exception, match="leads out"), store.fetched("p"):
        pass


def test_a_url_of_an_unknown_scheme_is_refused():
    with pytest.raises(OutputError, match="nowhere://x"):
        stores.open_store("nowhere://x")


def test_a_bucket_without_fsspec_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtra, match=r"--out s3://b/x needs fsspec"):
        stores.open_store("s3://b/x")
