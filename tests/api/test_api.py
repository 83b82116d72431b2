"""The Python API: as light as its name says, the same bytes and the same refusals as the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mfs_deploy as mfs_api


@pytest.fixture(scope="module")
def exported(once, cache_home):
    """The demo person as ONNX by the API, and what progress was told."""
    told = []

    def make(folder: Path) -> None:
        mfs_api.export(
            checkpoint="demo", source="demo", out=str(folder / "b"), backends=["onnx"], progress=lambda *args: told.append(args)
        )
        (folder / "told").write_text("\n".join(f"{done} {steps} {label}" for done, steps, label in told))

    return once("api-bundle", make)


@pytest.fixture(scope="module")
def bundle(exported):
    return mfs_api.open_bundle(str(exported / "b"))


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; before = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before))"],
        capture_output=True,
        text=True,
        check=True,
    )
    roots = {name.split(".")[0] for name in done.stdout.split()}
    return {name for name in roots - sys.stdlib_module_names if not name.startswith("__editable__")}


def test_importing_the_package_imports_nothing_else():
    assert modules_after("import mfs_deploy") == {"mfs_deploy"}


def test_a_request_is_refused_without_torch():
    code = """
import mfs_deploy
try:
    mfs_deploy.export("demo", "demo", "x", backends=["tensorrt"])
except mfs_deploy.UsageError as error:
    assert "tensorrt" in error.message and "onnx" in error.hint
"""
    assert "torch" not in modules_after(code)


def test_every_public_name_is_there_documented_and_stays_after_internal_imports():
    import mfs_deploy.exporter.pipeline
    import mfs_deploy.swapper  # noqa: F401

    for name in mfs_api.__all__:
        found = getattr(mfs_api, name)
        assert name == "__version__" or found.__doc__
    assert callable(mfs_api.export)
    assert callable(mfs_api.swap)
    assert set(mfs_api.__all__) <= set(dir(mfs_api))
    with pytest.raises(AttributeError, match="tensorrt"):
        mfs_api.tensorrt  # noqa: B018


def test_every_kind_of_error_is_exported():
    from mfs_deploy import errors

    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.MfsError)}
    assert kinds <= set(mfs_api.__all__)


def test_the_api_writes_the_bytes_of_the_command_line(mfs, exported, tmp_path):
    assert mfs("export", "--checkpoint", "demo", "--source", "demo", "--backends", "onnx", "--out", tmp_path / "b").code == 0
    for path in (tmp_path / "b").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (exported / "b" / path.relative_to(tmp_path / "b")).read_bytes(), path.name


def test_progress_counts_every_step(exported):
    told = [line.split(" ", 2) for line in (exported / "told").read_text().splitlines()]
    steps = int(told[-1][1])
    assert {int(done) for done, _, _ in told} >= set(range(1, steps + 1))


def test_parity_is_that_of_the_manifest(bundle):
    parity = bundle.parity()["onnx"]
    recorded = bundle.manifest["artifacts"]["onnx"]["parity"]["cases"][0]
    assert parity.recipe == "fp16"
    assert parity.psnr_db == pytest.approx(recorded["swapped_psnr_db"], abs=1)
    assert parity.psnr_db > 60
    assert 0 < parity.max_error < 0.01


def test_bench_reports_times(bundle):
    result = bundle.bench(runs=100)
    assert 0 < result["artifacts"]["onnx"]["median_ms"] <= result["artifacts"]["onnx"]["p99_ms"]
    with pytest.raises(mfs_api.UsageError, match="runs=3"):
        bundle.bench(runs=3)


def test_run_swaps_a_crop_as_the_reference_says(bundle):
    from mfs_deploy.faces import pixels

    with np.load(bundle.path / "reference.npz") as arrays:
        crop, swapped, mask = (arrays[key][0] for key in ("target_rgb", "swapped", "mask"))
    made, made_mask = bundle.run("onnx", crop)
    assert made.shape == (bundle.size, bundle.size, 3)
    assert made.dtype == np.uint8
    assert made_mask.shape == (bundle.size, bundle.size)
    assert np.abs(made.astype(int) - pixels.to_image(swapped[None]).astype(int)).max() <= 1
    assert np.abs(made_mask - mask[0]).max() < 0.02


@pytest.mark.parametrize(
    ("crop", "seen"),
    [
        (np.zeros((224, 224, 3), np.float32), "float32"),
        (np.zeros((3, 224, 224), np.uint8), r"\(3, 224, 224\)"),
        (np.zeros((256, 256, 3), np.uint8), r"\(256, 256, 3\)"),
        ("crop.png", "str"),
    ],
)
def test_a_crop_of_another_form_is_refused(bundle, crop, seen):
    with pytest.raises(mfs_api.UsageError, match=seen) as refused:
        bundle.run("onnx", crop)
    assert "(224, 224, 3) of uint8" in refused.value.hint


def test_an_artifact_that_is_not_there_is_refused(bundle):
    with pytest.raises(mfs_api.UsageError, match="no coreml artifact"):
        bundle.run("coreml", np.zeros((224, 224, 3), np.uint8))


def test_swap_writes_what_the_command_line_writes(mfs, bundle, portrait, tmp_path):
    from mfs_deploy.faces import portrait as sample

    photo = tmp_path / "photo.png"
    Image.fromarray(portrait).save(photo)
    made = mfs_api.swap(bundle, str(photo), str(tmp_path / "api.png"), landmarks=sample.LANDMARKS.tolist())
    text = ",".join(f"{value:.17g}" for value in sample.LANDMARKS.ravel())
    ran = mfs("swap", "--bundle", bundle.path, "--image", photo, "--landmarks", text, "--out", tmp_path / "cli.png")
    assert ran.code == 0, ran.err
    assert made == tmp_path / "api.png"
    assert made.read_bytes() == (tmp_path / "cli.png").read_bytes()


def test_embed_gives_a_unit_vector(portrait, tmp_path):
    from mfs_deploy.faces import portrait as sample

    Image.fromarray(portrait).save(tmp_path / "photo.png")
    person = mfs_api.embed(tmp_path / "photo.png", "demo", landmarks=sample.LANDMARKS)
    assert person.embedding.shape == (1, 512)
    assert np.linalg.norm(person.embedding) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backends": ["tensorrt"]}, "tensorrt"),
        ({"backends": []}, "no backend"),
        ({"recipe": "fp99"}, "fp99"),
        ({"coreml_io": "x"}, "'x'"),
        ({"tflite_io": "x"}, "'x'"),
        ({"parity": "x"}, "'x'"),
        ({"arch": "x"}, "'x'"),
        ({"size": 100}, "100"),
        ({"face": 1}, "--source PHOTO"),
        ({"identity": "x"}, "exactly one"),
        ({"source": None}, "exactly one"),
        ({"source": "x.png", "landmarks": [[1, 2]]}, r"\(1, 2\)"),
        ({"source": "x.png", "landmarks": "eyes"}, "landmarks"),
        ({"source": "x.png", "face": 0}, "face=0"),
        ({"source": "x.png", "face": 1, "landmarks": np.zeros((5, 2))}, "exclude"),
        ({"out": None}, "out is missing"),
    ],
)
def test_values_that_are_not_allowed_are_refused_by_name(options, words, tmp_path):
    with pytest.raises(mfs_api.UsageError, match=words):
        mfs_api.export(**{"checkpoint": "demo", "source": "demo", "out": tmp_path / "x", **options})
    assert not (tmp_path / "x").exists()


def test_a_folder_without_a_bundle_is_refused(tmp_path):
    with pytest.raises(mfs_api.BundleError):
        mfs_api.open_bundle(tmp_path)
