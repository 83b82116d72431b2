"""mfs parity, inspect, swap and doctor on a real bundle, whole and spoiled."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from mfs_deploy import files
from mfs_deploy.bundle import manifest
from testing import manifests


def made_landmarks() -> str:
    from mfs_deploy.faces.portrait import LANDMARKS

    return ",".join(str(v) for v in LANDMARKS.ravel())


def accept(bundle) -> None:
    """Make the manifest agree with the files as they are now, as somebody who tampers would."""
    said = manifest.read(bundle)
    said["files"] = manifest.list_files(bundle)
    manifest.write(bundle, said)


def test_parity_holds_on_a_good_bundle(mfs, made):
    ran = mfs("parity", made, "--json")
    assert ran.code == 0
    assert ran.json["artifacts"]["onnx"]["cases"][0]["swapped_psnr_db"] > 100


def test_parity_sees_a_changed_file(mfs, bundle):
    content = bytearray((bundle / "swap.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "swap.onnx").write_bytes(content)
    ran = mfs("parity", bundle)
    assert ran.code == 8
    assert "'swap.onnx' has changed" in ran.err


def test_parity_sees_a_wrong_weight_behind_right_checksums(mfs, bundle, wrong_weight):
    wrong_weight(bundle)
    ran = mfs("parity", bundle, "--json")
    assert ran.code == 7
    assert ran.json["error"]["kind"] == "parity"
    assert "onnx" in ran.json["error"]["message"]


def test_parity_sees_nan_behind_right_checksums(mfs, bundle):
    import onnx
    from onnx import numpy_helper

    model = onnx.load(bundle / "swap.onnx")
    weight = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    array = numpy_helper.to_array(weight).copy()
    array.reshape(-1)[0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    onnx.save(model, bundle / "swap.onnx")
    accept(bundle)
    ran = mfs("parity", bundle)
    assert ran.code == 7
    assert "NaN" in ran.err


def test_a_truncated_artifact_is_a_damaged_bundle(mfs, bundle):
    content = (bundle / "swap.onnx").read_bytes()
    (bundle / "swap.onnx").write_bytes(content[: len(content) // 2])
    accept(bundle)
    assert mfs("parity", bundle).code == 8


def test_inspect_tells_a_bundle_an_artifact_a_checkpoint_and_an_identity_apart(mfs, made, checkpoint, golden, tmp_path):
    from mfs_deploy.checkpoint import identity_file

    ran = mfs("inspect", made, "--json").json
    assert (ran["kind"], ran["artifacts"]["onnx"]["recipe"]) == ("bundle", "fp32")
    ran = mfs("inspect", made / "swap.onnx", "--json").json
    assert (ran["kind"], ran["macs"]) == ("artifact", manifest.read(made)["artifacts"]["onnx"]["macs"])
    assert ran["files"]["swap.onnx"]["sha256"] == files.sha256(made / "swap.onnx")
    ran = mfs("inspect", checkpoint, "--json").json
    assert (ran["kind"], ran["frame"]["baked"]["parameters"]) == ("checkpoint", 499_825)
    assert ran["frame"]["simplified"]["macs"] < ran["frame"]["baked"]["macs"] == 305_722_368
    saved = tmp_path / "id.safetensors"
    identity_file.save(saved, golden["identity_embedding"], golden["identity_feature_map"], "0" * 64)
    ran = mfs("inspect", saved, "--json").json
    assert (ran["kind"], ran["biometric"]) == ("identity", True)
    assert "embedding" in mfs("inspect", saved).out


def test_inspect_verifies_checksums(mfs, bundle):
    (bundle / "preview.png").write_bytes(b"")
    ran = mfs("inspect", bundle)
    assert ran.code == 8
    assert "'preview.png' has 0 bytes" in ran.err


def test_inspect_refuses_what_it_does_not_know(mfs, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    assert mfs("inspect", tmp_path / "notes.txt").code == 2
    assert mfs("inspect", tmp_path / "nothing").code == 2


def test_swap_writes_the_recorded_photo(mfs, made, photo, golden, tmp_path):
    out = tmp_path / "swapped.png"
    assert mfs("swap", "--bundle", made, "--image", photo, "--landmarks", made_landmarks(), "--out", out).code == 0
    with Image.open(out) as picture:
        assert "AI-generated" in picture.info["Comment"]
        levels = np.abs(np.array(picture).astype(int) - golden["composite_bgr"][..., ::-1])
    assert levels.max() <= 1


def test_swap_on_a_clip_swaps_every_frame(mfs, made, portrait, tmp_path):
    clip, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_clip(clip, [np.clip(portrait.astype(int) - shade, 0, 255).astype(np.uint8) for shade in (0, 20, 40)])
    ran = mfs("swap", "--bundle", made, "--video", clip, "--landmarks", made_landmarks(), "--out", out, "--json")
    assert ran.code == 0
    assert (ran.json["frames"], ran.json["swapped"]) == (3, 3)
    reader = cv2.VideoCapture(str(out))
    assert int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) == 3
    _, frame = reader.read()
    face = np.s_[90:150, 190:260]
    assert np.abs(frame[..., ::-1][face].astype(int) - portrait[face]).mean() > 10


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--image", "/nowhere.png"], 4),
        (["--video", "/nowhere.mp4"], 4),
        ([], 2),
        (["--image", "PHOTO", "--backend", "tflite"], 2),
        (["--image", "PHOTO", "--out", "x.gif"], 2),
        (["--image", "PHOTO", "--out", "PHOTO"], 2),
        (["--image", "PHOTO", "--out", "BUNDLE/x.png"], 2),
        (["--video", "PHOTO", "--face", "1"], 2),
        (["--image", "PHOTO"], 2),  # nothing says where the face is
    ],
)
def test_swap_names_mistakes_and_writes_nothing(mfs, made, photo, tmp_path, monkeypatch, args, code):
    monkeypatch.chdir(tmp_path)
    where = ["--landmarks", made_landmarks()] if args != ["--image", "PHOTO"] and "--face" not in args else []
    before = manifest.list_files(made)
    ran = mfs("swap", "--bundle", made, *where, *[a.replace("PHOTO", str(photo)).replace("BUNDLE", str(made)) for a in args])
    assert manifest.list_files(made) == before
    assert ran.code == code, ran
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_of_a_later_schema_is_refused(mfs, bundle):
    said = json.loads((bundle / "manifest.json").read_text())
    said["schema"] = 3
    (bundle / "manifest.json").write_text(json.dumps(said))
    ran = mfs("parity", bundle)
    assert ran.code == 8
    assert "schema 3, this version reads 1 to 2" in ran.err


def test_a_bundle_exported_before_schema_2_serves_every_verb(mfs, bundle, photo, tmp_path):
    manifests.make_schema_1(bundle)
    said = manifest.read(bundle)
    assert (said["schema"], set(said["alignment"])) == (1, {"base", "points", "solver"})
    for verb in (("parity", bundle), ("inspect", bundle), ("report", bundle, "--out", tmp_path / "report.html")):
        assert mfs(*verb).code == 0, verb
    swap = ("swap", "--bundle", bundle, "--image", photo, "--landmarks", made_landmarks(), "--out", tmp_path / "out.png")
    assert mfs(*swap).code == 0


def tamper(bundle, change) -> None:
    said = json.loads((bundle / "manifest.json").read_text())
    change(said)
    (bundle / "manifest.json").write_text(json.dumps(said))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["artifacts"].clear(),
        lambda m: m["artifacts"].update(tensorrt=m["artifacts"]["onnx"]),
        lambda m: m["artifacts"].update(ncnn=m["artifacts"].pop("onnx")),
        lambda m: m.update(architecture="x"),
        lambda m: m["contract"].update(size=256),
        lambda m: m["contract"]["input"].update(colour="BGR"),
        lambda m: m["paste_back"].update(erosions=1),
        lambda m: m["alignment"]["points"].reverse(),
        lambda m: m["artifacts"]["onnx"].update(recipe="int3"),
        lambda m: m["recipes"].update(int3=m["recipes"]["fp32"]),
        lambda m: m["recipes"]["fp32"]["gate"].update(swapped_psnr_db=1.0),
        lambda m: m["artifacts"]["onnx"]["parity"]["cases"][0].update(swapped_psnr_db="high"),
        lambda m: m["artifacts"]["onnx"]["parity"]["cases"][0].update(quality={}),
        lambda m: m["artifacts"]["onnx"].update(macs=10**400),
        lambda m: m["stages"].update(baked_to_simplified=float("nan")),
        lambda m: m.update(synthetic_media={}),
        lambda m: m.update(weights=None),
        lambda m: m.update(files=["swap.onnx"]),
    ],
)
@pytest.mark.parametrize("verb", ["parity", "inspect"])
def test_a_manifest_that_apps_could_not_trust_is_refused(mfs, bundle, change, verb):
    tamper(bundle, change)
    ran = mfs(verb, bundle)
    assert ran.code == 8, ran
    assert ran.err.count("\n") <= 5


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.pop("swapped"),
        lambda a: a.update(swapped=a["swapped"][:1]),
        lambda a: a.update(swapped=np.full_like(a["swapped"], np.nan)),
        lambda a: a.update(mask=a["mask"].astype(np.float64)),
        lambda a: a.update(target_rgb=a["target_rgb"].astype(np.float32)),
        lambda a: a.update(case=np.array("target")),
        lambda a: a.update(case=np.array([None, None], object)),
        lambda a: a.update(back_matrix=np.full((2, 3), 1e30)),
        lambda a: a.update(back_matrix=a["back_matrix"] + 1),
        lambda a: a.update(composite_rgb=a["frame_rgb"]),
        lambda a: a.pop("composite_rgb"),
        lambda a: a.update(frame_rgb=a["frame_rgb"][0]),
        lambda a: a.update(landmarks=np.zeros(3)),
    ],
)
def test_reference_tensors_that_are_not_right_are_refused(mfs, bundle, change):
    with np.load(bundle / "reference.npz") as stored:
        arrays = dict(stored)
    change(arrays)
    np.savez(bundle / "reference.npz", **arrays)
    accept(bundle)
    ran = mfs("parity", bundle)
    assert ran.code == 8, ran
    assert "reference.npz" in ran.err


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"hello", b"\x93NUMPY"])
def test_a_malformed_reference_file_is_refused(mfs, bundle, content):
    (bundle / "reference.npz").write_bytes(content)
    accept(bundle)
    assert mfs("parity", bundle).code == 8


def test_an_encoder_is_told_from_a_generator(mfs, checkpoint):
    assert mfs("inspect", checkpoint / "arcface.pdparams", "--json").json["kind"] == "identity encoder"


def write_clip(path, frames, codec="mp4v") -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (512, 512))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()


def test_a_clip_without_a_face_is_an_error_and_none_is_written(mfs, made, scrfd, portrait, tmp_path):
    clip, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_clip(clip, [np.full_like(portrait, 128)] * 2)
    ran = mfs("swap", "--bundle", made, "--video", clip, "--detector", scrfd, "--out", out, "--json")
    assert (ran.code, ran.json["error"]["kind"]) == (4, "no-face")
    assert not out.exists()


def test_a_clip_that_ends_early_is_an_error(mfs, made, portrait, tmp_path):
    clip, out = tmp_path / "in.avi", tmp_path / "out.mp4"
    write_clip(clip, [portrait] * 8, "MJPG")
    content = clip.read_bytes()
    clip.write_bytes(content[: len(content) // 2])
    ran = mfs("swap", "--bundle", made, "--video", clip, "--landmarks", made_landmarks(), "--out", out)
    assert ran.code == 4
    assert not out.exists()
