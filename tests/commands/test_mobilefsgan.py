"""The second architecture through every verb: the same code, another network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from mfs_deploy import cli, metrics
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import manifest
from testing import standin_mobilefsgan as standin

LANDMARKS = "203,101,247,103,225,126,204.4,140.4,243.6,141.6"
ARCH = ("--arch", "mobilefsgan")


@pytest.fixture(scope="module")
def person(once, fsgan, photo) -> Path:
    """The portrait's identity file.  Do not write into it."""

    def make(folder: Path) -> None:
        args = ["identity", str(photo), *ARCH, "--checkpoint", str(fsgan), "--landmarks", LANDMARKS]
        assert cli.main([*args, "--out", str(folder / "id.safetensors"), "--quiet"]) == 0

    return once("mobilefsgan-identity", make) / "id.safetensors"


@pytest.fixture(scope="module")
def fsgan_kit(once, fsgan) -> Path:
    """Do not write into it."""

    def make(folder: Path) -> None:
        args = ["kit", "pack", *ARCH, "--checkpoint", str(fsgan), "--backends", "onnx,ncnn"]
        assert cli.main([*args, "--out", str(folder / "kit.safetensors"), "--quiet"]) == 0

    return once("mobilefsgan-kit", make) / "kit.safetensors"


def test_every_backend_matches_pytorch_and_the_manifest_says_what_an_app_must_know(fsgan_bundle):
    said = manifest.read(fsgan_bundle)
    assert manifest.verify(fsgan_bundle, said) == []
    assert set(said["artifacts"]) == set(BACKENDS)
    for artifact in said["artifacts"].values():
        assert artifact["bytes"] < 4_100_000
        target, noise = artifact["parity"]["cases"]
        assert min(target["swapped_psnr_db"], noise["swapped_psnr_db"]) > 70
        assert target["mask_mean"] is None
    assert [output["name"] for output in said["contract"]["outputs"]] == ["swapped"]
    assert said["alignment"]["solver"].startswith("least-squares similarity")
    assert "edge" in said["paste_back"]
    assert (said["paste_back"]["centre"], said["paste_back"]["radii"], said["paste_back"]["edge"]) == (
        [0.5, 0.575],
        [0.36, 0.4],
        0.25,
    )
    assert max(said["stages"].values()) < 1e-6


def test_the_bundle_is_rechecked_and_an_artifact_of_other_weights_is_found(mfs, fsgan_bundle, tmp_path):
    ran = mfs("parity", fsgan_bundle, "--json")
    assert ran.code == 0, ran
    shutil.copytree(fsgan_bundle, tmp_path / "face", ignore=shutil.ignore_patterns("swap.onnx", "swap.tflite", "swap.mlpackage"))
    data = bytearray((tmp_path / "face" / "swap.bin").read_bytes())
    half = np.frombuffer(data, np.float16)[2000:4000]
    data[4000:8000] = (-half).tobytes()
    (tmp_path / "face" / "swap.bin").write_bytes(data)
    said = json.loads((tmp_path / "face" / "manifest.json").read_text())
    said["artifacts"] = {"ncnn": said["artifacts"]["ncnn"]}
    said["files"] = manifest.list_files(tmp_path / "face")
    (tmp_path / "face" / "manifest.json").write_text(json.dumps(said))
    assert mfs("parity", tmp_path / "face").code == 7


def test_a_photo_is_swapped_in_the_ellipse_and_nowhere_else(mfs, fsgan_bundle, photo, portrait, tmp_path):
    out = tmp_path / "swapped.png"
    ran = mfs("swap", "--bundle", fsgan_bundle, "--image", photo, "--landmarks", LANDMARKS, "--backend", "onnx", "--out", out)
    assert ran.code == 0, ran
    changed = (np.asarray(Image.open(out)) != portrait).any(axis=2)
    ys, xs = np.nonzero(changed)
    assert 0.005 < changed.mean() < 0.1
    assert abs(xs.mean() - 224) < 8
    assert abs(ys.mean() - 124) < 12


def test_the_checkpoint_the_encoder_and_the_identity_are_known_for_what_they_are(mfs, fsgan, person):
    said = mfs("inspect", fsgan / standin.GENERATOR_FILE, "--json").json
    assert said["architecture"] == "mobilefsgan"
    before, after = said["frame"]["baked"], said["frame"]["simplified"]
    assert said["generator_values"] > before["parameters"] > after["parameters"] == 1_921_487
    assert 7_750_000 > before["bytes"] > after["bytes"] == 4 * 1_921_487
    assert round(after["macs"] / 1e9, 1) == 32.4
    said = mfs("inspect", fsgan / standin.ENCODER_FILE, "--json").json
    assert (said["kind"], said["architecture"]) == ("identity encoder", "mobilefsgan")
    said = mfs("inspect", person, "--json").json
    assert (said["architecture"], said["embedding"], "feature_map" in said) == ("mobilefsgan", [1, 512], False)


