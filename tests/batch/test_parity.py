"""mfs batch --parity: people's bundles against PyTorch, and one that is another person's is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mfs_deploy.batch import parity as batch_parity
from mfs_deploy.batch.chunk import BatchRequest
from mfs_deploy.batch.people import PersonEntry, read_people
from mfs_deploy.errors import ParityError


@pytest.fixture
def people(somebody, tmp_path) -> Path:
    folder = tmp_path / "people"
    folder.mkdir()
    for i in range(3):
        shutil.copy(somebody(i), folder / f"p{i}.safetensors")
    return folder


def test_the_person_with_the_worst_parity_is_named(mfs, kit, people, tmp_path):
    args = ("batch", people, "--kit", kit, "--out", tmp_path / "out", "--backends", "onnx,ncnn", "--workers", "1", "--parity", "2")
    ran = mfs(*args, "--json")
    assert ran.code == 0, ran
    measured = {one["id"]: one for one in ran.json["parity"]}
    assert set(measured) == {"p0", "p1"}
    assert all(one["psnr_db"] > 55 and one["complaints"] == [] for one in measured.values())
    worst = min(measured.values(), key=lambda one: one["psnr_db"])["id"]
    assert f"{worst} " in mfs(*args).out.split("(worst)")[0]


@pytest.mark.parametrize("as_objects", [False, True])
def test_another_persons_artifact_is_found(mfs, kit, people, tmp_path, as_objects):
    out = tmp_path / "out"
    assert mfs("batch", people, "--kit", kit, "--out", out, "--backends", "onnx", "--workers", "1").code == 0
    shutil.copy(out / "p1" / "swap.onnx", out / "p0" / "swap.onnx")
    place = f"file://{out}" if as_objects else out
    request = BatchRequest(people=people, kit=kit, out=place, backends=("onnx",), recipe="fp16")
    wrong, right = batch_parity.measure(request, read_people(people)[:2])
    assert (wrong.id, right.complaints) == ("p0", ())
    assert "swapped_psnr_db on target" in " ".join(wrong.complaints)
    with pytest.raises(ParityError, match="the bundle of p2 has other weights"):
        list(batch_parity.measure(request, [PersonEntry("p2", identity=str(people / "p1.safetensors"))]))


def test_people_measured_are_spread_over_the_whole_batch():
    entries = [PersonEntry(f"p{i}") for i in range(10)]
    assert [entry.id for entry in batch_parity.spread(entries, 3)] == ["p0", "p3", "p6"]
    assert len(batch_parity.spread(entries, 99)) == 10
