"""From photo to bundle with a detector: turned photos, no face, several faces, the archive's own detector."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks import demo_clip
from mfs_deploy.backends.machine import LOCAL
from mfs_deploy.backends.registry import OPINIONS
from mfs_deploy.bundle import manifest
from mfs_deploy.faces.portrait import LANDMARKS


@pytest.fixture(scope="module")
def identify(checkpoint, scrfd):
    """Arguments of ``mfs identity`` for a photo, with the detector."""
    return lambda photo: ("identity", photo, "--checkpoint", checkpoint, "--detector", scrfd)


def save(array: np.ndarray, path: Path, **kwargs) -> Path:
    Image.fromarray(array).save(path, **kwargs)
    return path


def embedding(path: Path) -> np.ndarray:
    from mfs_deploy.checkpoint import identity_file

    return identity_file.load(path).embedding


def test_a_photo_turned_by_exif_is_the_same_person(mfs, identify, portrait, photo, tmp_path):
    """As phones store portraits: the pixels lie on their side, and a tag says so."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    turned = save(np.rot90(portrait, 1), tmp_path / "turned.png", exif=exif)
    assert mfs(*identify(photo), "--out", tmp_path / "a").code == 0
    assert mfs(*identify(turned), "--out", tmp_path / "b").code == 0
    np.testing.assert_array_equal(embedding(tmp_path / "a"), embedding(tmp_path / "b"))
    untagged = save(np.rot90(portrait, 1), tmp_path / "untagged.png")
    assert mfs(*identify(untagged), "--out", tmp_path / "c").code == 4


def test_a_photo_without_a_face_is_refused(mfs, identify, tmp_path):
    with resources.files("skimage.data").joinpath("coffee.png").open("rb") as f:
        (tmp_path / "coffee.png").write_bytes(f.read())
    ran = mfs(*identify(tmp_path / "coffee.png"), "--out", tmp_path / "id", "--json")
    assert ran.code == 4
    assert ran.json["error"]["kind"] == "no-face"
    assert not (tmp_path / "id").exists()


