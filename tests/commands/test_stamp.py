"""mfs kit pack and unpack, and mfs stamp: what comes out of a kit is what the converters would have made."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import manifest
from mfs_deploy.stamping import kit as kits

LANDMARKS = "203,101,247,103,225,126,204.4,140.4,243.6,141.6"
TARGETS = ("--backends", "onnx,ncnn")


@pytest.fixture(scope="module")
def stamped(once, kit, somebody) -> Path:
    """Person 0's bundle; not to be changed."""
    from mfs_deploy import cli

    def make(folder: Path) -> None:
        args = ["stamp", str(kit), "--identity", str(somebody(0)), *TARGETS, "--out", str(folder / "face01"), "--quiet"]
        assert cli.main(args) == 0

    return once("stamped", make) / "face01"


@pytest.fixture(scope="module")
def models():
    from mfs_deploy.exporter.prepare import open_models
    from mfs_deploy.exporter.request import Network

    return open_models(Network("demo"))


def test_the_stamped_artifacts_match_pytorch_within_the_gate_of_the_recipe(stamped, models, contract, crop, somebody):
    import torch

    from mfs_deploy.architectures.base import Identity
    from mfs_deploy.checkpoint import identity_file
    from mfs_deploy.evaluate import parity
    from mfs_deploy.quant import recipes

    person = identity_file.load(somebody(0))
    net = models.arch.load(models.arch.bake(models.generator, Identity(person.embedding, person.feature_map)))
    with torch.inference_mode():
        reference = parity.Outputs(*(t.numpy() for t in net(torch.from_numpy(crop))))
    case = parity.Case("target", np.ascontiguousarray((crop[0].transpose(1, 2, 0) * 255).round().astype(np.uint8)))
    for backend in ("onnx", "ncnn"):
        runner = BACKENDS[backend].open(stamped / BACKENDS[backend].FILES[0], contract)
        swapped, mask = runner.run(crop)
        got = parity.Outputs(swapped, mask, runner.pixels)
        judged = parity.judge({backend: got}, [case], reference, {backend: recipes.load("fp16")}, encode=None)
        assert judged.violations == []
        assert judged.measured[backend][0].swapped_psnr_db > 50


def test_the_stamped_bundle_is_the_exported_one_but_for_the_last_bits(stamped, mfs, somebody, tmp_path):
    """The generator runs in ONNX Runtime here and in PyTorch there, so float32 weights differ in the last bit."""
    args = ("--checkpoint", "demo", "--identity", somebody(0), "--backends", "onnx", "--full-conversion", "--out", tmp_path / "x")
    ran = mfs("export", *args, "--json")
    assert ran.code == 0, ran
    theirs, ours = ran.json["manifest"], manifest.read(stamped)
    for key in (
        "schema",
        "tool",
        "architecture",
        "contract",
        "alignment",
        "paste_back",
        "checkpoint",
        "licences",
        "synthetic_media",
    ):
        assert ours[key] == theirs[key], key
    differing = {"sha256", "parity"}
    assert {k: v for k, v in ours["artifacts"]["onnx"].items() if k not in differing} == {
        k: v for k, v in theirs["artifacts"]["onnx"].items() if k not in differing
    }
    a, b = ((folder / "swap.onnx").read_bytes() for folder in (stamped, tmp_path / "x"))
    assert len(a) == len(b)
    assert np.mean(np.frombuffer(a, np.uint8) != np.frombuffer(b, np.uint8)) < 0.01


def test_the_stamped_bundle_verifies(stamped, mfs):
    ran = mfs("inspect", stamped, "--json")
    assert ran.code == 0, ran
    assert {name: entry["recipe"] for name, entry in ran.json["artifacts"].items()} == {"onnx": "fp16", "ncnn": "fp16"}


def test_parity_says_that_a_stamped_bundle_holds_no_reference(stamped, mfs):
    ran = mfs("parity", stamped, "--json")
    assert (ran.code, ran.json["error"]["kind"]) == (8, "bundle")
    assert "no reference tensors" in ran.json["error"]["message"]


def test_no_identity_leaves_with_the_stamped_bundle(stamped, somebody):
    from mfs_deploy.checkpoint import identity_file

    needle = identity_file.load(somebody(0)).embedding[0, :4].tobytes()
    assert [path for path in stamped.rglob("*") if path.is_file() and needle in path.read_bytes()] == []


