"""Face detectors with five landmarks: ONNX models that the user provides.

Two kinds are supported and told apart by their outputs.  SCRFD is what the original uses (``scrfd_10g_bnkps.onnx`` in its archive);
it is run as insightface's ``model_zoo/scrfd.py`` runs it.  YuNet (OpenCV's zoo) is small and freely licensed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mfs_deploy import onnx_runtime
from mfs_deploy.errors import CheckpointError
from mfs_deploy.faces.landmarks import THRESHOLD, Face
from mfs_deploy.faces.opencv import cv2
from mfs_deploy.faces.pixels import Image

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

CANVAS = 640  # pixels; the original's det_size, and the fixed input of the published YuNet
SCRFD_NMS_IOU = 0.4  # insightface's default, which the original keeps
YUNET_NMS_IOU = 0.3  # FaceDetectorYN's default
YUNET_TOP_K = 5000  # FaceDetectorYN's default
MAX_MODEL_BYTES = 200_000_000

# insightface takes strides and anchors per cell from the number of outputs.
_SCRFD_STRIDES = {9: (8, 16, 32), 15: (8, 16, 32, 64, 128)}
_SCRFD_ANCHORS = {9: 2, 15: 1}
_SCRFD_WITHOUT_KEYPOINTS = (6, 10)
_SCRFD_VALUES = (1, 4, 10)  # per anchor: score, box distances, keypoint distances
_YUNET_OUTPUTS = frozenset(f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32))
_ALLOWED = "allowed are SCRFD with keypoints (9 or 15 outputs) and YuNet (12 outputs, cls_8 to kps_32)"

Array = NDArray[np.float32]


class Detector(Protocol):
    """``name`` stands for the model in messages and in the manifest."""

    name: str

    def detect(self, image: Image) -> list[Face]:
        """All faces with a score of at least ``THRESHOLD``, by falling score."""
        ...


def open_detector(model: Path | bytes, name: str = "") -> Detector:
    """Open an ONNX face detector; its kind follows from its outputs.

    Args:
        model: a file, or its content.
        name: for messages; the file's name by default.

    Raises:
        CheckpointError: unreadable, not ONNX, or not a supported detector.
    """
    name = name or (model.name if isinstance(model, Path) else "the detector")
    data = model if isinstance(model, bytes) else _read_model(model, name)
    session = _open_session(data, name)
    if {output.name for output in session.get_outputs()} == _YUNET_OUTPUTS:
        return YuNet(data, session, name)
    _check_scrfd(session, name)
    return Scrfd(session, name)


def _read_model(path: Path, name: str) -> bytes:
    try:
        if not path.is_file():
            raise CheckpointError(f"detector {path} is not a file", hint="name an ONNX file: SCRFD with keypoints, or YuNet")
        if (size := path.stat().st_size) > MAX_MODEL_BYTES:
            raise CheckpointError(f"detector {name} has {size:,} bytes; at most {MAX_MODEL_BYTES:,} are allowed")
        return path.read_bytes()
    except OSError as exc:
        raise CheckpointError(f"detector {path} cannot be read: {exc}", hint="check the path and the permissions") from exc


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())


def _open_session(data: bytes, name: str) -> InferenceSession:
    onnxruntime = onnx_runtime.load()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the exception carries the message; do not also write it to stderr
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime's exceptions have no common class of their own
        raise CheckpointError(
            f"detector {name} cannot be opened by ONNX Runtime: {_one_line(exc)}",
            hint="name an ONNX file: SCRFD with keypoints, or YuNet",
        ) from exc


def _check_scrfd(session: InferenceSession, name: str) -> None:
    """Refuse other models than SCRFD with keypoints: by the number of outputs, and by their last axis where it is fixed."""
    outputs = session.get_outputs()
    hint = "use scrfd_10g_bnkps.onnx from the official checkpoints, or YuNet"
    if len(outputs) in _SCRFD_WITHOUT_KEYPOINTS:
        raise CheckpointError(f"detector {name} has {len(outputs)} outputs: SCRFD without keypoints; {_ALLOWED}", hint=hint)
    levels = len(_SCRFD_STRIDES.get(len(outputs), ()))
    expected = [values for values in _SCRFD_VALUES for _ in range(levels)]
    last = [output.shape[-1] if output.shape else None for output in outputs]
    fits = levels and all(not isinstance(seen, int) or seen == wanted for seen, wanted in zip(last, expected, strict=True))
    shape = session.get_inputs()[0].shape
    if not fits or len(session.get_inputs()) != 1 or len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        seen = ", ".join(f"{output.name} {output.shape}" for output in outputs[:16])
        raise CheckpointError(f"detector {name} has input {shape} and {len(outputs)} outputs ({seen}); {_ALLOWED}", hint=hint)


def _canvas_size(session: InferenceSession, divisor: int, name: str) -> tuple[int, int]:
    """Height and width of the detector's input: the model's own where it is fixed, else ``CANVAS``, as insightface has it."""
    height, width = session.get_inputs()[0].shape[2:4]
    if not (isinstance(height, int) and isinstance(width, int)):
        return CANVAS, CANVAS
    if height % divisor or width % divisor or not (0 < height <= 4096 and 0 < width <= 4096):
        raise CheckpointError(f"detector {name} takes {width}x{height} images; multiples of {divisor} up to 4096 are allowed")
    return height, width


def _fit(image: Image, height: int, width: int, *, enlarge: bool) -> tuple[Image, float]:
    """Resize, keeping the ratio, into the top left of a black (height, width) canvas; returns it and the scale.

    The arithmetic is insightface's, the scale being that of the heights.  Only very long images, where a side
    would become zero and the original fails, get one pixel instead.
    """
    image_height, image_width = image.shape[:2]
    ratio = image_height / image_width
    if not enlarge and image_height <= height and image_width <= width:
        new_height, new_width = image_height, image_width
    elif ratio > height / width:
        new_height, new_width = height, max(1, int(height / ratio))
    else:
        new_height, new_width = max(1, int(width * ratio)), width
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[:new_height, :new_width] = cv2.resize(image, (new_width, new_height))
    return canvas, new_height / image_height


class Scrfd:
    """SCRFD as the original runs it: 640x640, scores of at least 0.6, overlap of at most 0.4."""

    def __init__(self, session: InferenceSession, name: str) -> None:
        self.name = name
        self._session = session
        self._input = session.get_inputs()[0].name
        outputs = len(session.get_outputs())
        self._strides, self._anchors = _SCRFD_STRIDES[outputs], _SCRFD_ANCHORS[outputs]
        self._size = _canvas_size(session, self._strides[-1], name)

    def detect(self, image: Image) -> list[Face]:
        canvas, scale = _fit(image, *self._size, enlarge=True)
        planes = (canvas.transpose(2, 0, 1)[None].astype(np.float32) - np.float32(127.5)) / np.float32(128)
        try:
            outputs = self._session.run(None, {self._input: np.ascontiguousarray(planes)})
        except Exception as exc:  # see _open_session
            raise CheckpointError(f"detector {self.name} failed on a {image.shape} image: {_one_line(exc)}") from exc
        scores, boxes, keypoints = decode_scrfd(outputs, self._size, self._strides, self._anchors, self.name)
        boxes, keypoints = boxes / np.float32(scale), keypoints / np.float32(scale)
        order = np.argsort(scores, kind="stable")[::-1]
        kept = order[suppress(boxes[order], SCRFD_NMS_IOU)]
        return [Face(float(scores[i]), _box(boxes[i]), keypoints[i].astype(np.float64)) for i in kept]


def decode_scrfd(
    outputs: Sequence[Any], size: tuple[int, int], strides: Sequence[int], anchors: int, name: str
) -> tuple[Array, Array, Array]:
    """The faces of raw outputs that reach ``THRESHOLD``: scores (N,), boxes (N, 4), keypoints (N, 5, 2), in pixels of the canvas.

    ``outputs`` are scores, then boxes, then keypoints, each for every stride; a leading batch axis of 1 may be there.  Rows run
    over the cells, then over the anchors of a cell, which share the cell's top left corner.  All values are
    distances from that corner in units of the stride; those to the left and top sides count backwards.
    """
    levels = len(strides)
    found: list[tuple[Array, Array, Array]] = []
    for level, stride in enumerate(strides):
        rows, columns = size[0] // stride, size[1] // stride
        count = rows * columns * anchors
        arrays = [np.asarray(outputs[level + levels * i], np.float32) for i in range(3)]
        for array, values in zip(arrays, _SCRFD_VALUES, strict=True):
            if array.shape not in ((count, values), (1, count, values)):
                raise CheckpointError(f"detector {name} gave {array.shape} at stride {stride}, not ({count}, {values})")
        scores, distances, offsets = (a.reshape(count, v) for a, v in zip(arrays, _SCRFD_VALUES, strict=True))
        hit = np.flatnonzero(scores[:, 0] >= np.float32(THRESHOLD))
        cell = hit // anchors
        corner = np.stack([cell % columns, cell // columns], axis=1).astype(np.float32) * stride  # (N, 2) x, y
        distances, offsets = distances[hit] * stride, offsets[hit] * stride
        boxes = np.hstack([corner - distances[:, :2], corner + distances[:, 2:]])
        found.append((scores[hit, 0], boxes, corner[:, None] + offsets.reshape(-1, 5, 2)))
    scores, boxes, keypoints = (np.concatenate(part) for part in zip(*found, strict=True))
    return scores, boxes, keypoints


def suppress(boxes: Array, limit: float) -> list[int]:
    """Greedy non-maximum suppression of (N, 4) boxes by falling score; areas count both end pixels, as insightface has it."""
    corners = boxes.astype(np.float32)
    sides = corners[:, 2:] - corners[:, :2] + 1
    areas = sides[:, 0] * sides[:, 1]
    kept: list[int] = []
    left = np.arange(len(boxes))
    while left.size:
        first, rest = left[0], left[1:]
        kept.append(int(first))
        low = np.maximum(corners[first, :2], corners[rest, :2])
        high = np.minimum(corners[first, 2:], corners[rest, 2:])
        shared = np.maximum(0, high - low + 1).prod(axis=1)
        left = rest[shared / (areas[first] + areas[rest] - shared) <= limit]
    return kept


class YuNet:
    """YuNet through OpenCV.

    Photos are shrunk to 640 on the long side, never enlarged: it is trained on faces of about 10 to 300 px (its card in OpenCV's
    zoo), so a portrait at 1280 would show a face too large for it.  The canvas is always the whole square, which suits
    models with a fixed and with a free input alike.
    """

    def __init__(self, data: bytes, session: InferenceSession, name: str) -> None:
        self.name = name
        self._size = _canvas_size(session, 32, name)
        buffer, no_config = np.frombuffer(data, np.uint8), np.zeros(0, np.uint8)
        size = (self._size[1], self._size[0])
        level = cv2.utils.logging.getLogLevel()
        try:
            # OpenCV 5 warns on stderr that its new engine ignores the target that FaceDetectorYN itself sets.
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
            self._net = cv2.FaceDetectorYN.create("onnx", buffer, no_config, size, THRESHOLD, YUNET_NMS_IOU, YUNET_TOP_K)
        except cv2.error as exc:
            raise CheckpointError(f"detector {name} cannot be opened by OpenCV: {_one_line(exc)}") from exc
        finally:
            cv2.utils.logging.setLogLevel(level)

    def detect(self, image: Image) -> list[Face]:
        canvas, scale = _fit(image, *self._size, enlarge=False)
        try:
            _, rows = self._net.detect(cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))
        except cv2.error as exc:
            raise CheckpointError(f"detector {self.name} failed on a {image.shape} image: {_one_line(exc)}") from exc
        faces = [_yunet_face(row.astype(np.float64), scale) for row in (() if rows is None else rows)]
        return sorted(faces, key=lambda face: -face.score)


def _yunet_face(row: NDArray[np.float64], scale: float) -> Face:
    """15 values: x, y, width, height, five points, score.

    OpenCV names the points from the subject's side: right eye, left eye, nose, right and left mouth corner.  The subject's right
    is the image's left, so this is the order of ``POINTS`` already.
    """
    x, y, width, height = row[:4] / scale
    return Face(float(row[14]), (float(x), float(y), float(x + width), float(y + height)), row[4:14].reshape(5, 2) / scale)


def _box(values: Array) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(v) for v in values)
    return x1, y1, x2, y2