def test_what_belongs_to_the_other_architecture_is_refused_with_the_way_out(mfs, fsgan, person, checkpoint, tmp_path):
    out = ("--out", tmp_path / "x", "--backends", "onnx")
    ran = mfs("export", "--checkpoint", fsgan / standin.GENERATOR_FILE, "--identity", person, *out)
    assert "pass --arch mobilefsgan" in ran.err
    ran = mfs("export", *ARCH, "--checkpoint", checkpoint / "MobileFaceSwap_224.pdparams", "--identity", person, *out)
    assert "pass --arch mobilefaceswap" in ran.err
    ran = mfs("export", "--checkpoint", "demo", "--identity", person, *out)
    assert "it is for mobilefsgan, not for mobilefaceswap" in ran.err
    assert "choose from: 256" in mfs("export", *ARCH, "--checkpoint", fsgan, "--identity", person, "--size", "224", *out).err
    assert "mobilefsgan has none" in mfs("export", *ARCH, "--checkpoint", "demo", "--identity", person, *out).err


def test_a_person_is_stamped_as_the_converters_would(mfs, fsgan, person, fsgan_bundle, tmp_path):
    args = ("export", *ARCH, "--checkpoint", fsgan, "--identity", person, "--backends", "onnx,ncnn", "--parity", "sample")
    ran = mfs(*args, "--out", tmp_path / "stamped")
    assert ran.code == 0, ran
    assert ran.err.count("stamped with fp16") == 2
    for name in ("swap.onnx", "swap.param", "swap.bin"):
        assert (tmp_path / "stamped" / name).read_bytes() == (fsgan_bundle / name).read_bytes(), name


def test_int8_weights_can_be_stamped_though_every_scale_is_positive(mfs, fsgan):
    ran = mfs("kit", "build", *ARCH, "--checkpoint", fsgan, "--recipe", "w8", "--backends", "onnx", "--json")
    assert ran.code == 0, ran
    assert [(one["backend"], one["slots"]) for one in ran.json["templates"]] == [
        ("onnx", 28)
    ]  # 9 scales, their steps, 9 shifts, hash


def _run(model: Path, crop: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (swapped,) = session.run(None, {session.get_inputs()[0].name: crop})
    return swapped


def test_a_kit_makes_bundles_of_photos_and_identities_and_parity_holds(mfs, fsgan_kit, person, photo, tmp_path):
    people = [f'a,{photo},,"{LANDMARKS}"', f"b,,{person},"]
    (tmp_path / "people.csv").write_text("\n".join(["id,photo,identity,landmarks", *people]))
    target = np.random.default_rng(0).random((1, 3, 256, 256), np.float32)
    args = ("batch", tmp_path / "people.csv", "--kit", fsgan_kit, "--backends", "onnx,ncnn", "--workers", "1", "--parity", "2")
    ran = mfs(*args, "--out", tmp_path / "out", "--json")
    assert ran.code == 0, ran
    assert ran.json["counts"] == {"done": 2}
    assert all(one["psnr_db"] > 70 for one in ran.json["parity"])
    a, b = (_run(tmp_path / "out" / name / "swap.onnx", target) for name in "ab")
    assert metrics.psnr_db(a, b, peak=1.0) > 60  # the same face, seen by the encoder in ONNX Runtime and in PyTorch
    said = manifest.read(tmp_path / "out" / "a")
    assert "edge" in said["paste_back"]
    assert (said["paste_back"]["centre"], said["paste_back"]["radii"], said["paste_back"]["edge"]) == (
        [0.5, 0.575],
        [0.36, 0.4],
        0.25,
    )


def test_the_second_pack_takes_templates_from_the_cache_and_gives_the_same_bytes(mfs, fsgan_kit, fsgan, tmp_path, monkeypatch):
    monkeypatch.setattr("mfs_deploy.stamping.build.build", None)
    args = ("kit", "pack", *ARCH, "--checkpoint", fsgan, "--backends", "onnx,ncnn")
    ran = mfs(*args, "--out", tmp_path / "k", "--json")
    assert ran.code == 0, ran
    assert (tmp_path / "k").read_bytes() == fsgan_kit.read_bytes()


def test_an_identity_of_the_other_architecture_is_refused_by_the_kit(mfs, fsgan_kit, somebody, tmp_path):
    ran = mfs("stamp", fsgan_kit, "--identity", somebody(0), "--backends", "onnx", "--out", tmp_path / "x")
    assert ran.code != 0
    assert "it is for mobilefaceswap, not for mobilefsgan" in ran.err
