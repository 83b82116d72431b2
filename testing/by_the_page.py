"""``docs/bundle-format.md`` in numpy: a photo and a bundle's folder in, the swapped photo out.

Written from that page, with no help of ``mfs_deploy`` or OpenCV: whoever has the page and a bundle can write this.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

FITS = ("least-squares affine, 6 degrees of freedom", "least-squares similarity, 4 degrees of freedom")


def swap(bundle: Path, photo: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB and (5, 2) x, y to the swapped photo, by the bundle's ONNX artifact."""
    manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
    assert manifest["schema"] == 2
    matrix = fit(manifest["alignment"], landmarks, manifest["contract"]["size"])
    crop = align(manifest["alignment"], photo, matrix, manifest["contract"]["size"])
    swapped, mask = run(manifest, bundle, crop)
    alpha = weights(manifest["paste_back"], mask, manifest["contract"]["size"])
    return paste(manifest["paste_back"], photo, swapped, alpha, matrix)


# ---- 1. Align


def fit(alignment: dict[str, Any], landmarks: np.ndarray, size: int) -> np.ndarray:
    """M, (2, 3) float32."""
    assert alignment["matrix"] == "float32"
    points = np.array(alignment["points"]) * (size / alignment["base"])
    x, y = landmarks.T
    one, none = np.ones(5), np.zeros(5)
    if alignment["solver"] == FITS[0]:
        return np.linalg.lstsq(np.stack([x, y, one], 1), points, rcond=None)[0].T.astype(np.float32)
    assert alignment["solver"] == FITS[1]
    rows = np.concatenate([np.stack([x, -y, one, none], 1), np.stack([y, x, none, one], 1)])
    a, b, c, d = np.linalg.lstsq(rows, points.T.ravel(), rcond=None)[0]
    return np.array([[a, -b, c], [b, a, d]], np.float32)


def align(alignment: dict[str, Any], photo: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    assert (alignment["interpolation"], alignment["rounding"]) == ("bilinear", "nearest, ties to even")
    (m00, m01, m02), (m10, m11, m12) = matrix.astype(np.float64)
    scale = 1 / (m00 * m11 - m01 * m10)
    a, b, c, d = m11 * scale, -m01 * scale, -m10 * scale, m00 * scale
    inverse = np.array([[a, b, -a * m02 - b * m12], [c, d, -c * m02 - d * m12]]).astype(np.float32)
    return np.rint(sample(photo, inverse, size, size, alignment["outside"])).clip(0, 255).astype(np.uint8)


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a * b + c in float32, rounded once: the product of two float32 numbers is exact in float64."""
    return (a.astype(np.float64) * b + c).astype(np.float32)


def sample(image: np.ndarray, to_image: np.ndarray, width: int, height: int, outside: float) -> np.ndarray:
    """(H, W, channels) at ``to_image`` (x, y, 1) of every pixel of a picture of ``width`` and ``height``: float32, bilinear."""
    x, y = np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]
    (t00, t01, t02), (t10, t11, t12) = to_image
    u, v = fma(x, t00, t01 * y + t02), fma(x, t10, t11 * y + t12)
    column, row = np.floor(u), np.floor(v)
    f, g = (u - column)[..., None], (v - row)[..., None]
    column, row = column.astype(int), row.astype(int)

    def neighbour(right: int, down: int) -> np.ndarray:
        i, j = row + down, column + right
        inside = (i >= 0) & (i < image.shape[0]) & (j >= 0) & (j < image.shape[1])
        there = image[i.clip(0, image.shape[0] - 1), j.clip(0, image.shape[1] - 1)].astype(np.float32)
        return np.where(inside[..., None], there, np.float32(outside))

    top = fma(f, neighbour(1, 0) - neighbour(0, 0), neighbour(0, 0))
    bottom = fma(f, neighbour(1, 1) - neighbour(0, 1), neighbour(0, 1))
    return fma(g, bottom - top, top)


# ---- 2. Run the network


def run(manifest: dict[str, Any], bundle: Path, crop: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Swapped (S, S, 3) and mask (S, S) or None, float32 in [0, 1]; outputs are told apart by their place in the manifest alone."""
    artifact = manifest["artifacts"]["onnx"]
    assert artifact["layout"] == "NCHW"
    (entry,) = artifact["inputs"]
    assert (entry["kind"], entry["element"], entry["colour"], entry["scale"], entry["low"], entry["high"]) == (
        *("array", "float32", "RGB"),
        *(1, 0, 1),
    )
    target = (crop.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)[None]
    session = onnxruntime.InferenceSession(bundle / artifact["files"][0], providers=["CPUExecutionProvider"])
    values = session.run(None, {entry["name"]: np.ascontiguousarray(target)})
    found = {output["colour"]: value[0] for output, value in zip(artifact["outputs"], values, strict=True)}
    return found["RGB"].transpose(1, 2, 0), found["mask"][0] if "mask" in found else None


# ---- 3. Paste back


def weights(rules: dict[str, Any], mask: np.ndarray | None, size: int) -> np.ndarray:
    """Alpha, (S, S) float32: the steps before the last three."""
    assert rules["steps"][-3:] == ["warp", "blend", "round"]
    alpha, morph = mask, rules.get("morph_kernel", 0)
    for step in rules["steps"][:-3]:
        if step == "threshold":
            alpha = np.where(alpha > np.float32(rules["threshold"]), np.float32(1), alpha)
        elif step == "dilate":
            for _ in range(rules["dilations"]):
                alpha = squares(np.pad(alpha, morph // 2, constant_values=-np.inf), morph).max((2, 3))
        elif step == "erode":
            for _ in range(rules["erosions"]):
                alpha = squares(np.pad(alpha, morph // 2, constant_values=np.inf), morph).min((2, 3))
        elif step == "blur":
            alpha = mean(alpha, rules["blur_kernel"])
        elif step == "border":
            inside = np.zeros((size, size), np.float32)
            inside[rules["border"] : -rules["border"], rules["border"] : -rules["border"]] = 1
            alpha = alpha * mean(inside, rules["border_blur_kernel"])
        else:
            assert step == "ellipse"
            at = (np.arange(size) + 0.5) / size
            x, y = ((at - centre) / radius for centre, radius in zip(rules["centre"], rules["radii"], strict=True))
            alpha = ((1 - np.hypot(x[None], y[:, None])) / rules["edge"]).clip(0, 1).astype(np.float32)
    return alpha


def squares(padded: np.ndarray, side: int) -> np.ndarray:
    """(S, S, side, side): the square around each pixel of what was padded by half a square."""
    return np.lib.stride_tricks.sliding_window_view(padded, (side, side))


def mean(image: np.ndarray, side: int) -> np.ndarray:
    mirrored = np.pad(image.astype(np.float64), side // 2, "reflect")
    return (squares(mirrored, side).sum((2, 3)) * (1 / side**2)).astype(np.float32)


def paste(rules: dict[str, Any], photo: np.ndarray, swapped: np.ndarray, alpha: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    assert rules["interpolation"] == "bilinear"
    assert rules["rounding"] == "toward zero, of what is clipped to [0, 255]"
    height, width = photo.shape[:2]
    face = sample(swapped * np.float32(255), matrix, width, height, rules["outside"])
    alpha = sample(alpha[..., None], matrix, width, height, rules["outside"])
    return (face * alpha + photo * (1 - alpha)).clip(0, 255).astype(np.uint8)