def test_the_manifest_names_the_weights_that_are_in_the_artifact(stamped, kit, somebody):
    from mfs_deploy.checkpoint import identity_file

    (weights,) = kits.load(kit).bake([identity_file.load(somebody(0))])
    assert manifest.read(stamped)["weights"]["sha256"] == weights.digest
    assert weights.digest.encode() in (stamped / "swap.onnx").read_bytes()


def test_baking_people_together_gives_the_same_bytes_as_one_by_one(kit, somebody):
    from mfs_deploy.checkpoint import identity_file

    held = kits.load(kit)
    people = [identity_file.load(somebody(seed)) for seed in range(3)]
    together = [weights.digest for weights in held.bake(people)]
    assert together == [weights.digest for person in people for weights in held.bake([person])]
    assert len(set(together)) == 3


def test_a_photo_stamps_the_same_weights_as_the_identity_that_is_read_from_it(kit, mfs, photo, tmp_path):
    face = ("--landmarks", LANDMARKS)
    ran = mfs("stamp", kit, "--source", photo, *face, "--backends", "onnx", "--out", tmp_path / "photo", "--json")
    assert ran.code == 0, ran
    assert mfs("identity", photo, "--checkpoint", "demo", *face, "--out", tmp_path / "id.safetensors").code == 0
    args = ("--identity", tmp_path / "id.safetensors", "--backends", "onnx", "--out", tmp_path / "identity")
    assert mfs("stamp", kit, *args).code == 0
    a, b = (np.frombuffer((tmp_path / name / "swap.onnx").read_bytes(), np.uint8) for name in ("photo", "identity"))
    assert np.mean(a != b) < 0.01  # the encoder ran in ONNX Runtime here and in PyTorch there


