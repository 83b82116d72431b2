"""Integer recipes from the command line: a bundle that holds its gate, ranges to use again, and refusals that leave nothing."""

from __future__ import annotations

import json

import pytest

from mfs_deploy.backends.registry import has
from mfs_deploy.quant import recipes

DEMO = ["export", "--checkpoint", "demo", "--source", "demo", "--quiet", "--backends", "ncnn"]


@pytest.fixture
def again(made_int8) -> tuple[object, ...]:
    """Arguments that take the ranges of an earlier export, which take a while to measure, and no template."""
    return ("--calibration-ranges", made_int8 / "ranges.json", "--full-conversion")


def test_an_int8_bundle_is_small_near_pytorch_and_says_what_it_was_calibrated_on(made_int8, mfs):
    said = json.loads((made_int8 / "manifest.json").read_text())
    artifact = said["artifacts"]["ncnn"]
    assert artifact["parameters"]["int8"] > 400_000
    assert artifact["bytes"] < 0.33 * 2_000_000
    target, _ = artifact["parity"]["cases"]
    assert target["swapped_psnr_db"] > 36
    assert target["quality"]["psnr_db"] > target["quality"]["reference_psnr_db"] - 0.5
    assert said["calibration"]["coverage"]["crops"] == 64
    assert "demo" not in json.dumps(said["calibration"])
    assert mfs("parity", made_int8).code == 0


def test_ranges_of_one_bundle_serve_another_export_and_the_same_bytes_come_out(made_int8, mfs, tmp_path):
    out = tmp_path / "again"
    ran = mfs(*DEMO, "--recipe", "w8a8", "--calibration-ranges", made_int8 / "ranges.json", "--out", out, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["manifest"]["calibration"]["reused"] is True
    for name in ("swap.param", "swap.bin", "ranges.json"):
        assert (out / name).read_bytes() == (made_int8 / name).read_bytes()


def test_ranges_that_cut_this_identity_off_are_refused(made_int8, mfs, tmp_path):
    said = json.loads((made_int8 / "ranges.json").read_text())
    low, high = said["ranges"]["leaky_relu_3"]
    said["ranges"]["leaky_relu_3"] = [low / 5, high / 5]
    (tmp_path / "ranges.json").write_text(json.dumps(said))
    ran = mfs(*DEMO, "--recipe", "w8a8", "--calibration-ranges", tmp_path / "ranges.json", "--out", tmp_path / "face")
    assert ran.code == 10
    assert "leaky_relu_3" in ran.err
    assert not (tmp_path / "face").exists()


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--recipe", "w8a8"], 2, "--calibration DIR"),
        (["--recipe", "fp16", "--calibration", "demo"], 2, "fp16 needs no calibration"),
        (["--recipe", "pal4"], 2, "NCNN does not have the recipe pal4"),
        (["--recipe", "pal4"], 2, "--backends coreml"),
        (["--recipe", "int3"], 2, "choose from: fp16, fp32, mixed, pal4"),
        (["--recipe", "w8a8", "--calibration", "EMPTY"], 10, "holds no face"),
        (["--recipe", "w8a8", "--calibration", "EMPTY/none.jpg"], 4, "none.jpg"),
        (["--recipe", "fp32", "--tflite-io", "int8"], 2, "integer values"),
    ],
)
def test_what_cannot_be_calibrated_or_does_not_exist_is_said_and_nothing_is_left(mfs, tmp_path, args, code, said):
    empty = tmp_path / "photos"
    empty.mkdir()
    ran = mfs(*DEMO, *(a.replace("EMPTY", str(empty)) for a in args), "--out", tmp_path / "face")
    assert ran.code == code, ran.err
    assert said in ran.err
    assert not (tmp_path / "face").exists()


def test_a_recipe_from_a_file_that_names_an_unknown_layer_lists_the_layers(made_int8, again, mfs, tmp_path):
    text = recipes.to_toml(recipes.load("w8a8")) + '[layers.encoder_77]\nweights = "float16"\nactivations = "float16"\n'
    (tmp_path / "mine.toml").write_text(text)
    args = ("--recipe", tmp_path / "mine.toml", *again, "--out", tmp_path / "face")
    ran = mfs(*DEMO, *args)
    assert ran.code == 2
    assert "encoder_77" in ran.err
    assert "encoder_0_0" in ran.err
    assert not (tmp_path / "face").exists()
    (tmp_path / "mine.toml").write_text(text.replace("encoder_77", "decoder_1_1"))
    ran = mfs(*DEMO, *args, "--json")
    assert ran.code == 0, ran.err
    assert next(iter(ran.json["manifest"]["recipes"].values()))["layers"] == {
        "decoder_1_1": {"weights": "float16", "activations": "float16"}
    }
    default = json.loads((made_int8 / "manifest.json").read_text())
    mine, plain = (said["artifacts"]["ncnn"]["parameters"] for said in (ran.json["manifest"], default))
    assert mine["float16"] - plain["float16"] == plain["int8"] - mine["int8"] == 512 * 128


def test_auto_tries_every_recipe_and_the_bundle_holds_what_it_took(again, mfs, tmp_path):
    out = tmp_path / "face"
    ran = mfs(*DEMO, "--recipe", "auto", *again, "--out", out, "--json")
    assert ran.code == 0, ran.err
    trials = ran.json["trials"]
    assert {t["recipe"] for t in trials} == {name for name in recipes.names() if has("ncnn", recipes.load(name))}
    assert all(t["frame_ms"] > 0 for t in trials if t["complaint"] is None)
    (taken,) = [t for t in trials if t["chosen"]]
    artifact = ran.json["manifest"]["artifacts"]["ncnn"]
    assert (artifact["recipe"], artifact["bytes"]) == (taken["recipe"], taken["bytes"])
    assert set(ran.json["manifest"]["recipes"]) == {taken["recipe"]}
    assert mfs("parity", out).code == 0


def test_auto_says_that_integers_need_a_calibration_and_writes_no_ranges(mfs, tmp_path):
    ran = mfs(*[a for a in DEMO if a != "--quiet"], "--recipe", "auto", "--out", tmp_path / "face")
    assert ran.code == 0, ran.err
    assert "only with --calibration" in ran.err
    assert "taken" in ran.out
    assert not (tmp_path / "face" / "ranges.json").exists()
