"""The main job from the command line: right numbers, same bytes, nothing private, and nothing half-done."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mfs_deploy.bundle import manifest
from testing.processes import children, wait_for_line, wait_until_gone


def digest(folder: Path) -> dict[str, str]:
    return {name: facts["sha256"] for name, facts in manifest.list_files(folder).items()}


def test_a_bundle_holds_what_the_original_code_made_of_the_same_photo(made, golden):
    with np.load(made / "reference.npz") as reference:
        np.testing.assert_array_equal(reference["target_rgb"][0], golden["target_aligned_bgr"][..., ::-1])
        np.testing.assert_allclose(reference["swapped"][:1], golden["swapped"], atol=2e-5)
        np.testing.assert_allclose(reference["mask"][:1], golden["mask"], atol=2e-5)
        levels = np.abs(reference["composite_rgb"].astype(int) - golden["composite_bgr"][..., ::-1])
        assert levels.max() <= 1
        np.testing.assert_allclose(reference["back_matrix"], golden["back_matrix"], rtol=1e-9)


def test_the_artifact_in_the_bundle_gives_those_numbers_too(made, golden):
    import onnxruntime

    session = onnxruntime.InferenceSession(made / "swap.onnx")
    crop = golden["target_aligned_bgr"][..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255
    swapped, mask = session.run(["swapped", "mask"], {"target": crop})
    np.testing.assert_allclose(swapped, golden["swapped"], atol=3e-5)
    np.testing.assert_allclose(mask, golden["mask"], atol=3e-5)


def test_the_manifest_says_what_an_app_needs(made):
    said = manifest.read(made)
    assert said["contract"]["input"] == {
        "name": "target",
        "shape": [1, 3, 224, 224],
        "low": 0.0,
        "high": 1.0,
        "colour": "RGB",
        "meaning": said["contract"]["input"]["meaning"],
    }
    assert [o["name"] for o in said["contract"]["outputs"]] == ["swapped", "mask"]
    assert said["alignment"]["base"] == 112
    assert "erosions" in said["paste_back"]
    assert said["paste_back"]["erosions"] == 2
    assert (said["artifacts"]["onnx"]["layout"], said["artifacts"]["onnx"]["recipe"]) == ("NCHW", "fp32")
    (target, noise) = said["artifacts"]["onnx"]["parity"]["cases"]
    assert target["swapped_psnr_db"] > 100
    assert target["identity_cosine"] > 0.9999
    assert noise["composite_psnr_db"] is None
    assert said["stages"]["generator_to_baked"] < 1e-6
    assert {f["role"] for f in said["checkpoint"]} == {"generator", "identity encoder"}
    assert said["synthetic_media"]["label"] == "AI-generated"
    assert manifest.verify(made, said) == []


def test_same_inputs_give_the_same_bytes(made, mfs, export_args, tmp_path):
    again = tmp_path / "another name"
    assert mfs(*export_args, "--recipe", "fp32", "--out", again, "--quiet").code == 0
    assert digest(again) == digest(made)


def test_nothing_in_a_bundle_names_the_person_the_machine_or_the_day(made, photo, checkpoint):
    private = [photo.stem, str(photo.parent), str(checkpoint), str(Path.cwd()), sys.prefix, time.strftime("%Y-%m-%d")]
    private += [name for name in (os.uname().nodename, os.path.expanduser("~")) if len(name) > 5]  # shorter ones occur by chance
    for path in made.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for word in private:
            assert word.encode() not in content, f"{word} in {path.name}"


def test_no_identity_leaves_with_the_bundle(made, golden):
    """The embedding is biometric; it is used up by the bake and must be in no file."""
    needle = golden["identity_embedding"][0, :4].tobytes()
    with np.load(made / "reference.npz") as reference:
        assert all(array.shape[-1] != 512 or array.ndim > 2 for array in (reference[k] for k in reference))
    assert all(needle not in p.read_bytes() for p in made.rglob("*") if p.is_file())


def test_an_identity_file_exports_the_same_network(made, mfs, checkpoint, photo, tmp_path, golden):
    saved = tmp_path / "id.safetensors"
    ran = mfs("identity", photo, "--checkpoint", checkpoint, "--landmarks", made_landmarks(), "--out", saved)
    assert ran.code == 0
    assert "biometric" in ran.out
    assert saved.stat().st_mode & 0o077 == 0
    out = tmp_path / "face01"
    args = ("--checkpoint", checkpoint, "--identity", saved, "--backends", "onnx", "--recipe", "fp32", "--out", out)
    ran = mfs("export", *args, "--json")
    assert ran.code == 0
    assert ran.json["manifest"]["weights"] == manifest.read(made)["weights"]
    assert digest(out)["swap.onnx"] == digest(made)["swap.onnx"]


def made_landmarks() -> str:
    from mfs_deploy.faces import portrait

    return ",".join(str(v) for v in portrait.LANDMARKS.ravel())


def test_size_256_aligns_the_source_at_224_as_the_original_does(made, mfs, export_args, tmp_path):
    out = tmp_path / "face01"
    ran = mfs(*export_args, "--size", "256", "--recipe", "fp32", "--full-conversion", "--out", out, "--json")
    assert ran.code == 0
    assert ran.json["manifest"]["weights"] == manifest.read(made)["weights"]
    assert ran.json["manifest"]["contract"]["input"]["shape"] == [1, 3, 256, 256]


@pytest.mark.parametrize(
    ("args", "code", "kind", "says"),
    [
        (["--backends", "onnx,tensorrt"], 2, "usage", "tensorrt"),
        (["--backends", ""], 2, "usage", "--backends"),
        (["--recipe", "int3"], 2, "usage", "fp16, fp32"),
        (["--size", "225"], 2, "usage", "224, 256"),
        (["--arch", "simswap"], 2, "usage", "mobilefaceswap"),
        (["--landmarks", "1,2,3"], 2, "usage", "landmarks"),
        (["--landmarks", "900,1,2,3,4,5,6,7,8,9"], 2, "usage", "512"),
        (["--aligned"], 2, "usage", "--aligned"),
        (["--identity", "x"], 2, "usage", "exactly one"),
        (["--source", "demo"], 2, "usage", "--source PHOTO"),
        (["--target-landmarks", "1,2,3,4,5,6,7,8,9,10"], 2, "usage", "--target PHOTO"),
        (["--bogus"], 2, "usage", "--bogus"),
        (["--checkpoint", "/nowhere"], 3, "checkpoint-missing", "nowhere"),
        (["--source", "/nowhere.jpg"], 4, "photo-unreadable", "/nowhere.jpg"),
        (["--detector", "/nowhere.onnx"], 3, "checkpoint", "/nowhere.onnx"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(mfs, export_args, tmp_path, args, code, kind, says):
    out = tmp_path / "face01"
    ran = mfs(*export_args, "--out", out, *args, "--json")
    assert ran.code == code, ran
    error = ran.json["error"]
    assert error["kind"] == kind
    assert error["exit_code"] == code
    assert says in error["message"] + error["hint"]
    assert "\n" not in error["message"]
    assert os.listdir(tmp_path) == []


def test_no_landmarks_and_no_detector_is_refused_with_the_ways_out(mfs, checkpoint, photo, tmp_path):
    ran = mfs("export", "--checkpoint", checkpoint, "--source", photo, "--out", tmp_path / "x")
    assert ran.code == 2
    for way in ("--detector", "--landmarks", "--aligned"):
        assert way in ran.err


def test_a_click_usage_error_has_click_s_exit_code(mfs):
    assert mfs("export").code == 2
    assert mfs("nonsense").code == 2
    assert mfs("--version").code == 0


def test_what_is_in_the_way_is_not_overwritten(mfs, export_args, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    ran = mfs(*export_args, "--out", tmp_path)
    assert ran.code == 9
    assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize("out", [".", "..", "/"])
def test_a_place_without_a_name_is_the_output_s_fault(mfs, export_args, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    assert mfs(*export_args, "--out", out).code == 9
    assert os.listdir(tmp_path) == []


def test_a_private_umask_keeps_the_bundle_private(mfs, export_args, tmp_path):
    before = os.umask(0o077)
    try:
        assert mfs(*export_args, "--recipe", "fp32", "--out", tmp_path / "face01").code == 0
    finally:
        os.umask(before)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "face01", *(tmp_path / "face01").rglob("*")))


def test_what_is_wrong_with_the_target_names_the_target_s_options(mfs, export_args, photo, tmp_path):
    ran = mfs(*export_args, "--target", photo, "--out", tmp_path / "x", "--json")
    assert ran.code == 2
    assert "--target-landmarks" in ran.json["error"]["hint"]


def test_a_name_that_is_too_long_is_the_output_s_fault(mfs, export_args, tmp_path):
    assert mfs(*export_args, "--out", tmp_path / ("x" * 300)).code == 9


@pytest.mark.parametrize(
    ("args", "after", "sent"),
    [
        (["--full-conversion"], "bake", signal.SIGTERM),
        (["--full-conversion"], "make", signal.SIGINT),
        ([], "build 1 templates", signal.SIGINT),
    ],
)
def test_an_interruption_leaves_the_old_bundle_no_litter_and_no_worker(bundle, start, export_args, tmp_path, args, after, sent):
    before = digest(bundle)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    env = {**os.environ, "TMPDIR": str(temporary), "XDG_CACHE_HOME": str(temporary), "PYTHONUNBUFFERED": "1"}
    process = start(*export_args, *args, "--out", bundle, env=env)
    wait_for_line(process, after)
    time.sleep(1.5)
    process.send_signal(sent)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert digest(bundle) == before
    assert sorted(os.listdir(tmp_path)) == [bundle.name, "tmp"]
    assert os.listdir(temporary) == []


def test_a_worker_ends_when_its_parent_was_killed(start, export_args, tmp_path):
    process = start(*export_args, "--backends", "coreml", "--full-conversion", "--out", tmp_path / "face01")
    wait_for_line(process, "make")
    time.sleep(1)
    workers = children(process.pid, b"worker")
    assert len(workers) == 1
    process.kill()
    wait_until_gone(workers, b"worker", seconds=15)


def test_an_export_leaves_nothing_in_the_home_or_temporary_folder(start, export_args, tmp_path):
    """ONNX Runtime's telemetry, for one, would.  The template that is kept for the next person has a place of its own."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    env = {**os.environ, "HOME": str(home), "TMPDIR": str(temporary), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    process = start(*export_args, "--out", tmp_path / "face01", env=env)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    assert [str(p) for folder in (home, temporary) for p in folder.rglob("*") if p.is_file()] == []
    assert {p.parent.name for p in (tmp_path / "cache").rglob("*") if p.is_file()} == {"templates"}


