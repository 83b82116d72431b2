"""The right face, at the right place: decoding, detectors, choosing, and landmarks typed by hand."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mfs_deploy.errors import CheckpointError, PhotoError, UsageError
from mfs_deploy.faces import detectors, landmarks
from mfs_deploy.faces.landmarks import Face
from mfs_deploy.faces.portrait import LANDMARKS
from testing import detector_model

L = LANDMARKS


def error_px(face: Face, expected: np.ndarray) -> float:
    return float(np.abs(face.landmarks - expected).max())


def allowed_px(input_scale: float, face_scale: float = 1.0) -> float:
    """What the synthetic detector promises, in pixels of the photo; a cell missed in decoding would cost 8 / ``input_scale``.

    One pixel of its finest map, which is 2 of its input, and at the outermost point half a step of its four sizes (9 % of 24 px).
    """
    return 2 / input_scale + 0.09 * 24 * face_scale


# Landmarks by hand


def test_landmarks_are_parsed():
    np.testing.assert_array_equal(landmarks.parse("1,2, 3.5,4,5,6,7e0,8,9 ,10"), [[1, 2], [3.5, 4], [5, 6], [7, 8], [9, 10]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2,3,4,5,6,7,8,9", "has 9 values; 10 are needed"),
        ("1,2,3,4,5,6,7,8,9,10,11", "has 11 values"),
        ("", "has 1 values"),
        ("1,2,3,x,5,6,7,8,9,10", r"value 4 \(y of the image-right eye\) is 'x'"),
        ("1,2,3,4,5,6,7,8,,10", r"value 9 \(x of the image-right mouth corner\) is ''"),
        ("nan,2,3,4,5,6,7,8,9,10", r"value 1 \(x of the image-left eye\) is 'nan'"),
        ("1,2,3,4,5,-inf,7,8,9,10", r"value 6 \(y of the nose tip\) is '-inf'"),
    ],
)
def test_wrong_landmarks_are_named(text, words):
    with pytest.raises(UsageError, match=words) as caught:
        landmarks.parse(text)
    assert "x1,y1,...,x5,y5" in caught.value.hint


def test_landmarks_outside_the_image_are_refused(portrait):
    landmarks.check_inside(L, portrait)
    landmarks.check_inside(np.array([(0, 0), (511.9, 0), (0, 511.9), (1, 1), (2, 2)]), portrait)
    for point in ((512, 10), (10, 512), (-1, 10), (10, -0.5)):
        wrong = L.copy()
        wrong[2] = point
        with pytest.raises(UsageError, match=rf"the nose tip at {point[0]:g},{point[1]:g} is outside the image, which is 512x512"):
            landmarks.check_inside(wrong, portrait)


# Choosing


def face(score: float, x: float) -> Face:
    return Face(score, (x, 10.0, x + 50, 70.0), L)


def test_single_face_is_taken():
    only = face(0.7, 5)
    assert landmarks.choose([only], (100, 200, 3), None) is only
    assert landmarks.choose([only], (100, 200, 3), 1) is only


@pytest.mark.parametrize("index", [None, 1])
def test_no_face_says_where_it_looked(index):
    with pytest.raises(PhotoError, match=r"200x100 image with a score of at least 0\.6") as caught:
        landmarks.choose([], (100, 200, 3), index)
    assert caught.value.kind == "no-face"


def test_several_faces_are_listed_from_the_left_and_chosen_by_number():
    right, left = face(0.9, 120), face(0.8, 10.4)
    with pytest.raises(PhotoError) as caught:
        landmarks.choose([right, left], (100, 200, 3), None)
    assert caught.value.kind == "several-faces"
    assert "1: 50x60 px at 10,10, score 0.80; 2: 50x60 px at 120,10, score 0.90" in caught.value.message
    assert "--face N" in caught.value.hint
    assert landmarks.choose([right, left], (100, 200, 3), 1) is left
    assert landmarks.choose([right, left], (100, 200, 3), 2) is right


@pytest.mark.parametrize("index", [0, -1, 3])
def test_face_number_out_of_range(index):
    with pytest.raises(UsageError, match=f"--face {index}: 2 faces were found") as caught:
        landmarks.choose([face(0.9, 120), face(0.8, 10)], (100, 200, 3), index)
    assert "from 1 to 2" in caught.value.hint


def test_best_face_of_a_frame():
    strong, weak = face(0.9, 120), face(0.8, 10)
    assert landmarks.best([weak, strong]) is strong
    assert landmarks.best([]) is None


# SCRFD: arithmetic on outputs with known answers


def empty_outputs(size: tuple[int, int], strides: tuple[int, ...], anchors: int) -> list[np.ndarray]:
    cells = [size[0] // s * (size[1] // s) * anchors for s in strides]
    return [np.zeros((n, values), np.float32) for values in (1, 4, 10) for n in cells]


def put(outputs, size, strides, anchors, level, row, column, anchor, score) -> None:
    i = (row * (size[1] // strides[level]) + column) * anchors + anchor
    n = len(strides)
    outputs[level][i] = score
    outputs[level + n][i] = [1, 2, 3, 4]
    outputs[level + 2 * n][i] = [0.5, 0.25, -0.5, 0, 1, 1, 2, 3, -1, -2]


@pytest.mark.parametrize(("strides", "anchors"), [((8, 16, 32), 2), ((8, 16, 32, 64, 128), 1)])
@pytest.mark.parametrize("batched", [False, True])
def test_scrfd_decoding_by_hand(strides, anchors, batched):
    size = (256, 384)  # height, width
    outputs = empty_outputs(size, strides, anchors)
    put(outputs, size, strides, anchors, 0, row=3, column=7, anchor=anchors - 1, score=0.75)
    put(outputs, size, strides, anchors, 2, row=1, column=0, anchor=0, score=np.float32(0.6))
    put(outputs, size, strides, anchors, 1, row=0, column=0, anchor=0, score=np.nextafter(np.float32(0.6), np.float32(0)))
    if batched:
        outputs = [o[None] for o in outputs]
    scores, boxes, points = detectors.decode_scrfd(outputs, size, strides, anchors, "x")
    np.testing.assert_array_equal(scores, np.array([0.75, 0.6], np.float32))  # 0.6 counts, the number below it does not
    np.testing.assert_array_equal(boxes, [[56 - 8, 24 - 16, 56 + 24, 24 + 32], [0 - 32, 32 - 64, 0 + 96, 32 + 128]])
    np.testing.assert_array_equal(points[0], [[60, 26], [52, 24], [64, 32], [72, 48], [48, 8]])
    np.testing.assert_array_equal(points[1], [[16, 40], [-16, 32], [32, 64], [64, 128], [-32, -32]])


def test_scrfd_outputs_of_another_shape_are_refused():
    outputs = empty_outputs((64, 64), (8, 16, 32), 2)
    outputs[4] = outputs[4][:-1]
    with pytest.raises(CheckpointError, match=r"gave \(31, 4\) at stride 16, not \(32, 4\)"):
        detectors.decode_scrfd(outputs, (64, 64), (8, 16, 32), 2, "x")


def test_suppression_counts_end_pixels():
    """Two boxes 10 wide (0 to 9) and 20 high, shifted by 4: shared 6 of 14 columns, 0.4286; by 5: 5 of 15, 0.3333."""
    boxes = np.array([[0, 0, 9, 19], [4, 0, 13, 19], [5, 0, 14, 19], [100, 0, 109, 19]], np.float32)
    assert detectors.suppress(boxes, 0.4) == [0, 2, 3]
    assert detectors.suppress(boxes[[0, 1]], 0.43) == [0, 1]
    assert detectors.suppress(boxes[[0, 1]], 0.42) == [0]
    assert detectors.suppress(boxes[:0], 0.4) == []


# SCRFD: a model that finds the portrait


def test_scrfd_finds_the_portrait(scrfd, portrait):
    (found,) = scrfd.detect(portrait)
    assert found.score > 0.95
    assert error_px(found, L) < 1.1
    x1, y1, x2, y2 = found.box
    assert x1 < L[:, 0].min() < L[:, 0].max() < x2
    assert y1 < L[:, 1].min() < L[:, 1].max() < y2
    assert found.landmarks.dtype == np.float64


@pytest.mark.parametrize("case", ["padded", "wide", "tall", "larger", "much larger", "smaller"])
def test_scrfd_maps_back_to_the_photo(scrfd, portrait, case):
    image, expected, face_scale = {
        "padded": lambda: (np.pad(portrait, ((40, 0), (91, 0), (0, 0))), L + np.array([91, 40]), 1),
        "wide": lambda: (portrait[:301], L, 1),
        "tall": lambda: (portrait[:, 100:401], L - np.array([100, 0]), 1),
        "larger": lambda: resized(portrait, 900),
        "much larger": lambda: resized(portrait, 3001),
        "smaller": lambda: resized(portrait, 300),
    }[case]()
    (found,) = scrfd.detect(np.ascontiguousarray(image))
    assert error_px(found, expected) < allowed_px(640 / max(image.shape), face_scale)


def resized(portrait: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The portrait at another size, its landmarks there, and the scale."""
    method = cv2.INTER_AREA if side < 512 else cv2.INTER_LINEAR
    return cv2.resize(portrait, (side, side), interpolation=method), (L + 0.5) * side / 512 - 0.5, side / 512