def test_of_several_faces_the_user_chooses(mfs, identify, portrait, photo, tmp_path):
    pair = save(np.hstack([portrait, portrait[:, :, ::-1].copy() // 2 * 2]), tmp_path / "pair.png")
    ran = mfs(*identify(pair), "--out", tmp_path / "id", "--json")
    assert (ran.code, ran.json["error"]["kind"]) == (4, "several-faces")
    assert "--face N" in ran.json["error"]["hint"]
    assert mfs(*identify(pair), "--face", "1", "--out", tmp_path / "id").code == 0
    assert mfs(*identify(photo), "--out", tmp_path / "alone").code == 0
    cosine = float((embedding(tmp_path / "id") @ embedding(tmp_path / "alone").T).item())
    assert cosine > 0.98
    assert mfs(*identify(pair), "--face", "3", "--out", tmp_path / "id2").code == 2


def test_a_small_and_a_blurred_face_are_refused_each_in_its_own_words(mfs, checkpoint, portrait, tmp_path):
    import cv2

    small = save(cv2.resize(portrait, None, fx=0.35, fy=0.35, interpolation=cv2.INTER_AREA), tmp_path / "small.png")
    blurred = save(cv2.GaussianBlur(portrait, (0, 0), 4), tmp_path / "blurred.png")
    for path, scale, kind in ((small, 0.35, "face-too-small"), (blurred, 1, "face-too-blurred")):
        landmarks = ",".join(str(v * scale) for v in LANDMARKS.ravel())
        args = ("--checkpoint", checkpoint, "--landmarks", landmarks, "--out", tmp_path / "id", "--json")
        ran = mfs("identity", path, *args)
        assert (ran.code, ran.json["error"]["kind"]) == (4, kind)


def test_mirrored_landmarks_are_not_a_face(mfs, checkpoint, photo, tmp_path):
    swapped = LANDMARKS[[1, 0, 2, 4, 3]]
    landmarks = ",".join(str(v) for v in swapped.ravel())
    ran = mfs("identity", photo, "--checkpoint", checkpoint, "--landmarks", landmarks, "--out", tmp_path / "id", "--json")
    assert (ran.code, ran.json["error"]["kind"]) == (4, "not-a-face")


def test_the_archive_brings_its_own_detector(mfs, checkpoint, scrfd, photo, made, tmp_path):
    archive = tmp_path / "checkpoints.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("MobileFaceSwap_224.pdparams", "arcface.pdparams"):
            tar.add(checkpoint / name, f"checkpoints/{name}")
        model = scrfd.read_bytes()
        member = tarfile.TarInfo("checkpoints/landmarks/scrfd_10g_bnkps.onnx")
        member.size = len(model)
        tar.addfile(member, io.BytesIO(model))
    out = tmp_path / "face01"
    args = ("--source", photo, "--target", photo, "--backends", "onnx", "--out", out)
    ran = mfs("export", "--checkpoint", archive, *args, "--json")
    assert ran.code == 0, ran
    assert [f["role"] for f in ran.json["manifest"]["checkpoint"]] == ["archive", "generator", "identity encoder", "detector"]
    with np.load(out / "reference.npz") as found, np.load(made / "reference.npz") as typed:
        assert np.abs(found["landmarks"] - typed["landmarks"]).max() < 3


def test_an_aligned_crop_is_taken_as_it_is(mfs, checkpoint, golden, tmp_path):
    crop = save(np.ascontiguousarray(golden["target_aligned_bgr"][..., ::-1]), tmp_path / "crop.png")
    assert mfs("identity", crop, "--checkpoint", checkpoint, "--aligned", "--out", tmp_path / "id").code == 0
    np.testing.assert_allclose(embedding(tmp_path / "id"), golden["identity_embedding"], atol=2e-6)


def test_a_checkpoint_without_encoder_says_what_is_missing(mfs, checkpoint, photo, tmp_path, golden):
    from mfs_deploy.checkpoint import identity_file

    alone = checkpoint / "MobileFaceSwap_224.pdparams"
    landmarks = ",".join(str(v) for v in LANDMARKS.ravel())
    ran = mfs("export", "--checkpoint", alone, "--source", photo, "--landmarks", landmarks, "--out", tmp_path / "x")
    assert ran.code == 2
    assert "--identity-encoder" in ran.err
    saved = tmp_path / "id.safetensors"
    identity_file.save(saved, golden["identity_embedding"], golden["identity_feature_map"], "0" * 64)
    args = ("--identity", saved, "--backends", "ncnn", "--out", tmp_path / "x", "--json")
    ran = mfs("export", "--checkpoint", alone, *args)
    assert ran.code == 0
    assert ran.json["manifest"]["artifacts"]["ncnn"]["parity"]["cases"][0]["identity_cosine"] is None


def test_a_clip_with_a_face_in_some_frames(mfs, made, scrfd, portrait, tmp_path):
    import cv2

    clip, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 10, (512, 512))
    for frame in (portrait, np.full_like(portrait, 128), np.roll(portrait, 9, axis=1)):
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    ran = mfs("swap", "--bundle", made, "--video", clip, "--detector", scrfd, "--out", out, "--json")
    assert ran.code == 0
    assert (ran.json["frames"], ran.json["swapped"]) == (3, 2)


def test_all_four_backends_the_same_bytes_twice(mfs, demo_bundle, tmp_path, monkeypatch):
    """The whole main job with its defaults, as ``make demo`` runs it."""
    again = mfs("export", "--checkpoint", "demo", "--source", "demo", "--out", tmp_path / "again", "--json")
    assert again.code == 0, again
    said = manifest.read(demo_bundle)
    assert set(said["artifacts"]) == {"onnx", "tflite", "ncnn", "coreml"}
    assert again.json["manifest"] == said
    assert manifest.list_files(tmp_path / "again") == manifest.list_files(demo_bundle)
    macs = {name: artifact["macs"] for name, artifact in said["artifacts"].items()}
    assert macs["onnx"] == macs["coreml"] < min(macs["ncnn"], macs["tflite"])  # those have channels and taps of zeros
    assert said["licences"]["weights"].startswith("Apache-2.0")
    # LiteRT stands in for TensorFlow, which may not be installed; tests/backends/tflite runs the real one if it can.
    monkeypatch.setitem(OPINIONS, "tflite", lambda: replace(LOCAL, name="TensorFlow"))
    again = mfs("parity", demo_bundle, "--json")
    assert again.code == 0
    assert again.json["agreement_db"]["tflite"]["tflite on TensorFlow"] is None  # the same in every bit
    assert set(again.json["artifacts"]) == set(said["artifacts"])  # it is not judged
    for name, artifact in said["artifacts"].items():
        quality = artifact["parity"]["cases"][0]["quality"]
        assert quality["reference_psnr_db"] > 20
        assert abs(quality["psnr_db"] - quality["reference_psnr_db"]) < 0.1  # float16 costs nothing that can be seen
        assert again.json["artifacts"][name]["cases"][0]["quality"] == quality
    clip = tmp_path / "clip.mp4"
    told = CliRunner().invoke(demo_clip.main, ["--bundle", str(demo_bundle), "--out", str(clip), "--frames", "4"])
    assert told.exit_code == 0, told.output
    assert "temporal error" in told.output
    reader = cv2.VideoCapture(str(clip))
    assert reader.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert reader.get(cv2.CAP_PROP_FRAME_WIDTH) == 3 * reader.get(cv2.CAP_PROP_FRAME_HEIGHT)
