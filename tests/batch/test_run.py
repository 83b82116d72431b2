"""mfs batch: one mistake costs one person, and a second run does what is missing or has changed, and nothing else."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from mfs_deploy.batch.results import PARQUET, RESULTS
from mfs_deploy.batch.stores import JOURNAL
from mfs_deploy.bundle import manifest

LANDMARKS = "203,101,247,103,225,126,204.4,140.4,243.6,141.6"
PEOPLE = 4


@pytest.fixture
def people(somebody, tmp_path) -> Path:
    """A table of four, by identity files beside it."""
    (tmp_path / "ids").mkdir()
    for i in range(PEOPLE):
        shutil.copy(somebody(i), tmp_path / "ids" / f"{i}.safetensors")
    path = tmp_path / "people.csv"
    path.write_text("id,identity\n" + "".join(f"p{i},ids/{i}.safetensors\n" for i in range(PEOPLE)))
    return path


@pytest.fixture
def run(mfs, small_kit, people, tmp_path):
    """``mfs batch`` on one worker, with changes to its options."""

    def go(*args: object, kit: Path = small_kit, code: int = 0, who: Path = people):
        out = ("--out", tmp_path / "out", "--backends", "onnx", "--workers", "1")
        ran = mfs("batch", who, "--kit", kit, *out, *args, "--json")
        assert ran.code == code, ran
        return ran.json

    return go


def results(out: Path) -> dict[str, dict[str, str]]:
    with open(out / RESULTS, newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


def written(out: Path) -> dict[str, int]:
    """When every file of the bundles was written."""
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in out.glob("*/**/*") if p.is_file()}


def redone(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {name.split("/")[0] for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_every_bundle_of_a_batch_equals_the_one_by_mfs_stamp(run, mfs, small_kit, somebody, tmp_path):
    assert run()["counts"] == {"done": PEOPLE}
    for i in range(PEOPLE):
        assert (
            mfs("stamp", small_kit, "--identity", somebody(i), "--backends", "onnx", "--out", tmp_path / "alone" / f"p{i}").code
            == 0
        )
        assert manifest.list_files(tmp_path / "out" / f"p{i}") == manifest.list_files(tmp_path / "alone" / f"p{i}")
        assert manifest.read(tmp_path / "out" / f"p{i}") == manifest.read(tmp_path / "alone" / f"p{i}")
    assert {p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith(".")} == {
        *(f"p{i}" for i in range(PEOPLE)),
        *(JOURNAL, RESULTS, *([PARQUET] if importlib.util.find_spec("pyarrow") else [])),
    }
    found = results(tmp_path / "out")
    assert list(found) == [f"p{i}" for i in range(PEOPLE)]
    for name, row in found.items():
        assert row["weights_sha256"] == manifest.read(tmp_path / "out" / name)["weights"]["sha256"]


def test_a_folder_of_photos_and_identities_is_done_by_file_name(run, photo, somebody, tmp_path):
    from PIL import Image

    from mfs_deploy import architectures
    from mfs_deploy.architectures import source_face
    from mfs_deploy.faces import align, find

    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(somebody(0), folder / "zoe.safetensors")
    points = np.array(LANDMARKS.split(","), float).reshape(5, 2)
    Image.fromarray(source_face.read(photo, find.FaceLocation(points), None, architectures.interface("mobilefaceswap")).crop).save(
        folder / "aligned.png"
    )
    assert align.SOURCE_SIZE == 224
    said = run(who=folder, code=12)
    assert said["counts"] == {"done": 1, "failed": 1}
    (failed,) = said["failed"]
    assert (failed["id"], failed["error_kind"]) == ("aligned", "usage")  # a folder cannot say where the face is
    (tmp_path / "table.csv").write_text(f'id,photo,landmarks,aligned\na,{photo},"{LANDMARKS}",\nb,folder/aligned.png,,true\n')
    assert run(who=tmp_path / "table.csv")["counts"] == {"done": 2}
    a, b = ((tmp_path / "out" / name / "swap.onnx").read_bytes() for name in "ab")
    assert a == b


def test_one_bad_row_stops_nobody_and_the_results_say_who_and_why(run, people, photo, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(photo.read_bytes()[:5000])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "ids" / "1.safetensors").write_bytes(b"hello")
    (tmp_path / "out" / "inway").mkdir(parents=True)
    (tmp_path / "out" / "inway" / "thesis.tex").write_text("x")
    bad = {
        "gone": (f"{tmp_path}/nowhere.jpg,,,true", "unreadable"),
        "broken": ("broken.jpg,,,true", "photo-unreadable"),
        "text": ("text.jpg,,,true", "photo-unreadable"),
        "folder": ("ids,,,true", "unreadable"),
        "nothing": (f"{photo},,,", "usage"),
        "outside": (f'{photo},,"1,2,3,4,5,6,7,8,9,9999",', "usage"),
        "point": (f'{photo},,"9,9,9,9,9,9,9,9,9,9",', None),
        "wide": (",people.csv,,", "identity"),
        "inway": (",ids/0.safetensors,,", "output"),
    }
    rows = [f"p{i},,ids/{i}.safetensors,,\n" for i in range(PEOPLE)]
    rows[2:2] = [f"{name},{row}\n" for name, (row, _) in bad.items()]
    people.write_text("id,photo,identity,landmarks,aligned\n" + "".join(rows))
    assert run(code=12)["counts"] == {"done": PEOPLE - 1, "failed": len(bad) + 1}
    found = results(tmp_path / "out")
    assert list(found) == [row.split(",")[0] for row in rows]
    for name, (_, kind) in {**bad, "p1": ("", "identity")}.items():
        assert found[name]["status"] == "failed"
        assert kind is None or found[name]["error_kind"] == kind, found[name]
        assert found[name]["error_kind"] != "unexpected", found[name]
        assert found[name]["error"]
        assert not (tmp_path / "out" / name / manifest.NAME).exists()
    assert os.listdir(tmp_path / "out" / "inway") == ["thesis.tex"]
    for name in ("p0", "p2", "p3"):
        assert manifest.verify(tmp_path / "out" / name, manifest.read(tmp_path / "out" / name)) == []


def test_a_second_run_keeps_everything(run, tmp_path):
    run()
    before = written(tmp_path / "out")
    assert run()["counts"] == {"unchanged": PEOPLE}
    assert written(tmp_path / "out") == before
    assert {row["status"] for row in results(tmp_path / "out").values()} == {"unchanged"}


def spoil_identity(tmp_path: Path, somebody) -> None:
    shutil.copy(somebody(9), tmp_path / "ids" / "1.safetensors")


def spoil_byte(tmp_path: Path, _) -> None:
    path = tmp_path / "out" / "p1" / "swap.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def spoil_manifest(tmp_path: Path, _) -> None:
    (tmp_path / "out" / "p1" / manifest.NAME).write_text("{}")


def remove_bundle(tmp_path: Path, _) -> None:
    shutil.rmtree(tmp_path / "out" / "p1")


def replace_bundle(tmp_path: Path, _) -> None:
    shutil.rmtree(tmp_path / "out" / "p1")
    shutil.copytree(tmp_path / "out" / "p2", tmp_path / "out" / "p1")


def cut_journal(tmp_path: Path, _) -> None:
    """The last person's line, as a crash would; that is p3's."""
    path = tmp_path / "out" / JOURNAL
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("change", "who"),
    [
        (spoil_identity, "p1"),
        (spoil_byte, "p1"),
        (spoil_manifest, None),
        (remove_bundle, "p1"),
        (replace_bundle, "p1"),
        (cut_journal, "p3"),
    ],
)
def test_what_has_changed_is_done_again_and_nothing_else(run, somebody, tmp_path, change, who):
    run()
    change(tmp_path, somebody)
    before = written(tmp_path / "out")
    if who is None:  # what is there now is no bundle of ours, so it is not overwritten
        assert run(code=12)["counts"] == {"unchanged": PEOPLE - 1, "failed": 1}
        assert written(tmp_path / "out") == before
        return
    assert run()["counts"] == {"unchanged": PEOPLE - 1, "done": 1}
    assert redone(before, written(tmp_path / "out")) <= {who}
    for i in range(PEOPLE):
        bundle = tmp_path / "out" / f"p{i}"
        assert manifest.verify(bundle, manifest.read(bundle)) == []
    assert run()["counts"] == {"unchanged": PEOPLE}


def test_another_kit_or_other_backends_redo_everybody(run, small_kit, kit, tmp_path):
    run()
    assert run("--backends", "ncnn")["counts"] == {"done": PEOPLE}
    assert run("--backends", "ncnn")["counts"] == {"unchanged": PEOPLE}
    assert run("--backends", "ncnn", kit=kit)["counts"] == {"done": PEOPLE}
    assert run("--backends", "ncnn", kit=small_kit)["counts"] == {"done": PEOPLE}


@pytest.mark.parametrize(
    "line", ["[]", "5", '{"id": ["x"], "status": "done"}', '{"id": "p1"}', "{", "\0\0", '{"id": "p9", "more": 1}']
)
def test_a_damaged_line_in_the_journal_is_passed_over(run, tmp_path, line):
    run()
    with open(tmp_path / "out" / JOURNAL, "a") as f:
        f.write(line)
    assert run()["counts"] == {"unchanged": PEOPLE}
    with open(tmp_path / "out" / JOURNAL, "a") as f:
        f.write(line + "\n")
    assert run()["counts"] == {"unchanged": PEOPLE}


def test_a_second_run_retries_people_who_failed(run, somebody, tmp_path):
    (tmp_path / "ids" / "1.safetensors").write_bytes(b"hello")
    assert run(code=12)["counts"] == {"done": PEOPLE - 1, "failed": 1}
    shutil.copy(somebody(1), tmp_path / "ids" / "1.safetensors")
    assert run()["counts"] == {"unchanged": PEOPLE - 1, "done": 1}


def test_removing_a_person_from_the_table_deletes_no_bundle(run, people, tmp_path):
    run()
    people.write_text("id,identity\np0,ids/0.safetensors\n")
    assert run()["counts"] == {"unchanged": 1}
    assert (tmp_path / "out" / "p3" / manifest.NAME).is_file()
    assert list(results(tmp_path / "out")) == ["p0"]


@pytest.mark.parametrize(
    ("args", "code", "kind", "says"),
    [
        (["--recipe", "w8a8"], 2, "usage", "no template for onnx w8a8"),
        (["--backends", "coreml"], 2, "usage", "no template for coreml"),
        (["--backends", "x"], 2, "usage", "no backend x"),
        (["--workers", "0"], 2, "usage", "--workers"),
        (["--kit", "/nowhere"], 6, "template", "cannot be read"),
        (["--detector", "/nowhere.onnx"], 3, "checkpoint", "nowhere"),
        (["--out", __file__], 9, "output", "not a folder"),
    ],
)
def test_a_mistake_is_named_before_anything_is_written(run, tmp_path, args, code, kind, says):
    before = sorted(os.listdir(tmp_path))
    error = run(*args, code=code)["error"]
    assert error["kind"] == kind
    assert says in error["message"]
    assert sorted(os.listdir(tmp_path)) == before


def test_a_mistake_in_a_row_is_named_before_anything_is_written(run, people, tmp_path):
    people.write_text(people.read_text() + "..,ids/0.safetensors\n")
    assert "line 6: the id '..'" in run(code=2)["error"]["message"]
    assert not (tmp_path / "out").exists()


def test_weights_that_are_no_numbers_fail_everybody_and_write_nothing(run, small_kit, tmp_path):
    from dataclasses import replace

    from mfs_deploy.stamping import kit as kits

    held = kits.load(small_kit)
    spoiled = tmp_path / "spoiled.safetensors"
    kits.save(spoiled, replace(held, shared={**held.shared, "final.1.weight": np.full((8, 32, 1, 1), np.inf, np.float32)}))
    said = run(kit=spoiled, code=12)
    assert {outcome["error_kind"] for outcome in said["failed"]} == {"not-finite"}
    assert [p for p in (tmp_path / "out").iterdir() if p.is_dir()] == []


def test_the_summary_in_words_counts_and_lists(mfs, small_kit, people, tmp_path):
    (tmp_path / "ids" / "1.safetensors").write_bytes(b"hello")
    args = ("--kit", small_kit, "--out", tmp_path / "out", "--backends", "onnx", "--workers", "1")
    ran = mfs("batch", people, *args)
    assert ran.code == 12
    assert "3 done, 1 failed" in ran.out
    assert "p1" in ran.out
    assert json.loads((tmp_path / "out" / JOURNAL).read_text().splitlines()[0])["status"] in ("done", "failed")


def test_the_results_as_parquet_are_those_of_the_csv(run, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    run()
    table = parquet.read_table(tmp_path / "out" / PARQUET).to_pylist()
    assert [{name: str(value) for name, value in row.items()} for row in table] == list(results(tmp_path / "out").values())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    run()
    assert not (tmp_path / "out" / PARQUET).exists()  # it would be the earlier run's


@pytest.mark.parametrize(("args", "module", "extra"), [(("--out", "s3://b/x"), "s3fs", "s3"), (("--engine", "ray"), "ray", "ray")])
def test_what_is_not_installed_is_named_before_anything_is_written(run, tmp_path, monkeypatch, args, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    before = sorted(os.listdir(tmp_path))
    error = run(*args, code=5)["error"]
    assert f'".[{extra}]"' in error["hint"]
    assert sorted(os.listdir(tmp_path)) == before