def test_no_face_is_found_where_there_is_none(scrfd, faceless):
    assert scrfd.detect(faceless) == []


def test_two_portraits_are_two_faces(scrfd, portrait):
    image = np.hstack([portrait, (portrait * 0.8).astype(np.uint8)])
    faces = scrfd.detect(image)
    assert len(faces) == 2
    assert faces[0].score >= faces[1].score
    with pytest.raises(PhotoError, match="2 faces found"):
        landmarks.choose(faces, image.shape, None)
    for index, shift in ((1, 0), (2, 512)):
        assert error_px(landmarks.choose(faces, image.shape, index), L + np.array([shift, 0])) < allowed_px(640 / 1024)


@pytest.mark.parametrize("shape", [(32, 40_000, 3), (40_000, 32, 3), (32, 32, 3)])
def test_extreme_shapes_do_not_fail(scrfd, shape):
    assert scrfd.detect(np.zeros(shape, np.uint8)) == []


@pytest.mark.parametrize("options", [{"batched": True}, {"anchors": 1}, {"anchors": 1, "batched": True}, {"size": 640}])
def test_scrfd_export_variants_agree(scrfd, portrait, tmp_path, options):
    detector_model.write_scrfd(tmp_path / "variant.onnx", portrait, L, **options)
    (found,), (expected,) = detectors.open_detector(tmp_path / "variant.onnx").detect(portrait), scrfd.detect(portrait)
    np.testing.assert_array_equal(found.landmarks, expected.landmarks)
    assert (found.box, found.score) == (expected.box, expected.score)


