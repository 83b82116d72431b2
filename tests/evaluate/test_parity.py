"""The gate must be able to fail: on NaN, on a wrong shape, on swapped colours, on a slight error, on each metric."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mfs_deploy import metrics
from mfs_deploy.errors import ParityError
from mfs_deploy.evaluate import parity
from mfs_deploy.faces import pixels
from mfs_deploy.faces.find import FaceLocation, align_face
from mfs_deploy.faces.portrait import LANDMARKS
from mfs_deploy.quant import recipes

FP32, FP16 = recipes.load("fp32"), recipes.load("fp16")


@pytest.fixture(scope="module")
def cases(portrait) -> list[parity.Case]:
    face = align_face(portrait, 224, FaceLocation(LANDMARKS), None)
    return [parity.Case("target", face.crop, face.photo, face.back), parity.noise_case(224)]


@pytest.fixture(scope="module")
def reference(expected, net, cases) -> parity.Outputs:
    from mfs_deploy.evaluate.reference import run_pytorch

    return run_pytorch(net, parity.inputs(cases))


def judge(outputs, cases, reference, recipe, encode):
    return parity.judge(outputs, cases, reference, dict.fromkeys(outputs, recipe), encode)


def encode(crop):
    return crop.astype(np.float32).mean(axis=(0, 1))


def changed(reference: parity.Outputs, **outputs) -> dict[str, parity.Outputs]:
    return {"onnx": replace(reference, **outputs)}


def test_equal_outputs_pass_at_full_marks(cases, reference):
    judgement = judge({"onnx": reference}, cases, reference, FP32, encode)
    assert judgement.violations == []
    target, noise = judgement.measured["onnx"]
    assert target.swapped_psnr_db == target.composite_psnr_db == metrics.IDENTICAL_DB
    assert target.identity_cosine == pytest.approx(1)
    assert noise.composite_psnr_db is None
    assert noise.identity_cosine is None


def test_quality_is_measured_against_the_truth_where_it_is_known(cases, reference):
    truth = pixels.to_image(reference.swapped[:1])
    known = [replace(cases[0], truth=truth), cases[1]]
    noisy = reference.swapped + np.float32(0.02)
    target, noise = judge(changed(reference, swapped=noisy), known, reference, FP16, None).measured["onnx"]
    assert noise.quality is None
    assert target.quality.psnr_db == pytest.approx(34, abs=0.1)  # 20 log10(1 / 0.02)
    assert target.quality.reference_psnr_db > 50  # rounding to 8 bits is all there is


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("output", ["swapped", "mask"])
def test_one_value_that_is_not_finite_fails(cases, reference, value, output):
    array = getattr(reference, output).copy()
    array[1, 0, 5, 5] = value
    judgement = judge(changed(reference, **{output: array}), cases, reference, FP16, None)
    assert judgement.violations == [f"fp16 onnx: {output} holds 1 values that are NaN or infinite, of {array.size}"]


def test_bgr_for_rgb_fails(cases, reference):
    judgement = judge(changed(reference, swapped=reference.swapped[:, ::-1].copy()), cases, reference, FP16, None)
    assert "swapped_psnr_db on target" in " ".join(judgement.violations)


def test_a_wrong_shape_fails(cases, reference):
    with pytest.raises(ParityError, match=r"mask has shape \(2, 1, 224, 223\)"):
        parity.measure(cases, reference, replace(reference, mask=reference.mask[..., 1:]), None)


@pytest.mark.parametrize("metric", [*parity.AT_LEAST, *parity.AT_MOST])
@pytest.mark.parametrize("recipe", recipes.names())
def test_each_limit_of_the_gate_fails_by_itself(metric, recipe):
    tolerance = recipes.load(recipe).gate
    good = parity.CaseParity("target", **{m: getattr(tolerance, m) for m in (*parity.AT_LEAST, *parity.AT_MOST)})
    assert parity.violations([good], tolerance) == []
    limit = getattr(tolerance, metric)
    for wrong in (limit * 0.999 if metric in parity.AT_LEAST else limit * 1.001, float("nan")):
        off: dict[str, Any] = {metric: wrong}
        (failure,) = parity.violations([replace(good, **off)], tolerance)
        assert failure.metric == metric
        assert metric in str(failure)


def test_the_worst_offender_comes_first(cases, reference):
    slightly, badly = reference.swapped + np.float32(2e-4), reference.swapped + np.float32(0.2)
    outputs = {"onnx": replace(reference, swapped=slightly), "ncnn": replace(reference, swapped=badly)}
    judgement = judge(outputs, cases, reference, FP32, None)
    assert judgement.violations[0].startswith("fp32 ncnn: swapped_max")
    error = judgement.error(hint="")
    assert error.exit_code == 7
    assert "limits broken in all" in error.message


def test_psnr_is_the_textbook_figure():
    a = np.zeros((4, 4), np.float32)
    assert metrics.psnr_db(a, a + 0.1, peak=1.0) == pytest.approx(20, abs=1e-5)
    assert metrics.psnr_db(a, a + 51, peak=255) == pytest.approx(20 * np.log10(5))
    assert np.isnan(metrics.psnr_db(a, a + np.nan, peak=1.0))
    with pytest.raises(ValueError, match="shapes differ"):
        metrics.psnr_db(a, a[:2], peak=1.0)


def test_bytes_from_a_pixel_buffer_are_held_to_what_rounding_allows(cases, reference):
    """Core ML on macOS gives 8 bits; half a level must pass there at fp32, and a level and a half must not."""
    rounded = replace(reference, swapped=np.rint(reference.swapped * 255).astype(np.float32) / 255)
    assert judge({"coreml": rounded}, cases, reference, FP32, None).violations != []
    rounded = replace(rounded, pixels=True)
    assert judge({"coreml": rounded}, cases, reference, FP32, None).violations == []
    off = replace(rounded, swapped=rounded.swapped + np.float32(1.5 / 255))
    assert judge({"coreml": off}, cases, reference, FP32, None).violations != []


def test_each_artifact_is_gated_by_its_own_recipe(cases, reference):
    noisy = replace(reference, swapped=reference.swapped + np.float32(2e-3))  # 54 dB: less than fp32 promises, more than w8a8 does
    recipe = {"onnx": FP32, "ncnn": recipes.load("w8a8")}
    judgement = parity.judge({"onnx": noisy, "ncnn": noisy}, cases, reference, recipe, None)
    assert {line.split(":")[0] for line in judgement.violations} == {"fp32 onnx"}
