"""What a phone computes against PyTorch, the exporter and Python's own runners: networks, formats, figures, and what is written."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from importlib import metadata, resources
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import reference_file
from mfs_deploy.evaluate import parity
from mfs_deploy.faces import align, paste_back, pixels
from mfs_deploy.faces.portrait import LANDMARKS
from testing import core_bundles, core_library

PLAIN_C = ("-std=c99", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Werror")


def bench(folder: Path, *args: object) -> SimpleNamespace:
    """``mfs-bench-device ARGS...``; ``json`` is what it prints."""
    command = [str(folder / "mfs-bench-device"), *map(str, args)]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    said = json.loads(done.stdout) if done.stdout.startswith("{") else None
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr, json=said)


@pytest.fixture(scope="module")
def litert() -> Path:
    """The library that an Android app brings along."""
    pytest.importorskip("ai_edge_litert")
    return Path(str(resources.files("ai_edge_litert").joinpath("libLiteRt.so")))


@pytest.fixture(scope="module")
def told(host, golden_bundle, reference, tmp_path_factory) -> SimpleNamespace:
    """A whole run on the golden bundle, its outputs written too."""
    dump = tmp_path_factory.mktemp("dump") / "outputs"
    ran = bench(
        *(host, "--bundle", golden_bundle, "--reference", reference(golden_bundle), "--dump", dump),
        *("--warmup", 1, "--runs", 4, "--sustained", 1.2),
    )
    assert ran.code == 0, ran.err
    return SimpleNamespace(dump=dump, **ran.json)


def test_the_network_on_a_phone_is_pytorch_s_to_1e_4(told, golden_bundle):
    with np.load(golden_bundle / reference_file.NAME) as arrays:
        expected = dict(arrays)
    for name in ("swapped", "mask"):
        got = np.load(told.dump / f"{name}.npy")
        assert got.dtype == np.float32
        assert got.shape == expected[name].shape
        assert np.abs(got - expected[name]).max() < 1e-4
    assert [case["case"] for case in told.parity["cases"]] == list(expected["case"])


def test_alignment_and_paste_back_are_the_exporter_s_to_one_level(told):
    assert told.parity["align_max"] <= 1
    assert told.parity["paste_max"] <= 1
    assert told.parity["composite_psnr_db"] > 70
    assert told.parity["complaints"] == []


def test_reported_parity_equals_python_s_on_the_same_outputs(told, golden_bundle):
    with np.load(golden_bundle / reference_file.NAME) as arrays:
        expected = dict(arrays)
    got = parity.Outputs(*(np.load(told.dump / f"{name}.npy") for name in ("swapped", "mask")))
    cases = [parity.Case(str(name), crop) for name, crop in zip(expected["case"], expected["target_rgb"], strict=True)]
    for said, measured in zip(told.parity["cases"], parity.measure(cases, parity.Outputs.of(expected), got, None), strict=True):
        for name in ("swapped_psnr_db", "swapped_max", "mask_mean"):
            assert said[name] == pytest.approx(getattr(measured, name), rel=1e-3)


def test_the_report_says_what_was_run_on_what(told, golden_bundle):
    said = json.loads((golden_bundle / "manifest.json").read_text("utf-8"))
    contract = json.dumps(said["contract"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert told.contract_sha256 == hashlib.sha256(contract.encode()).hexdigest()
    assert told.manifest_sha256 == hashlib.sha256((golden_bundle / "manifest.json").read_bytes()).hexdigest()
    assert (told.backend, told.recipe, told.precision, told.threads) == ("ncnn", "fp32", "float32", 1)
    assert told.runtime == f"ncnn {metadata.version('ncnn')} (CPU)"  # what is built here is what parity was measured with
    assert told.machine["cores"] == os.cpu_count()
    for stage in ("align", "network", "paste", "total"):
        times = told.latency_ms[stage]
        assert 0 < times["min"] <= times["p50"] <= times["p90"] <= times["p99"] <= times["max"]
    parts = sum(told.latency_ms[stage]["mean"] for stage in ("align", "network", "paste"))
    assert parts == pytest.approx(told.latency_ms["total"]["mean"], rel=0.05)
    assert told.sustained["frames"] == pytest.approx(told.sustained["fps"] * told.sustained["seconds"])
    assert len(told.sustained["samples"]) >= 2
    assert len(told.sustained["samples"][0]["khz"]) == os.cpu_count()


def test_the_demo_bundle_in_half_precision_holds_its_gate(host, demo_bundle, reference):
    ran = bench(host, "--bundle", demo_bundle, "--reference", reference(demo_bundle), "--runs", 0, "--warmup", 0)
    assert ran.code == 0, ran.err
    assert ran.json["parity"]["align_max"] <= 1
    assert ran.json["parity"]["paste_max"] <= 1
    assert ran.json["weights"] == "float16"


def test_litert_gives_the_same(host, golden_bundle, reference, litert):
    ran = bench(
        *(host, "--bundle", golden_bundle, "--reference", reference(golden_bundle), "--backend", "tflite", "--litert", litert),
        *("--warmup", 0, "--runs", 1),
    )
    assert ran.code == 0, ran.err
    assert max(case["swapped_max"] for case in ran.json["parity"]["cases"]) < 1e-4


def test_an_artifact_that_departs_is_told_and_fails(host, copy, reference, golden_bundle):
    weights = bytearray((copy / "swap.bin").read_bytes())
    weights[40_000:44_000] = bytes(4000)
    core_bundles.replace(copy, {"swap.bin": bytes(weights)})
    ran = bench(host, "--bundle", copy, "--reference", reference(golden_bundle), "--runs", 0, "--warmup", 0)
    assert ran.code == 7
    assert "swapped_psnr_db on target is" in ran.err
    assert ran.json["parity"]["complaints"][0] in ran.err


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ((), 2, "--bundle DIR is needed"),
        (("--bundle", "B", "--threads", "many"), 2, "--threads 'many': a number from 1 to 16 is needed"),
        (("--bundle", "B", "--runs", "1.5"), 2, "--runs '1.5': a whole number is needed"),
        (("--bundle", "B", "--frames", "1"), 2, "there is no option '--frames'"),
        (("--bundle", "B", "--dump", "x"), 2, "--dump needs --reference"),
        (("--bundle", "B", "--backend", "onnx"), 5, "this core runs ncnn and tflite artifacts"),
        (("--bundle", "B", "--backend", "tflite", "--litert", "/nowhere.so"), 5, "LiteRT cannot be loaded: /nowhere.so"),
        (("--bundle", "B", "--backend", "tflite", "--litert", "libm.so.6"), 5, "'libm.so.6' is not LiteRT 2.3 or later"),
        (("--bundle", "B", "--reference", "/nowhere"), 8, "'case.npy' is missing"),
        (("--bundle", "/nowhere"), 8, "'/nowhere' is not a folder"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(host, golden_bundle, args, code, said):
    ran = bench(host, *(golden_bundle if arg == "B" else arg for arg in args))
    assert ran.code == code
    assert said in ran.err
    assert ran.out == ""


# ---- artifacts in integers, against Python's runner of the same file


def test_int8_in_ncnn_is_what_python_s_ncnn_gives(library, copy, quantized_ncnn, contract, crop):
    """The layers that int8 needs are in the cut-down build, and take the same path."""
    core_bundles.replace(copy, {name: (quantized_ncnn.parent / name).read_bytes() for name in BACKENDS["ncnn"].FILES})
    session = library.session()
    session.load(copy, "ncnn")
    expected = BACKENDS["ncnn"].open(quantized_ncnn, contract).run(crop)
    got = session.run(pixels.to_image(crop))
    for a, b in zip(got, expected, strict=True):
        assert np.abs(a - b).mean() < 2e-3  # kernels differ by processor: a value on the edge of two integers takes the other
    assert np.abs(got[0] - expected[0]).max() < 0.1


def test_integers_in_and_out_of_litert(library, copy, graph, contract, ranges_seen, crop, litert, tmp_path):
    from mfs_deploy.backends.base import Conversion
    from mfs_deploy.backends.tflite import backend as tflite
    from mfs_deploy.quant import recipes

    job = Conversion(graph, contract, recipes.load("w8a8"), tflite_io="uint8", ranges=ranges_seen)
    tflite.convert(job, tmp_path)
    core_bundles.replace(copy, {"swap.tflite": (tmp_path / "swap.tflite").read_bytes()})
    session = library.session()
    session.load(copy, "tflite", litert=litert)
    expected = tflite.open(tmp_path / "swap.tflite", contract).run(crop)
    for a, b in zip(session.run(pixels.to_image(crop)), expected, strict=True):
        assert np.abs(a - b).max() <= 1.01 / 255


@pytest.fixture(scope="module")
def ranges_seen(graph, crop) -> dict:
    from mfs_deploy.quant import ranges

    return ranges.observe(graph, np.concatenate([crop, crop[..., ::-1]]))


@pytest.fixture(scope="module")
def quantized_ncnn(graph, contract, ranges_seen, tmp_path_factory) -> Path:
    from mfs_deploy.backends.base import Conversion
    from mfs_deploy.backends.ncnn import backend as ncnn
    from mfs_deploy.quant.recipes import Format, Recipe

    folder = tmp_path_factory.mktemp("int8")
    recipe = Recipe("int8", "int8", "int8", "for tests", operations={"conv": Format("int8", "int8")})
    ncnn.convert(Conversion(graph, contract, recipe, ranges=ranges_seen), folder)
    return folder / ncnn.FILES[0]


# ---- the C API as a whole


def test_a_frame_goes_the_whole_way_as_in_python(library, golden_bundle, portrait, contract):
    session = library.session()
    session.load(golden_bundle, "ncnn")
    frame = portrait.copy()
    result = session.swap(core_library.frame([frame], "RGB"), LANDMARKS)
    assert result.swapped == 1
    np.testing.assert_array_equal(np.array(result.landmarks).reshape(5, 2), LANDMARKS)  # the first frame is not smoothed
    crop, back = align.align(portrait, LANDMARKS, 224)
    swapped, mask = BACKENDS["ncnn"].open(golden_bundle / "swap.param", contract).run(pixels.to_tensor(crop))
    expected = paste_back.paste_back(portrait, swapped, mask, back)
    assert (np.abs(frame.astype(int) - expected) <= 1).mean() > 0.9999
    assert np.abs(frame.astype(int) - expected).max() <= 2  # a crop that is one level off goes through the network
    assert session.json()["frames"] == 1


def test_an_app_can_check_itself(library, told, golden_bundle, demo_bundle, reference, tmp_path):
    session = library.session()
    session.load(golden_bundle, "ncnn")
    assert session.self_check(reference(golden_bundle))["complaints"] == []
    session.self_check(reference(golden_bundle), tmp_path / "a" / "b")
    for name in ("swapped", "mask"):
        np.testing.assert_array_equal(np.load(tmp_path / "a" / "b" / f"{name}.npy"), np.load(told.dump / f"{name}.npy"))
    (tmp_path / "file").touch()
    with pytest.raises(core_library.Failed, match=r"file/swap.*' cannot be written"):
        session.self_check(reference(golden_bundle), tmp_path / "file")
    session.load(demo_bundle, "ncnn")
    with pytest.raises(core_library.Failed, match="limit") as caught:
        session.self_check(reference(golden_bundle))
    assert caught.value.status == core_library.PARITY


def test_the_core_s_own_tests_pass(host, golden_bundle):
    done = subprocess.run(
        [host / "tests" / "mfs-core-test", golden_bundle], capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_header_is_plain_c(host):
    """The module map that Swift imports names it, and so may any C compiler."""
    include = Path(__file__).parents[2] / "mobile_core" / "include"
    assert 'header "mfs_core.h"' in (include / "module.modulemap").read_text("utf-8")
    done = subprocess.run(["cc", *PLAIN_C, "-x", "c", include / "mfs_core.h"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