def test_scrfd_of_a_fixed_size_gets_images_of_that_size(portrait, tmp_path):
    detector_model.write_scrfd(tmp_path / "small.onnx", portrait, L, size=352)
    (found,) = detectors.open_detector(tmp_path / "small.onnx").detect(portrait)
    assert error_px(found, L) < allowed_px(352 / 512)


@pytest.mark.parametrize("shape", [(301, 512), (512, 301), (512, 512)])
def test_scrfd_gets_the_input_that_the_original_gives_it(scrfd, portrait, monkeypatch, shape):
    """The original reads BGR, pastes the resized image into a black square, and lets blobFromImage exchange the channels."""
    fed = []

    class Recorder:
        def run(self, names, feed):
            fed.append(feed["input"])
            return empty_outputs((640, 640), (8, 16, 32), 2)

    monkeypatch.setattr(scrfd, "_session", Recorder())
    image = np.ascontiguousarray(portrait[: shape[0], : shape[1]])
    assert scrfd.detect(image) == []
    height, width = (int(640 * side / max(shape)) for side in shape)
    square = np.zeros((640, 640, 3), np.uint8)
    square[:height, :width] = cv2.resize(image[..., ::-1], (width, height))
    np.testing.assert_array_equal(fed[0], cv2.dnn.blobFromImage(square, 1 / 128, (640, 640), (127.5,) * 3, swapRB=True))


# YuNet


def test_yunet_points_are_in_image_left_first_order(yunet, portrait):
    """OpenCV lists the subject's right eye first, which is at the left of the image."""
    (found,) = yunet.detect(portrait)
    assert error_px(found, L) < allowed_px(1.0)
    assert found.landmarks[0, 0] < found.landmarks[1, 0]
    assert found.landmarks[3, 0] < found.landmarks[4, 0]
    assert 0.6 <= found.score <= 1


@pytest.mark.parametrize(("side", "height", "width"), [(1024, 700, 1500), (512, 900, 512), (1024, 1024, 1024)])
def test_yunet_shrinks_large_photos_and_maps_back(yunet, portrait, side, height, width):
    part, expected, face_scale = resized(portrait, side)
    image = np.zeros((height, width, 3), np.uint8)
    image[: min(side, height), :side] = part[:height]
    (found,) = yunet.detect(image)
    assert error_px(found, expected) < allowed_px(640 / max(height, width), face_scale)


def test_yunet_with_a_free_input_size_agrees(yunet, portrait, tmp_path):
    detector_model.write_yunet(tmp_path / "free.onnx", portrait, L, size=None)
    (found,), (expected,) = detectors.open_detector(tmp_path / "free.onnx").detect(portrait), yunet.detect(portrait)
    np.testing.assert_array_equal(found.landmarks, expected.landmarks)


