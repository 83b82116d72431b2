"""Small face detectors that find one face, the sample portrait's, in the published models' input and output form.

A normalised cross-correlation with patches of the portrait at four sizes, on three levels of a pyramid.  The best match in
each cell gives the score; a table indexed by its size and place in the cell gives box and landmarks, exact to one pixel of
the network's input at the finest level.  Eyes 26 to 200 px apart in that input are found.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
SIZES = tuple(14 * 2 ** (k / 4) for k in range(4))  # eye distance in pixels of a level, which halves the one before
POOL = 4  # pixels of a level in a cell
GREY = np.array([0.299, 0.587, 0.114], np.float32)
CUT, STEEPNESS = 0.70, 25.0  # score = sigmoid(STEEPNESS * (correlation - CUT)); the face gives 0.80 and more, others 0.61 at most


def write_scrfd(
    path: Path, portrait: np.ndarray, landmarks: np.ndarray, *, batched: bool = False, anchors: int = 2, size: int | None = None
) -> None:
    """SCRFD's form: RGB in (x - 127.5) / 128, and scores, boxes, keypoints for each stride.

    Args:
        batched: outputs with a leading axis of 1.
        anchors: 2 gives 9 outputs; 1 gives 15, for strides up to 128, of which the last two find nothing.
        size: a fixed input size; None leaves it free.
    """
    g = _Graph()
    grey = g.add("Conv", "input", g.constant(GREY.reshape(1, 3, 1, 1)))
    strides = STRIDES if anchors == 2 else (*STRIDES, 64, 128)
    parts: dict[str, list[tuple[str, int]]] = {"score": [], "bbox": [], "kps": []}
    for stride, (correlation, index) in zip(STRIDES, _levels(g, grey, portrait, landmarks), strict=True):
        boxes, points = _tables(portrait, landmarks, stride)
        score = _sigmoid(g, correlation, CUT)
        parts["score"].append((_rows(g, score, None, anchors), 1))
        parts["bbox"].append((_rows(g, index, boxes, anchors), 4))
        parts["kps"].append((_rows(g, index, points, anchors), 10))
    for stride in strides[3:]:
        pooled = g.add("MaxPool", grey, kernel_shape=[stride, stride], strides=[stride, stride])
        zero = g.add("Mul", pooled, g.constant(np.zeros(1, np.float32)))
        for kind, values in (("score", 1), ("bbox", 4), ("kps", 10)):
            many = g.add("Expand", g.add("Reshape", zero, g.integers([-1, 1])), g.integers([1, values]))
            parts[kind].append((many, values))
    outputs = []
    for kind, made in parts.items():
        for (name, values), stride in zip(made, strides, strict=True):
            shape = [1, -1, values] if batched else [-1, values]
            g.nodes.append(helper.make_node("Reshape", [name, g.integers(shape)], [f"{kind}_{stride}"]))
            outputs.append((f"{kind}_{stride}", [1, None, values] if batched else [None, values]))
    g.save(path, outputs, size)


def write_yunet(path: Path, portrait: np.ndarray, landmarks: np.ndarray, *, size: int | None = 640) -> None:
    """YuNet's form: BGR in [0, 255], and cls, obj, bbox, kps for each stride.  The published model has a fixed size of 640."""
    g = _Graph()
    grey = g.add("Conv", "input", g.constant(GREY[::-1].copy().reshape(1, 3, 1, 1) / 128))
    outputs = []
    for stride, (correlation, index) in zip(STRIDES, _levels(g, grey, portrait, landmarks), strict=True):
        boxes, points = _tables(portrait, landmarks, stride)
        centre, sides = (boxes[:, 2:] - boxes[:, :2]) / 2, boxes[:, 2:] + boxes[:, :2]
        score = _sigmoid(g, correlation, CUT)  # OpenCV takes the root of cls x obj, which are equal here
        rows = {
            "cls": (_rows(g, score, None, 1), 1),
            "obj": (_rows(g, score, None, 1), 1),
            "bbox": (_rows(g, index, np.hstack([centre, np.log(sides)]).astype(np.float32), 1), 4),
            "kps": (_rows(g, index, points, 1), 10),
        }
        for kind, (name, values) in rows.items():
            g.nodes.append(helper.make_node("Reshape", [name, g.integers([1, -1, values])], [f"{kind}_{stride}"]))
            outputs.append((f"{kind}_{stride}", [1, None if size is None else (size // stride) ** 2, values]))
    order = {kind: i for i, kind in enumerate(("cls", "obj", "bbox", "kps"))}
    outputs.sort(key=lambda output: order[output[0].split("_")[0]])
    g.save(path, outputs, size)


class _Graph:
    """Nodes and constants under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, array: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def integers(self, values: list[int]) -> str:
        return self.constant(np.array(values, np.int64))

    def save(self, path: Path, outputs: list[tuple[str, list[int | None]]], size: int | None) -> None:
        image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, size or "height", size or "width"])
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs]
        graph = helper.make_graph(self.nodes, "detector", [image], results, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString())


def _levels(g: _Graph, grey: str, portrait: np.ndarray, landmarks: np.ndarray) -> list[tuple[str, str]]:
    """For each stride the best correlation (1, 1, h, w) in a cell, and the row of ``_tables`` (1, h, w) it belongs to."""
    patches = [_patch(portrait, landmarks, size) for size in SIZES]
    found = []
    for _ in STRIDES:
        grey = g.add("AveragePool", grey, kernel_shape=[2, 2], strides=[2, 2])
        squared = g.add("Mul", grey, grey)
        maps = [_correlate(g, grey, squared, patch) for patch in patches]
        cells = [g.add("SpaceToDepth", m, blocksize=POOL) for m in maps]
        matches = g.add("Concat", *cells, axis=1)  # (1, sizes x POOL x POOL, h, w)
        best = g.add("ReduceMax", matches, axes=[1], keepdims=1)
        found.append((best, g.add("ArgMax", matches, axis=1, keepdims=0)))
    return found


def _face(portrait: np.ndarray, landmarks: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray, float]:
    """The portrait with eyes ``size`` px apart: grey image, centre of the face in it, and the scale."""
    scale = size / float(np.linalg.norm(landmarks[1] - landmarks[0]))
    grey = (portrait.astype(np.float32) @ GREY) / 128
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    scales = np.array(small.shape[::-1]) / np.array(grey.shape[::-1])
    return small, (landmarks.mean(axis=0) + 0.5) * scales - 0.5, float(scales.mean())


def _patch(portrait: np.ndarray, landmarks: np.ndarray, size: float) -> np.ndarray:
    small, centre, _ = _face(portrait, landmarks, size)
    side = 2 * round(0.9 * size) + 1
    patch = cv2.getRectSubPix(small, (side, side), (float(centre[0]), float(centre[1])))
    patch = patch - patch.mean()
    return (patch / np.linalg.norm(patch)).astype(np.float32)


def _correlate(g: _Graph, grey: str, squared: str, patch: np.ndarray) -> str:
    """Normalised cross-correlation, (1, 1, h, w); the patch has mean 0 and norm 1."""
    side = len(patch)
    pad = side // 2

    def total(image: str) -> str:  # over the patch's window
        rows = g.add("Conv", image, g.constant(np.ones((1, 1, side, 1), np.float32)), pads=[pad, 0, pad, 0])
        return g.add("Conv", rows, g.constant(np.ones((1, 1, 1, side), np.float32)), pads=[0, pad, 0, pad])

    dot = g.add("Conv", grey, g.constant(patch[None, None]), pads=[pad] * 4)
    mean_part = g.add("Mul", g.add("Mul", total(grey), total(grey)), g.constant(np.array([1 / side**2], np.float32)))
    energy = g.add("Sub", total(squared), mean_part)
    floor = g.constant(np.array([1e-3 * side**2], np.float32))  # flat areas match nothing
    return g.add("Div", dot, g.add("Sqrt", g.add("Max", energy, floor)))


def _sigmoid(g: _Graph, correlation: str, cut: float) -> str:
    above = g.add("Sub", correlation, g.constant(np.array([cut], np.float32)))
    return g.add("Sigmoid", g.add("Mul", above, g.constant(np.array([STEEPNESS], np.float32))))


def _rows(g: _Graph, cells: str, table: np.ndarray | None, anchors: int) -> str:
    """Scores (1, 1, h, w), or rows of ``table`` by an index (1, h, w), as (h x w, anchors, values); the first of two is empty."""
    if table is not None:
        cells = g.add("Gather", g.constant(table), cells, axis=0)
    values = 1 if table is None else table.shape[1]
    rows = g.add("Reshape", cells, g.integers([-1, 1, values]))
    if anchors == 2:
        rows = g.add("Concat", g.add("Mul", rows, g.constant(np.zeros(1, np.float32))), rows, axis=1)
    return rows


def _tables(portrait: np.ndarray, landmarks: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Box distances (n, 4) and keypoint offsets (n, 10), in strides from a cell's corner, for each size and place in a cell."""
    pixel = stride / POOL  # of a level, in pixels of the input
    boxes, points = [], []
    for size in SIZES:
        _, _, scale = _face(portrait, landmarks, size)
        offsets = (landmarks - landmarks.mean(axis=0)) * scale * pixel
        for row in range(POOL):
            for column in range(POOL):
                centre = np.array([column, row]) * pixel + (pixel - 1) / 2
                points.append(((centre + offsets) / stride).reshape(10))
                half = np.array([1.1, 1.4]) * size * pixel
                boxes.append(np.concatenate([half - centre, half + centre]) / stride)
    return np.array(boxes, np.float32), np.array(points, np.float32)
