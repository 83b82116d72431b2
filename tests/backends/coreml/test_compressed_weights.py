"""Packages whose weights coremltools compressed: our unpacking against coremltools' own decompression of the same file."""

from __future__ import annotations

import numpy as np
import pytest

from mfs_deploy import metrics
from mfs_deploy.backends.coreml import backend as coreml
from mfs_deploy.backends.coreml import program as mil
from mfs_deploy.backends.coreml.evaluator import Evaluator


@pytest.fixture(scope="module")
def optimize():
    from mfs_deploy.backends.coreml import package as mil_package

    with mil_package.quiet():
        import coremltools.optimize.coreml as optimize
    return optimize


def compressed(optimize, source, folder, how: str, **options):
    """(package with compressed weights, the same package decompressed by coremltools)."""
    from mfs_deploy.backends.coreml import package as mil_package

    ct = mil_package.coremltools()
    function, kind = {
        "linear": (optimize.linear_quantize_weights, optimize.OpLinearQuantizerConfig),
        "palette": (optimize.palettize_weights, optimize.OpPalettizerConfig),
    }[how]
    with mil_package.quiet():
        model = ct.models.MLModel(str(source), skip_model_load=True)
        small = function(model, config=optimize.OptimizationConfig(global_config=kind(weight_threshold=0, **options)))
        small.save(str(folder / "small.mlpackage"))
        optimize.decompress_weights(small).save(str(folder / "plain.mlpackage"))
    return folder / "small.mlpackage", folder / "plain.mlpackage"


REAL = [
    pytest.param("fp16", "linear", {"mode": "linear_symmetric"}, "int8", "constexpr_affine_dequantize", id="symmetric"),
    pytest.param("fp32", "linear", {"mode": "linear", "dtype": "uint8"}, "uint8", "constexpr_affine_dequantize", id="zero-points"),
    pytest.param("fp16", "palette", {"mode": "uniform", "nbits": 6}, "uint6", "constexpr_lut_to_dense", id="64-values"),
    pytest.param("fp32", "palette", {"mode": "uniform", "nbits": 2}, "uint2", "constexpr_lut_to_dense", id="4-values"),
]


@pytest.mark.parametrize(("name", "how", "options", "stored", "kind"), REAL)
def test_compressed_weights_compute_what_coremltools_unpacks(
    optimize, package_of, contract, crop, expected, tmp_path, name, how, options, stored, kind
):
    small, plain = compressed(optimize, package_of(name, "image"), tmp_path, how, **options)
    assert kind in {op.kind for op in mil.load(small)[1].operations}
    assert kind not in {op.kind for op in mil.load(plain)[1].operations}
    info = coreml.describe(small)
    assert info.parameters[stored] > 490_000
    assert sum(info.parameters.values()) == 495_972
    results = coreml.open(small, contract).run(crop)
    for got, want in zip(results, coreml.open(plain, contract).run(crop), strict=True):
        # float32 may differ in the last bit: (q - zero) * scale is rounded once here, there in another order.
        np.testing.assert_allclose(got, want, rtol=0, atol=0 if name == "fp16" else 2e-6)
    if stored in ("int8", "uint8"):
        assert metrics.psnr_db(results[0], expected[0], peak=1.0) > 40


W = np.random.default_rng(3).standard_normal((8, 16, 3, 3)).astype(np.float32)
X = np.random.default_rng(4).standard_normal((1, 16, 9, 9)).astype(np.float32)
IOS18 = [
    pytest.param("linear", {"dtype": "int4", "granularity": "per_block", "block_size": 4}, "int4", id="int4-blocks"),
    pytest.param("linear", {"dtype": "uint4", "mode": "linear", "granularity": "per_channel"}, "uint4", id="uint4-channels"),
    pytest.param("palette", {"mode": "uniform", "nbits": 3}, "uint3", id="3-bit-table"),
    pytest.param(
        "palette",
        {"mode": "uniform", "nbits": 4, "granularity": "per_grouped_channel", "group_size": 4},
        "uint4",
        id="4-bit-tables",
    ),
]


@pytest.mark.parametrize(("how", "options", "stored"), IOS18)
def test_compression_new_in_ios18_is_unpacked_as_coremltools_does(optimize, build, tmp_path, how, options, stored):
    source = build(lambda mb, x: mb.conv(x=x, weight=W, pad_type="valid"), [X], "iOS18")
    small, plain = compressed(optimize, source, tmp_path, how, **options)
    assert coreml.describe(small).parameters == {stored: W.size}
    got, want = (next(iter(Evaluator(mil.load(path)[1]).run({"a": X}).values())) for path in (small, plain))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    exact = next(iter(Evaluator(mil.load(source)[1]).run({"a": X}).values()))
    assert np.abs(got - exact).max() > 0.05  # it is the compressed weights that ran


def test_float16_weights_cast_to_float32_are_used_in_float32(evaluate):
    """float16 weights computed with in float32."""
    half = W.astype(np.float16)

    def body(mb, x):
        return mb.conv(x=x, weight=mb.constexpr_cast(source_val=half, output_dtype="fp32"), pad_type="valid")

    (got,), kinds = evaluate(body, [X])
    assert kinds == ["constexpr_cast", "conv"]
    (want,), _ = evaluate_again(evaluate, half.astype(np.float32))
    np.testing.assert_array_equal(got, want)


def evaluate_again(evaluate, weight):
    return evaluate(lambda mb, x: mb.conv(x=x, weight=weight, pad_type="valid"), [X])
