"""Each operation of the evaluator against torch or against MIL's own formula, from a file that coremltools wrote."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

RNG = np.random.default_rng(7)


def array(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


X = array(2, 6, 7, 5)
Y = array(2, 6, 7, 5)
POSITIVE = np.abs(X) + np.float32(0.1)
W33 = array(4, 6, 3, 3)
DEPTHWISE = array(6, 1, 4, 4)
GROUPED = array(4, 3, 3, 3)
BIAS = array(4)
ROWS = array(3, 8)


def op(kind, build, expect, *arrays, target="iOS16"):
    return pytest.param(kind, build, expect, list(arrays), target, id=kind)


def case(name, kind, build, expect, *arrays, target="iOS16"):
    return pytest.param(kind, build, expect, list(arrays), target, id=f"{kind}-{name}")


CASES = [
    op("add", lambda mb, x, y: mb.add(x=x, y=y), torch.add, X, Y),
    case("broadcast", "add", lambda mb, x, y: mb.add(x=x, y=y), torch.add, X, array(6, 1, 1)),
    op("sub", lambda mb, x, y: mb.sub(x=x, y=y), torch.sub, X, Y),
    op("mul", lambda mb, x: mb.mul(x=x, y=np.float32(0.3)), lambda x: x * np.float32(0.3), X),
    op("real_div", lambda mb, x, y: mb.real_div(x=x, y=y), torch.div, X, POSITIVE),
    op("minimum", lambda mb, x, y: mb.minimum(x=x, y=y), torch.minimum, X, Y),
    op("maximum", lambda mb, x, y: mb.maximum(x=x, y=y), torch.maximum, X, Y),
    op("leaky_relu", lambda mb, x: mb.leaky_relu(x=x, alpha=np.float32(0.1)), lambda x: F.leaky_relu(x, 0.1), X),
    op("relu", lambda mb, x: mb.relu(x=x), torch.relu, X),
    op("sigmoid", lambda mb, x: mb.sigmoid(x=x), torch.sigmoid, X),
    op("tanh", lambda mb, x: mb.tanh(x=x), torch.tanh, X),
    op(
        "prelu",
        lambda mb, x: mb.prelu(x=x, alpha=np.linspace(0, 1, 6, dtype=np.float32)),
        lambda x: F.prelu(x, torch.linspace(0, 1, 6)),
        X,
    ),
    op(
        "clip",
        lambda mb, x: mb.clip(x=x, alpha=np.float32(-0.5), beta=np.float32(0.7)),
        lambda x: x.clamp(-0.5, 0.7),
        X,
    ),
    op("square", lambda mb, x: mb.square(x=x), torch.square, X),
    op("sqrt", lambda mb, x: mb.sqrt(x=x), torch.sqrt, POSITIVE),
    op("exp", lambda mb, x: mb.exp(x=x), torch.exp, X),
    op("rsqrt", lambda mb, x: mb.rsqrt(x=x, epsilon=np.float32(0.25)), lambda x: 1 / torch.sqrt(x + 0.25), POSITIVE),
    op("identity", lambda mb, x: mb.identity(x=x), lambda x: x, X),
    op("concat", lambda mb, x, y: mb.concat(values=(x, y), axis=1), lambda x, y: torch.cat((x, y), 1), X, array(2, 3, 7, 5)),
    case(
        "interleaved",
        "concat",
        lambda mb, x, y: mb.concat(values=(x, y), axis=-3, interleave=True),
        lambda x, y: torch.cat([t for i in range(6) for t in (x[:, i : i + 1], y[:, i : i + 1])], 1),
        X,
        Y,
    ),
    op("split", lambda mb, x: mb.split(x=x, num_splits=3, axis=1), lambda x: x.chunk(3, 1), X),
    case(
        "sizes",
        "split",
        lambda mb, x: mb.split(x=x, split_sizes=[1, 4, 2], axis=-2),
        lambda x: (x[:, :, :1], x[:, :, 1:5], x[:, :, 5:]),
        X,
    ),
    op("reshape", lambda mb, x: mb.reshape(x=x, shape=[0, 3, -1, 5]), lambda x: x.reshape(2, 3, 14, 5), X),
    op("transpose", lambda mb, x: mb.transpose(x=x, perm=[0, 3, 1, -2]), lambda x: x.permute(0, 3, 1, 2), X),
    op("expand_dims", lambda mb, x: mb.expand_dims(x=x, axes=[-1, 0]), lambda x: x[None, ..., None], ROWS),
    op("squeeze", lambda mb, x: mb.squeeze(x=x, axes=[0, -1]), lambda x: x[0, ..., 0], array(1, 3, 1, 2, 1)),
    op("reduce_mean", lambda mb, x: mb.reduce_mean(x=x, axes=[2, 3], keep_dims=True), lambda x: x.mean((2, 3), True), X),
    op("reduce_sum", lambda mb, x: mb.reduce_sum(x=x, axes=[-1]), lambda x: x.sum(-1), X),
    op(
        "linear",
        lambda mb, x: mb.linear(x=x, weight=W33.reshape(27, 8), bias=np.arange(27, dtype=np.float32)),
        lambda x: x @ torch.tensor(W33.reshape(27, 8)).T + torch.arange(27.0),
        ROWS,
    ),
    op("matmul", lambda mb, x, y: mb.matmul(x=x, y=y, transpose_y=True), lambda x, y: x @ y.mT, ROWS, array(2, 5, 8)),
    case("left", "matmul", lambda mb, x, y: mb.matmul(x=x, y=y, transpose_x=True), lambda x, y: x.T @ y, ROWS, array(3, 4)),
    op(
        "batch_norm",
        lambda mb, x: mb.batch_norm(
            x=x,
            mean=X[0, :, 0, 0],
            variance=POSITIVE[0, :, 0, 0],
            gamma=X[0, :, 1, 1],
            beta=X[0, :, 2, 2],
            epsilon=np.float32(1e-3),
        ),
        lambda x: (x - c(X[0, :, 0, 0])) / torch.sqrt(c(POSITIVE[0, :, 0, 0]) + 1e-3) * c(X[0, :, 1, 1]) + c(X[0, :, 2, 2]),
        X,
    ),
    op(
        "instance_norm",
        lambda mb, x: mb.instance_norm(x=x, gamma=X[0, :, 1, 1], beta=X[0, :, 2, 2], epsilon=np.float32(1e-2)),
        lambda x: (
            (x - x.mean((2, 3), True)) / torch.sqrt(x.var((2, 3), correction=0, keepdim=True) + 1e-2) * c(X[0, :, 1, 1])
            + c(X[0, :, 2, 2])
        ),
        X,
    ),
    op("cast", lambda mb, x: mb.cast(x=x, dtype="int32"), lambda x: x.int(), X * 10),
    # ---- convolution
    op("conv", lambda mb, x: mb.conv(x=x, weight=W33, pad_type="valid"), lambda x: F.conv2d(x, t(W33)), X),
    case(
        "bias-stride-dilation-custom",
        "conv",
        lambda mb, x: mb.conv(x=x, weight=W33, bias=BIAS, strides=[2, 1], dilations=[1, 2], pad_type="custom", pad=[1, 0, 2, 3]),
        lambda x: F.conv2d(F.pad(x, (2, 3, 1, 0)), t(W33), t(BIAS), stride=(2, 1), dilation=(1, 2)),
        X,
    ),
    case(
        "depthwise",
        "conv",
        lambda mb, x: mb.conv(x=x, weight=DEPTHWISE, groups=6, strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
        lambda x: F.conv2d(x, t(DEPTHWISE), stride=2, padding=1, groups=6),
        X,
    ),
    case("groups", "conv", lambda mb, x: mb.conv(x=x, weight=GROUPED, groups=2), lambda x: F.conv2d(x, t(GROUPED), groups=2), X),
    # 7 rows, kernel 4, stride 2: 4 rows out need 3 of padding, the odd one after; 5 columns need 3 as well.
    case(
        "same",
        "conv",
        lambda mb, x: mb.conv(x=x, weight=DEPTHWISE, groups=6, strides=[2, 2], pad_type="same"),
        lambda x: F.conv2d(F.pad(x, (1, 2, 1, 2)), t(DEPTHWISE), stride=2, groups=6),
        X,
    ),
    case(
        "same_lower",
        "conv",
        lambda mb, x: mb.conv(x=x, weight=DEPTHWISE, groups=6, strides=[2, 2], pad_type="same_lower"),
        lambda x: F.conv2d(F.pad(x, (2, 1, 2, 1)), t(DEPTHWISE), stride=2, groups=6),
        X,
    ),
    # ---- padding
    op(
        "pad",
        lambda mb, x: mb.pad(x=x, pad=[1, 0, 2, 3], mode="constant", constant_val=np.float32(2.5)),
        lambda x: F.pad(x, (2, 3, 1, 0), value=2.5),
        X,
    ),
    case(
        "reflect",
        "pad",
        lambda mb, x: mb.pad(x=x, pad=[0, 0, 0, 0, 1, 2, 3, 4], mode="reflect"),
        lambda x: F.pad(x, (3, 4, 1, 2), mode="reflect"),
        X,
    ),
    case(
        "replicate",
        "pad",
        lambda mb, x: mb.pad(x=x, pad=[1, 2, 3, 4], mode="replicate"),
        lambda x: F.pad(x, (3, 4, 1, 2), mode="replicate"),
        X,
    ),
    # ---- resizes
    *(
        case(
            f"align_corners={aligned}-{scale}",
            "upsample_bilinear",
            lambda mb, x, aligned=aligned, scale=scale: mb.upsample_bilinear(
                x=x, scale_factor_height=scale, scale_factor_width=2.0, align_corners=aligned
            ),
            lambda x, aligned=aligned, scale=scale: F.interpolate(
                x, size=(int(7 * scale), 10), mode="bilinear", align_corners=aligned
            ),
            X,
        )
        for aligned in (True, False)
        for scale in (2.0, 2.5)
    ),
    *(
        case(
            f"{mode}-{height}",
            "resize_bilinear",
            lambda mb, x, mode=mode, height=height: mb.resize_bilinear(
                x=x, target_size_height=height, target_size_width=9, sampling_mode=mode
            ),
            lambda x, aligned=aligned, height=height: F.interpolate(x, size=(height, 9), mode="bilinear", align_corners=aligned),
            X,
        )
        for mode, aligned in (("STRICT_ALIGN_CORNERS", True), ("ALIGN_CORNERS", True), ("UNALIGN_CORNERS", False))
        for height in (13, 3)
    ),
    op(
        "upsample_nearest_neighbor",
        lambda mb, x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
        lambda x: F.interpolate(x, size=(14, 15), mode="nearest"),
        X,
    ),
    # ---- slices
    op(
        "slice_by_index",
        lambda mb, x: mb.slice_by_index(
            x=x,
            begin=[1, 0, 1, -3],
            end=[0, 0, 6, 9],
            stride=[1, 2, 3, 1],
            begin_mask=[False, True, False, False],
            end_mask=[False, True, False, True],
            squeeze_mask=[True, False, False, False],
        ),
        lambda x: x[1, ::2, 1:6:3, -3:],
        X,
    ),
    # ---- quantized activations, iOS 17
    op(
        "quantize",
        lambda mb, x: mb.quantize(
            input=x,
            scale=np.linspace(0.01, 0.06, 6, dtype=np.float32),
            zero_point=np.arange(6, dtype=np.int8),
            output_dtype="int8",
            axis=1,
        ),
        lambda x: (
            (torch.round(x / torch.linspace(0.01, 0.06, 6)[:, None, None]) + torch.arange(6)[:, None, None])
            .clamp(-128, 127)
            .to(torch.int8)
        ),
        X,
        target="iOS17",
    ),
]


def t(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values)


def c(values: np.ndarray) -> torch.Tensor:
    """(C,) to broadcast over (N, C, H, W)."""
    return torch.tensor(values)[:, None, None]


@pytest.mark.parametrize(("kind", "build_op", "expect", "arrays", "target"), CASES)
def test_operation_does_what_torch_does(evaluate, kind, build_op, expect, arrays, target):
    def body(mb, *inputs):
        out = build_op(mb, *inputs)
        # int8 cannot leave a program.
        return mb.cast(x=out, dtype="int32") if kind == "quantize" else out

    outputs, kinds = evaluate(body, arrays, target)
    assert kind in kinds
    expected = expect(*(torch.from_numpy(a) for a in arrays))
    expected = expected if isinstance(expected, (tuple, list)) else (expected,)
    assert len(outputs) == len(expected)
    for got, want in zip(outputs, expected, strict=True):
        assert got.shape == tuple(want.shape)
        np.testing.assert_allclose(got, want.numpy(), rtol=2e-6, atol=4e-6)


def test_dequantize_undoes_quantize_within_half_a_step(evaluate):
    scale = np.float32(0.05)

    def body(mb, x):
        return mb.dequantize(
            input=mb.quantize(input=x, scale=scale, output_dtype="uint8", zero_point=np.uint8(120)),
            scale=scale,
            zero_point=np.uint8(120),
        )

    (got,), kinds = evaluate(body, [X], "iOS17")
    assert kinds == ["quantize", "dequantize"]
    assert np.abs(got - X).max() <= 0.0250001
    assert np.abs(got - X).max() > 0.02


# The grids that MIL's documentation of resize_bilinear gives for an input of two pixels, [0, 1].
GRIDS = [
    ("UNALIGN_CORNERS", [0.0, 0.1, 0.5, 0.9, 1.0]),
    ("STRICT_ALIGN_CORNERS", [0.0, 0.25, 0.5, 0.75, 1.0]),
    ("ALIGN_CORNERS", [0.0, 0.25, 0.5, 0.75, 1.0]),
    ("DEFAULT", [0.0, 0.4, 0.8, 1.0, 1.0]),
    ("OFFSET_CORNERS", [0.1, 0.3, 0.5, 0.7, 0.9]),
    ("DEFAULT", [0.0, 1 / 3, 2 / 3, 1.0, 1.0, 1.0]),
    ("OFFSET_CORNERS", [1 / 12, 3 / 12, 5 / 12, 7 / 12, 9 / 12, 11 / 12]),
    ("STRICT_ALIGN_CORNERS", [0.0]),
    ("ALIGN_CORNERS", [0.5]),
]


@pytest.mark.parametrize(("mode", "grid"), GRIDS)
def test_resize_samples_where_mil_says(evaluate, mode, grid):
    ramp = np.array([[[[0.0, 1.0]]]], np.float32)
    (got,), kinds = evaluate(
        lambda mb, x: mb.resize_bilinear(x=x, target_size_height=1, target_size_width=len(grid), sampling_mode=mode), [ramp]
    )
    assert kinds == ["resize_bilinear"]
    np.testing.assert_allclose(got[0, 0, 0], grid, atol=1e-6)


def test_neither_aligned_corners_nor_half_pixels_is_the_default_grid(evaluate):
    ramp = np.array([[[[0.0, 1.0]]]], np.float32)
    (got,), _ = evaluate(
        lambda mb, x: mb.upsample_bilinear(
            x=x, scale_factor_height=1.0, scale_factor_width=2.5, align_corners=False, half_pixel_centers=False
        ),
        [ramp],
    )
    np.testing.assert_allclose(got[0, 0, 0], [0.0, 0.4, 0.8, 1.0, 1.0], atol=1e-6)


HALF = [
    ("conv", lambda mb, x: mb.conv(x=x, weight=W33.astype(np.float16)), lambda x: F.conv2d(x, t(W33).half().float())),
    ("leaky_relu", lambda mb, x: mb.leaky_relu(x=x, alpha=np.float16(0.1)), lambda x: F.leaky_relu(x, float(np.float16(0.1)))),
    ("square", lambda mb, x: mb.square(x=x), torch.square),
    ("sigmoid", lambda mb, x: mb.sigmoid(x=x), torch.sigmoid),
    ("reduce_sum", lambda mb, x: mb.reduce_sum(x=x, axes=[1, 2, 3]), lambda x: x.sum((1, 2, 3))),
    ("concat", lambda mb, x: mb.concat(values=(x, x), axis=1), lambda x: torch.cat((x, x), 1)),
    ("split", lambda mb, x: mb.split(x=x, num_splits=2, axis=1), lambda x: x.chunk(2, 1)),
]


@pytest.mark.parametrize(("kind", "build_op", "expect"), HALF, ids=[kind for kind, *_ in HALF])
def test_float16_is_computed_in_float32_and_rounded_once(evaluate, kind, build_op, expect):
    x = X.astype(np.float16)
    outputs, kinds = evaluate(build_op, [x])
    assert kinds == [kind]
    expected = expect(torch.from_numpy(x).float())
    expected = expected if isinstance(expected, (tuple, list)) else (expected,)
    for got, want in zip(outputs, expected, strict=True):
        assert got.dtype == np.float16
        np.testing.assert_array_equal(got, want.half().numpy())


def test_float16_rounds_between_operations_and_overflows(evaluate):
    """(x + 2048) - 2048 loses what float16 cannot hold at 2048, and 300 squared is infinite."""
    x = np.array([0.3, 1.0, 300.0], np.float16)
    (shifted, squared), _ = evaluate(
        lambda mb, x: (mb.sub(x=mb.add(x=x, y=np.float16(2048)), y=np.float16(2048)), mb.square(x=x)), [x]
    )
    np.testing.assert_array_equal(shifted, np.array([0.0, 0.0, 300.0], np.float16))
    assert squared[2] == np.inf


@pytest.mark.parametrize("source", ["float16", "float32"])
def test_cast_changes_the_type(evaluate, source):
    with np.errstate(over="ignore"):
        x = np.array([1.0009765625, -70000.0, 3.7], np.float32).astype(source)
    wanted = {"float16": "fp32", "float32": "fp16"}[source]
    (got,), _ = evaluate(lambda mb, x: mb.cast(x=x, dtype=wanted), [x])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(got, x.astype({"fp32": np.float32, "fp16": np.float16}[wanted]))
