"""mfs quantize gives a recipe that an export then takes, with the quality it promised."""

from __future__ import annotations

import json

import pytest

from mfs_deploy.bundle import manifest

DEMO = ("--checkpoint", "demo", "--source", "demo", "--backends", "ncnn")


def test_the_recipe_found_exports_to_the_quality_that_was_asked_for(made_int8, mfs, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = manifest.read(made_int8)["artifacts"]["ncnn"]["parity"]["cases"][0]["swapped_psnr_db"]
    wanted = before + 2
    recipe = tmp_path / "mine.toml"
    ranges = ("--calibration-ranges", made_int8 / "ranges.json")
    found = mfs("quantize", *DEMO, *ranges, "--min-psnr", wanted, "--out", recipe, "--json")
    assert found.code == 0, found.err
    assert found.json["psnr_db"]["ncnn"] >= wanted
    assert 0 < len(found.json["floats"]) < len(found.json["layers"]) / 2
    assert (tmp_path / "mine.png").stat().st_size > 5000
    (kept,) = (tmp_path / "cache" / "mfs-deploy").rglob("*.json")
    assert {one["name"] for one in json.loads(kept.read_text())} == {one["name"] for one in found.json["layers"]}

    made = mfs("export", *DEMO, *ranges, "--recipe", recipe, "--full-conversion", "--out", tmp_path / "mixed", "--json")
    assert made.code == 0, made.err
    artifact = made.json["manifest"]["artifacts"]["ncnn"]
    assert artifact["parity"]["cases"][0]["swapped_psnr_db"] == pytest.approx(found.json["psnr_db"]["ncnn"], abs=0.01)
    assert artifact["bytes"] == found.json["bytes"]["ncnn"]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--calibration", "demo", "--base-recipe", "fp16"), 2, "no integer values to mix"),
        (("--calibration", "demo", "--out", "mixed.json"), 2, "written as .toml"),
        ((), 2, "--calibration DIR"),
    ],
)
def test_what_cannot_be_searched_is_said_at_once(mfs, tmp_path, monkeypatch, args, code, said):
    monkeypatch.chdir(tmp_path)
    ran = mfs("quantize", *DEMO, *args)
    assert ran.code == code
    assert said in ran.err
    assert list(tmp_path.iterdir()) == []