def test_an_identity_read_by_another_encoder_is_refused(mfs, checkpoint, golden, tmp_path):
    from mfs_deploy.checkpoint import identity_file

    saved = tmp_path / "id.safetensors"
    identity_file.save(saved, golden["identity_embedding"], golden["identity_feature_map"], "0" * 64)
    ran = mfs("export", "--checkpoint", checkpoint, "--identity", saved, "--out", tmp_path / "x", "--json")
    assert (ran.code, ran.json["error"]["kind"]) == (3, "identity")


def test_a_full_disk_leaves_the_old_bundle_and_no_litter(bundle, start, export_args):
    """A file-size limit stands for the full disk: writes fail in the same way, at the first megabyte."""
    before = digest(bundle)
    process = start(*export_args, "--recipe", "fp32", "--out", bundle, largest_file=1_000_000)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 9, out + err
    assert digest(bundle) == before
    assert os.listdir(bundle.parent) == [bundle.name]


def test_a_failed_gate_keeps_the_artifact_aside_and_publishes_nothing(mfs, export_args, tmp_path, monkeypatch):
    """The tolerance is set beyond what float16 can do, so the gate must refuse a real artifact."""
    from dataclasses import replace

    from mfs_deploy.quant import recipes

    strict = replace(recipes.load("fp16"), gate=recipes.load("fp32").gate)
    monkeypatch.setattr(recipes, "load", lambda name: strict)
    out = tmp_path / "face01"
    ran = mfs(*export_args, "--recipe", "fp16", "--full-conversion", "--out", out)
    assert ran.code == 7
    assert "onnx: " in ran.err
    assert "limit" in ran.err
    assert sorted(os.listdir(tmp_path)) == ["face01.rejected"]
    kept = tmp_path / "face01.rejected"
    assert sorted(os.listdir(kept)) == ["parity.json", "reference.npz", "swap.onnx"]
    assert json.loads((kept / "parity.json").read_text())["measured"]["onnx"][0]["swapped_psnr_db"] < 110