def test_yunet_gets_bgr_which_is_never_enlarged(yunet, portrait, monkeypatch):
    fed = []

    class Recorder:
        def detect(self, image):
            fed.append(image)
            return 1, None

    monkeypatch.setattr(yunet, "_net", Recorder())
    assert yunet.detect(portrait) == []
    assert fed[0].shape == (640, 640, 3)
    np.testing.assert_array_equal(fed[0][:512, :512], portrait[..., ::-1])
    assert not fed[0][512:].any()
    assert not fed[0][:, 512:].any()


def test_yunet_finds_two_faces(yunet, portrait):
    faces = yunet.detect(np.hstack([portrait, (portrait * 0.8).astype(np.uint8)]))
    assert len(faces) == 2
    assert faces[0].score >= faces[1].score


def test_yunet_finds_no_face_where_there_is_none(yunet, faceless):
    assert yunet.detect(faceless) == []


def test_opening_yunet_prints_nothing(yunet_file, capfd):
    detectors.open_detector(yunet_file)
    assert capfd.readouterr() == ("", "")


# Opening


def test_bytes_and_file_open_alike(scrfd_file, yunet_file):
    assert isinstance(detectors.open_detector(scrfd_file.read_bytes()), detectors.Scrfd)
    assert isinstance(detectors.open_detector(yunet_file.read_bytes()), detectors.YuNet)
    assert detectors.open_detector(scrfd_file).name == "scrfd.onnx"
    assert detectors.open_detector(scrfd_file, name="checkpoints.tar").name == "checkpoints.tar"


def constant_model(shapes: list[list[int]], image: tuple[object, ...] = (1, 3, "h", "w")) -> bytes:
    """An ONNX file with one input and constant outputs."""
    names = [f"out{i}" for i in range(len(shapes))]
    nodes = [
        helper.make_node("Constant", [], [n], value=helper.make_tensor(n, TensorProto.FLOAT, s, np.zeros(s).ravel()))
        for n, s in zip(names, shapes, strict=True)
    ]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(names, shapes, strict=True)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("data", TensorProto.FLOAT, image)], outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([[8, 1]] * 3 + [[8, 4]] * 3, "6 outputs: SCRFD without keypoints"),
        ([[8, 1]] * 5 + [[8, 4]] * 5, "10 outputs: SCRFD without keypoints"),
        ([[1, 512]], r"1 outputs \(out0 \[1, 512\]\)"),
        ([[8, 1]] * 9, "9 outputs"),
        ([[8, 2]] * 3 + [[8, 4]] * 3 + [[8, 10]] * 3, "9 outputs"),
        ([[8, 1]] * 12, "12 outputs"),
    ],
)
def test_a_model_of_another_form_is_refused_and_its_outputs_listed(shapes, words):
    with pytest.raises(CheckpointError, match=words) as caught:
        detectors.open_detector(constant_model(shapes))
    assert "allowed are SCRFD with keypoints (9 or 15 outputs) and YuNet" in caught.value.message
    assert caught.value.hint


SCRFD_SHAPES = [[8, 1]] * 3 + [[8, 4]] * 3 + [[8, 10]] * 3


@pytest.mark.parametrize("image", [(1, 1, "h", "w"), (1, 3), (1, 3, 600, 640), (1, 3, 32000, 32000)])
def test_models_with_an_impossible_input_are_refused(image):
    with pytest.raises(CheckpointError):
        detectors.open_detector(constant_model(SCRFD_SHAPES, image))


def test_model_that_gives_other_sizes_than_its_form_is_refused(portrait):
    detector = detectors.open_detector(constant_model(SCRFD_SHAPES))
    with pytest.raises(CheckpointError, match=r"gave \(8, 1\) at stride 8, not \(12800, 1\)"):
        detector.detect(portrait)


def test_a_file_that_holds_no_model_is_refused(tmp_path, scrfd_file):
    (tmp_path / "photo.onnx").write_bytes(b"\xff\xd8\xff not a model")
    (tmp_path / "half.onnx").write_bytes(scrfd_file.read_bytes()[:-1000])
    (tmp_path / "empty.onnx").touch()
    for name in ("photo.onnx", "half.onnx", "empty.onnx", "missing.onnx", "."):
        with pytest.raises(CheckpointError) as caught:
            detectors.open_detector(tmp_path / name)
        assert "\n" not in caught.value.message
        assert caught.value.hint


def test_weights_outside_the_folder_are_not_read(tmp_path, scrfd_file, monkeypatch):
    """A model from a stranger must not reach for other files; the bytes it asks for here would fit."""
    model = onnx.load(scrfd_file)
    tensor = next(t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT)
    (tmp_path / "secret").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="escapes"):
        detectors.open_detector(tmp_path / "here" / "m.onnx")