def test_json_is_the_manifest_and_quiet_prints_nothing(small_kit, mfs, somebody, tmp_path):
    args = ("stamp", small_kit, "--identity", somebody(0), "--backends", "ncnn", "--out", tmp_path / "a")
    ran = mfs(*args, "--json")
    assert ran.code == 0
    assert ran.json == {"bundle": str(tmp_path / "a"), "manifest": manifest.read(tmp_path / "a")}
    ran = mfs(*args, "--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert "parity not measured" in mfs(*args).out


@pytest.mark.parametrize(
    ("args", "code", "kind", "says"),
    [
        (["--backends", "coreml"], 2, "usage", "no template for coreml fp16"),
        (["--recipe", "w8a8"], 2, "usage", "it has: ncnn fp16, onnx fp16"),
        (["--backends", "tensorrt"], 2, "usage", "tensorrt"),
        (["--source", "x.jpg"], 2, "usage", "exactly one"),
        (["--aligned"], 2, "usage", "no such photo"),
        (["--identity", "/nowhere"], 3, "checkpoint-missing", "nowhere"),
        (["--identity", __file__], 3, "identity", "not an identity file"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(small_kit, mfs, somebody, tmp_path, args, code, kind, says):
    ran = mfs("stamp", small_kit, "--identity", somebody(0), *TARGETS, "--out", tmp_path / "x", *args, "--json")
    assert ran.code == code, ran
    error = ran.json["error"]
    assert (error["kind"], error["exit_code"]) == (kind, code)
    assert says in error["message"] + error["hint"]
    assert os.listdir(tmp_path) == []


def test_neither_a_photo_nor_an_identity_is_refused(small_kit, mfs, tmp_path):
    assert mfs("stamp", small_kit, "--out", tmp_path / "x", *TARGETS).code == 2


@pytest.mark.parametrize(
    ("args", "code", "kind"),
    [
        (["--source", "/nowhere.jpg", "--aligned"], 4, "photo-unreadable"),
        (["--source", "PHOTO"], 2, "usage"),
        (["--source", "PHOTO", "--detector", "/nowhere.onnx"], 3, "checkpoint"),
        (["--source", "PHOTO", "--landmarks", "1,2"], 2, "usage"),
    ],
)
def test_a_photo_that_cannot_be_used_is_named_and_nothing_is_written(small_kit, mfs, photo, tmp_path, args, code, kind):
    args = [photo if arg == "PHOTO" else arg for arg in args]
    ran = mfs("stamp", small_kit, *args, *TARGETS, "--out", tmp_path / "x", "--json")
    assert (ran.code, ran.json["error"]["kind"]) == (code, kind), ran
    assert os.listdir(tmp_path) == []


def test_an_identity_read_by_another_encoder_is_refused(small_kit, mfs, golden, tmp_path):
    from mfs_deploy.checkpoint import identity_file

    saved = tmp_path / "id.safetensors"
    identity_file.save(saved, golden["identity_embedding"], golden["identity_feature_map"], "0" * 64)
    ran = mfs("stamp", small_kit, "--identity", saved, *TARGETS, "--out", tmp_path / "x", "--json")
    assert (ran.code, ran.json["error"]["kind"]) == (3, "identity")
    assert os.listdir(tmp_path) == ["id.safetensors"]


def test_a_kit_of_a_checkpoint_without_encoder_takes_identities_and_says_that_it_cannot_read_photos(
    small_kit, mfs, somebody, photo, tmp_path
):
    bare = tmp_path / "bare.safetensors"
    kits.save(bare, replace(kits.load(small_kit), encoder=None, encoder_sha256=""))
    ran = mfs("stamp", bare, "--source", photo, "--landmarks", LANDMARKS, *TARGETS, "--out", tmp_path / "x", "--json")
    assert (ran.code, ran.json["error"]["kind"]) == (6, "template")
    assert "no identity encoder" in ran.json["error"]["message"]
    assert mfs("stamp", bare, "--identity", somebody(0), *TARGETS, "--out", tmp_path / "x").code == 0


def test_weights_that_are_no_numbers_are_refused_and_the_old_bundle_stays(small_kit, stamped, mfs, somebody, tmp_path):
    held = kits.load(small_kit)
    shared = dict(held.shared)
    shared["final.1.weight"] = np.full_like(shared["final.1.weight"], np.nan)
    spoiled, out = tmp_path / "kit.safetensors", tmp_path / "face01"
    kits.save(spoiled, replace(held, shared=shared))
    shutil.copytree(stamped, out)
    before = manifest.list_files(out)
    ran = mfs("stamp", spoiled, "--identity", somebody(1), *TARGETS, "--out", out, "--json")
    assert (ran.code, ran.json["error"]["kind"]) == (6, "not-finite")
    assert "final.1.weight" in ran.json["error"]["message"]
    assert manifest.list_files(out) == before
    assert sorted(os.listdir(tmp_path)) == ["face01", "kit.safetensors"]


def test_an_old_bundle_is_replaced_and_anything_else_is_not(small_kit, stamped, mfs, somebody, tmp_path):
    out = tmp_path / "face01"
    shutil.copytree(stamped, out)
    args = ("stamp", small_kit, "--identity", somebody(1), *TARGETS, "--out")
    assert mfs(*args, out).code == 0
    assert manifest.read(out)["weights"] != manifest.read(stamped)["weights"]
    assert manifest.verify(out, manifest.read(out)) == []
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("x")
    assert mfs(*args, tmp_path / "thesis").code == 9
    assert os.listdir(tmp_path / "thesis") == ["thesis.tex"]


def test_unpack_shows_what_is_in_a_kit(kit, mfs, tmp_path):
    import onnxruntime

    ran = mfs("kit", "unpack", kit, "--out", tmp_path / "x", "--json")
    assert ran.code == 0, ran
    assert [(t["backend"], t["recipe"]) for t in ran.json["templates"]] == [("onnx", "fp16"), ("ncnn", "fp16")]
    found = {p.relative_to(tmp_path / "x").as_posix() for p in (tmp_path / "x").rglob("*") if p.is_file()}
    assert found == {
        *("generator.onnx", "identity_encoder.onnx", "1-onnx/swap.onnx"),
        *(f"2-ncnn/{name}" for name in BACKENDS["ncnn"].FILES),
    }
    for name in ("generator.onnx", "identity_encoder.onnx", "1-onnx/swap.onnx"):
        onnxruntime.InferenceSession(tmp_path / "x" / name)
    assert mfs("kit", "unpack", kit, "--out", tmp_path / "x").code == 9


def test_build_and_pack_refuse_at_once_what_cannot_be_had(mfs, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for verb in (("build",), ("pack", "--out", tmp_path / "kit.safetensors")):
        for wrong in (("--recipe", "pal4", "--backends", "onnx"), ("--recipe", "w8a8"), ("--recipe", "int3"), ("--size", "225")):
            ran = mfs("template", *verb, "--checkpoint", "demo", *wrong, "--json")
            assert (ran.code, ran.json["error"]["kind"]) == (2, "usage"), (verb, wrong, ran)
    assert mfs("kit", "pack", "--checkpoint", "demo", "--out", tmp_path).code == 9
    assert os.listdir(tmp_path) == []