def test_a_checkpoint_that_overflows_float16_is_exported_with_the_right_layers_in_float32(mfs, checkpoint, golden, tmp_path):
    """The stand-in's function, but with one layer's values a million times larger and the next one's weights smaller."""
    import torch

    from mfs_deploy.checkpoint import identity_file
    from mfs_deploy.checkpoint.load import load

    opened = load(checkpoint)
    hot = dict(opened.generator)
    for name in ("final.2.weight", "final.2.bias"):
        hot[name] = hot[name] * 2.0**20
    hot["final.4.weight"] = hot["final.4.weight"] / 2.0**20
    torch.save(hot, tmp_path / "hot.pth")
    identity_file.save(tmp_path / "id", golden["identity_embedding"], golden["identity_feature_map"], "0" * 64)
    args = ("--identity", tmp_path / "id", "--backends", "onnx,ncnn", "--recipe", "fp16", "--out", tmp_path / "face01", "--json")
    ran = mfs("export", "--checkpoint", tmp_path / "hot.pth", *args)
    assert ran.code == 0, ran
    said = ran.json["manifest"]
    assert said["float16"]["headroom"] < 1
    assert "final_4" in said["float16"]["kept_in_float32"]
    for artifact in said["artifacts"].values():
        assert "final_4" in artifact["float32_layers"]
        assert artifact["parity"]["cases"][0]["swapped_psnr_db"] > 70
    with np.load(tmp_path / "face01" / "reference.npz") as reference:
        np.testing.assert_allclose(reference["swapped"][:1], golden["swapped"], atol=2e-5)


def test_the_preview_shows_a_row_for_pytorch_and_one_for_each_backend(made):
    from PIL import Image

    from mfs_deploy.bundle import preview

    with Image.open(made / "preview.png") as sheet:
        assert sheet.height == preview.HEADER + 2 * (preview.CELL + preview.GAP)
        pixels = np.array(sheet)
    rows = [pixels[preview.HEADER + i * (preview.CELL + preview.GAP) :][: preview.CELL, 150:] for i in range(2)]
    assert np.abs(rows[0].astype(int) - rows[1]).max() <= 2  # the artifact's pictures are PyTorch's
    assert rows[0].std() > 30


def test_quiet_prints_nothing_and_json_only_json(mfs, export_args, tmp_path):
    ran = mfs(*export_args, "--recipe", "fp32", "--out", tmp_path / "a", "--quiet", "--json")
    assert ran.json["bundle"] == str(tmp_path / "a")
    assert ran.err == ""
