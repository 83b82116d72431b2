"""Bundles from strangers: what is damaged, incomplete, or would have the core read elsewhere is refused in words before any use."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from mfs_deploy.architectures import INTERFACES
from mfs_deploy.bundle import manifest
from testing import core_bundles, core_library, manifests


@pytest.fixture
def bare(bare_bundle, tmp_path) -> Path:
    """A bundle to damage; its manifest is all that matters here."""
    return Path(shutil.copytree(bare_bundle("mobilefaceswap"), tmp_path / "face"))


def refused(library: core_library.Library, folder: Path, said: str, status: int = core_library.BUNDLE) -> None:
    with pytest.raises(core_library.Failed) as caught:
        library.open(folder)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.status == status


@pytest.mark.parametrize("arch", ["mobilefaceswap", "mobilefsgan"])
def test_what_the_exporter_writes_is_read_as_it_was_meant(library, bare_bundle, arch):
    bundle = library.open(bare_bundle(arch))
    said = json.loads((bare_bundle(arch) / "manifest.json").read_text("utf-8"))
    assert bundle.size == said["contract"]["size"]
    assert bundle.has_mask is (len(said["contract"]["outputs"]) == 2)
    assert bundle.json["label"] == manifest.DISCLOSURE["label"]
    assert bundle.json["disclosure"] == manifest.DISCLOSURE["disclosure"]


def test_apps_can_read_names_shapes_and_layouts_instead_of_retyping_them(library, golden_bundle):
    said = json.loads((golden_bundle / "manifest.json").read_text("utf-8"))
    found = library.open(golden_bundle).json
    assert found["contract"] == {"input": "target", "swapped": "swapped", "mask": "mask"}
    for name, artifact in said["artifacts"].items():
        parts = ("name", "dtype", "shape")
        ends = {key: [{part: tensor[part] for part in parts} for tensor in artifact[key]] for key in ("inputs", "outputs")}
        assert found["artifacts"][name] == {key: artifact[key] for key in ("recipe", "layout", "files")} | ends


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("swap.onnx", b"nona", "'swap.onnx' has changed: its SHA-256 is not the manifest's"),
        ("swap.onnx", b"longer", "'swap.onnx' has 6 bytes, the manifest says 4"),
        ("swap.onnx", None, "'swap.onnx' is missing"),
        ("manifest.json", None, "'manifest.json' is missing"),
        ("manifest.json", b"{", "manifest is not JSON"),
        ("manifest.json", b"[]", "manifest must be an object"),
        ("manifest.json", b" " * 10_000_001, "'manifest.json' has 10000001 bytes, at most 10000000 are read"),
    ],
)
def test_damaged_files_are_told(library, bare, name, content, said):
    (bare / name).unlink()
    if content is not None:
        (bare / name).write_bytes(content)
    refused(library, bare, said)


def test_no_link_leads_out_of_a_bundle(library, bare, tmp_path):
    (tmp_path / "outside").write_bytes(b"none")
    (bare / "swap.onnx").unlink()
    (bare / "swap.onnx").symlink_to(tmp_path / "outside")
    refused(library, bare, "'swap.onnx' leads through a link")
    (bare / "swap.onnx").unlink()
    (bare / "swap.onnx").mkdir()
    refused(library, bare, "'swap.onnx' is not a regular file")
    (bare / "swap.onnx").rmdir()
    os.mkfifo(bare / "swap.onnx")  # reading it would wait for ever
    refused(library, bare, "'swap.onnx' is not a regular file")
    (tmp_path / "link").symlink_to(tmp_path)
    core_bundles.rewrite(bare, lambda said: said["files"].update({"link/outside": said["files"].pop("swap.onnx")}))
    (bare / "link").symlink_to(tmp_path)
    refused(library, bare, "'link/outside' leads through a link")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../outside", "a\\b", "", ".", "a//b", "a\nb", "C:outside"])
def test_no_name_leads_out_of_a_bundle(library, bare, tmp_path, name):
    (tmp_path / "outside").write_bytes(b"none")
    core_bundles.rewrite(bare, lambda said: said["files"].update({name: said["files"]["swap.onnx"]}))
    refused(library, bare, "is no path inside a bundle")


def put(*keys, value):
    """A change of one entry of a manifest."""

    def change(said):
        for key in keys[:-1]:
            said = said[key]
        said[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said", "status"),
    [
        (put("schema", value=3), "the manifest has schema 3, this version reads 1 to 2", core_library.UNSUPPORTED),
        (put("schema", value="1"), "manifest.schema must be a whole number", core_library.BUNDLE),
        (put("architecture", value="other"), "manifest.architecture is not that of the contract", core_library.BUNDLE),
        (
            put("contract", "size", value=100_000),
            "manifest.contract.size must be a whole number from 32 to 1024",
            core_library.BUNDLE,
        ),
        (
            put("contract", "input", "shape", value=[1, 3, 224, 225]),
            "manifest.contract.input.shape[3] must be",
            core_library.BUNDLE,
        ),
        (
            put("contract", "input", "shape", value=[1, 3, 224]),
            "manifest.contract.input.shape must have four sides",
            core_library.BUNDLE,
        ),
        (put("contract", "input", "colour", value="BGR"), "manifest.contract.input.colour is 'BGR'", core_library.UNSUPPORTED),
        (put("contract", "input", "high", value=255.0), "values in [0, 1] only", core_library.UNSUPPORTED),
        (put("contract", "input", "name", value="../x"), "must be of a-z, 0-9 and _", core_library.BUNDLE),
        (put("contract", "outputs", value=[]), "manifest.contract.outputs is empty", core_library.BUNDLE),
        (put("contract", "outputs", 1, "name", value="swapped"), "names two tensors 'swapped'", core_library.BUNDLE),
        (put("alignment", "solver", value="guess"), "manifest.alignment.solver is 'guess'", core_library.UNSUPPORTED),
        (put("alignment", "points", value=[[1, 2]]), "manifest.alignment.points must be five", core_library.BUNDLE),
        (put("alignment", "base", value=0), "manifest.alignment.base must be a number from 1 to 4096", core_library.BUNDLE),
        (put("paste_back", "blur_kernel", value=8), "manifest.paste_back.blur_kernel is 8, must be odd", core_library.BUNDLE),
        (
            put("paste_back", "border", value=112),
            "manifest.paste_back.border must be a whole number from 1 to 111",
            core_library.BUNDLE,
        ),
        (put("paste_back", value={}), "manifest.paste_back lacks 'steps'", core_library.BUNDLE),
        (lambda said: said["paste_back"].pop("threshold"), "manifest.paste_back lacks 'threshold'", core_library.BUNDLE),
        (put("alignment", "outside", value=128), "manifest.alignment.outside is '128", core_library.UNSUPPORTED),
        (
            put("alignment", "landmarks", 2, value="chin"),
            "manifest.alignment.landmarks is 'left eye, right eye, chin",
            core_library.UNSUPPORTED,
        ),
        (put("paste_back", "steps", 0, value="blur"), "manifest.paste_back.steps is 'blur, dilate", core_library.UNSUPPORTED),
        (put("paste_back", "rounding", value="up"), "manifest.paste_back.rounding is 'up', which this", core_library.UNSUPPORTED),
        (put("paste_back", "morph_shape", value="disc"), "manifest.paste_back.morph_shape is 'disc'", core_library.UNSUPPORTED),
        (put("artifacts", value={}), "manifest.artifacts is empty", core_library.BUNDLE),
        (put("artifacts", "onnx", "recipe", value="w2"), "'onnx'.recipe is 'w2', which is not explained", core_library.BUNDLE),
        (put("files", "swap.onnx", "bytes", value=2**40), "bytes must be a whole number from 0 to 268435456", core_library.BUNDLE),
        (put("files", "swap.onnx", "sha256", value="x" * 65), "sha256 must be text of at most 64 bytes", core_library.BUNDLE),
        (lambda said: said.pop("files"), "manifest lacks 'files'", core_library.BUNDLE),
        (lambda said: said.pop("synthetic_media"), "manifest lacks 'synthetic_media'", core_library.BUNDLE),
        (put("files", value={f"f{i}": {} for i in range(1001)}), "an object of at most 1000 entries", core_library.BUNDLE),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(library, bare, change, said, status):
    core_bundles.rewrite(bare, change)
    refused(library, bare, said, status)


@pytest.mark.parametrize("arch", INTERFACES)
def test_bundles_exported_before_are_still_read(library, tmp_path, arch):
    core_bundles.write_bare(tmp_path, arch)
    manifests.make_schema_1(tmp_path)
    assert library.open(tmp_path).json["architecture"] == arch


def test_a_key_that_occurs_twice_is_refused(library, bare):
    """Readers differ on which one counts, so a file could be one thing for Python and another for a phone."""
    path = bare / "manifest.json"
    path.write_text(path.read_text("utf-8").replace('"schema": 2', '"schema": 2, "schema": 2'), "utf-8")
    refused(library, bare, "manifest has 'schema' twice")


def test_what_the_manifest_does_not_name_is_never_loaded(library, copy):
    core_bundles.rewrite(copy, lambda said: said["files"].pop("swap.bin"))
    with pytest.raises(core_library.Failed, match=r"'swap\.bin' is not in the manifest"):
        library.session().load(copy, "ncnn")


def test_an_artifact_of_another_contract_is_refused(library, copy, golden_bundle):
    session = library.session()
    session.load(golden_bundle, "ncnn")
    core_bundles.rewrite(copy, put("artifacts", "ncnn", "inputs", 0, "shape", value=[3, 256, 256]))
    with pytest.raises(core_library.Failed, match="the manifest's ncnn artifact is not of its contract"):
        session.load(copy, "ncnn")
    param = (golden_bundle / "swap.param").read_bytes()
    core_bundles.rewrite(copy, put("artifacts", "ncnn", "inputs", 0, "shape", value=[3, 224, 224]))
    for content, said in (
        (param.replace(b"swapped", b"swopped"), "swap.param has no blob 'swapped'"),
        (param.replace(b"Sigmoid ", b"Softmax "), "ncnn cannot read the graph of swap.param"),  # a layer that the build leaves out
        (param[:500], "ncnn cannot read the graph of swap.param"),
    ):
        core_bundles.replace(copy, {"swap.param": content})
        with pytest.raises(core_library.Failed, match=said):
            session.load(copy, "ncnn")
    core_bundles.replace(copy, {"swap.param": param, "swap.bin": (golden_bundle / "swap.bin").read_bytes()[:-400]})
    with pytest.raises(core_library.Failed, match=r"ncnn cannot read the weights of swap\.param"):
        session.load(copy, "ncnn")
    assert session.json()["bundle"] == golden_bundle.name  # all the while the first one stays
