"""A stamped bundle is the converted one, byte for byte; what cannot be stamped is converted, and it is said."""

from __future__ import annotations

from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import manifest
from mfs_deploy.errors import ConversionError
from mfs_deploy.stamping import build


def test_stamped_and_fully_converted_bundles_hold_the_same_artifacts_and_the_same_parity(mfs, export_args, tmp_path):
    targets = ("--backends", "onnx,ncnn,coreml", "--recipe", "fp16")
    stamped = mfs(*export_args, *targets, "--out", tmp_path / "stamped")
    assert stamped.code == 0, stamped.err
    for name in ("onnx", "ncnn", "coreml"):
        assert f"{name} stamped with fp16" in stamped.err
    converted = mfs(*export_args, *targets, "--full-conversion", "--out", tmp_path / "converted")
    assert converted.code == 0, converted.err
    assert "stamped" not in converted.err
    assert "template" not in converted.err

    one, other = (manifest.list_files(tmp_path / name) for name in ("stamped", "converted"))
    artifacts = {name for name in one if name.split("/")[0] in {file for b in BACKENDS.values() for file in b.FILES}}
    assert len(artifacts) >= 6
    assert {name: one[name] for name in artifacts} == {name: other.get(name) for name in artifacts}
    assert one == other
    assert manifest.read(tmp_path / "stamped") == manifest.read(tmp_path / "converted")
    assert mfs("parity", tmp_path / "stamped").code == 0


def test_a_template_that_does_not_hold_is_said_and_the_person_converted_in_full(mfs, export_args, made, tmp_path, monkeypatch):
    def refuse(*args: object) -> None:
        raise ConversionError("swap.onnx: 7 bytes differ from the converter's, the first at 5: Encoder.0.0.weight")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "prove", refuse)
    monkeypatch.setattr(build, "PROBE_PEOPLE", 2)  # the first refusal ends it
    ran = mfs(*export_args, "--recipe", "fp32", "--out", tmp_path / "face01")
    assert ran.code == 0, ran.err
    assert "onnx fp32 is converted in full, for its template does not hold: swap.onnx: 7 bytes differ" in ran.err
    assert "onnx converted to fp32" in ran.err
    assert manifest.list_files(tmp_path / "face01") == manifest.list_files(made)
    assert not (tmp_path / "cache").exists()
