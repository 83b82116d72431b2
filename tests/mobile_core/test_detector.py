"""The detector on a phone against the exporter's decoding of the same model's outputs, for frames of any rotation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mfs_deploy.backends.ncnn.files import NcnnLayer, write_param
from mfs_deploy.faces import detectors
from testing import core_bundles, core_library

STRIDES, ANCHORS, SIDE = (8, 16, 32), 2, 128


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A network of SCRFD's form with random weights: for each stride one convolution a kind, then rows over cells and anchors."""
    rng = np.random.default_rng(3)
    layers, weights = [NcnnLayer("Input", "in0", (), ("in0",), text({0: SIDE, 1: SIDE, 2: 3}))], b""
    splits = tuple(f"in0_{i}" for i in range(9))
    layers.append(NcnnLayer("Split", "split", ("in0",), splits, {}))
    for i, values in enumerate((1, 4, 10)):
        for level, stride in enumerate(STRIDES):
            name, out = f"{values}_{stride}", f"out{level + 3 * i}"
            count = ANCHORS * values
            params = {0: count, 1: stride, 3: stride, 5: 1, 6: count * 3 * stride * stride}
            layers.append(NcnnLayer("Convolution", f"conv_{name}", (splits[level + 3 * i],), (f"c{out}",), text(params)))
            scale = 30 if values == 1 else 8
            kernel = rng.normal(0, scale / (3 * stride * stride) ** 0.5 / 8, count * 3 * stride * stride).astype(np.float32)
            bias = np.full(count, -2.0 if values == 1 else 1.5, np.float32)
            weights += bytes(4) + kernel.tobytes() + bias.tobytes()  # a tag that says float32 stands before a kernel
            before = f"c{out}"
            if values == 1:
                layers.append(NcnnLayer("Sigmoid", f"sigmoid_{name}", (before,), (f"s{out}",), {}))
                before = f"s{out}"
            layers.append(NcnnLayer("Permute", f"permute_{name}", (before,), (f"p{out}",), text({0: 3})))
            layers.append(NcnnLayer("Reshape", f"reshape_{name}", (f"p{out}",), (out,), text({0: values, 1: -1})))
    folder = tmp_path_factory.mktemp("detector")
    (folder / "detector.param").write_text(write_param(tuple(layers)))
    (folder / "detector.bin").write_bytes(weights)
    return folder


def text(params: dict[int, int]) -> dict[int, str]:
    return {key: str(value) for key, value in params.items()}


def expected(model: Path, upright: np.ndarray) -> tuple[float, np.ndarray]:
    """Score and landmarks of the best face, as ``detectors.Scrfd`` finds them, but by Python's ncnn."""
    import ncnn

    canvas, scale = detectors._fit(upright, SIDE, SIDE, enlarge=True)
    planes = np.ascontiguousarray((canvas.transpose(2, 0, 1).astype(np.float32) - np.float32(127.5)) / np.float32(128))
    net = ncnn.Net()
    net.opt.num_threads = 1
    assert net.load_param(str(model / "detector.param")) == 0
    assert net.load_model(str(model / "detector.bin")) == 0
    extractor = net.create_extractor()
    extractor.input("in0", ncnn.Mat(planes).clone())
    outputs = [np.array(extractor.extract(f"out{i}")[1]) for i in range(9)]
    scores, boxes, points = detectors.decode_scrfd(outputs, (SIDE, SIDE), STRIDES, ANCHORS, "test")
    order = np.argsort(scores, kind="stable")[::-1]
    best = order[detectors.suppress(boxes[order] / np.float32(scale), detectors.SCRFD_NMS_IOU)[0]]
    assert len(scores) > 5
    return float(scores[best]), points[best] / scale


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", [(slice(0, 300), slice(50, 450)), (slice(0, 500), slice(100, 300))])
def test_the_best_face_is_where_the_exporter_sees_it(library, golden_bundle, model, portrait, rotation, crop):
    upright = np.ascontiguousarray(portrait[crop])
    score, points = expected(model, upright)
    assert score > 0.6
    # As a camera that is turned gives it: `rotation` clockwise would set it upright again.
    buffer = np.ascontiguousarray(np.rot90(upright, rotation // 90))
    session = library.session()
    session.load(golden_bundle, "ncnn", detector=model)
    result = session.swap(core_library.frame([buffer.copy()], "RGB", rotation=rotation), None)
    assert result.swapped == 1
    assert result.detect_ms > 0
    height, width = upright.shape[:2]
    x, y = points.T
    turned = {0: (x, y), 90: (y, width - 1 - x), 180: (width - 1 - x, height - 1 - y), 270: (height - 1 - y, x)}[rotation]
    np.testing.assert_allclose(np.array(result.landmarks).reshape(5, 2), np.stack(turned, 1), atol=1.0)


def test_a_frame_without_a_face_stays_as_it_is(library, golden_bundle, model):
    session = library.session()
    session.load(golden_bundle, "ncnn", detector=model)
    grey = np.full((200, 300, 3), 127, np.uint8)
    frame = grey.copy()
    assert session.swap(core_library.frame([frame], "RGB"), None).swapped == 0
    np.testing.assert_array_equal(frame, grey)
    assert session.json()["frames"] == 0


def test_a_bundle_may_bring_its_detector(library, copy, model):
    core_bundles.replace(copy, {name: (model / name).read_bytes() for name in ("detector.param", "detector.bin")})
    session = library.session()
    session.load(copy, "ncnn")
    assert session.json()["detector"] == "SCRFD"


def test_other_networks_are_no_detectors(library, golden_bundle, tmp_path):
    session = library.session()
    with pytest.raises(core_library.Failed, match=r"'detector\.param' is missing"):
        session.load(golden_bundle, "ncnn", detector=tmp_path)
    for name in ("param", "bin"):
        (tmp_path / f"detector.{name}").write_bytes((golden_bundle / f"swap.{name}").read_bytes())
    with pytest.raises(core_library.Failed, match="the detector has 0 outputs"):
        session.load(golden_bundle, "ncnn", detector=tmp_path)
