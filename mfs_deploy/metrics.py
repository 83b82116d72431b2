"""Differences between two arrays.  Inputs must have equal shapes; NaN stays NaN, so that no comparison can pass on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

IDENTICAL_DB = 200.0  # of equal arrays, so that JSON holds a finite number

Numbers = NDArray[Any]


def psnr_db(a: Numbers, b: Numbers, *, peak: float) -> float:
    """Peak signal-to-noise ratio in dB, with ``peak`` the largest value that can occur (1.0 or 255)."""
    mse = float(np.mean(np.square(_difference(a, b))))
    if mse == 0:
        return IDENTICAL_DB
    value = 10 * float(np.log10(peak * peak / mse))
    return IDENTICAL_DB if value > IDENTICAL_DB else value  # not min(), which would turn NaN into a perfect score


def max_error(a: Numbers, b: Numbers) -> float:
    return float(np.max(np.abs(_difference(a, b))))


def mean_error(a: Numbers, b: Numbers) -> float:
    return float(np.mean(np.abs(_difference(a, b))))


def cosine(a: Numbers, b: Numbers) -> float:
    """Cosine similarity of two vectors, in [-1, 1]."""
    a, b = np.ravel(a).astype(np.float64), np.ravel(b).astype(np.float64)
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _difference(a: Numbers, b: Numbers) -> NDArray[np.float64]:
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    return a.astype(np.float64) - b.astype(np.float64)


def rounded(value: float) -> float:
    """To four significant digits, as results are written into files."""
    return float(f"{value:.4g}")
