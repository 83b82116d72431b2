"""Results of ``mfs bench --json``: read, and compared with those of another run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfs_deploy.devices.arm64 import count
from mfs_deploy.errors import UsageError

SCHEMA = 1
RESAMPLED, CONFIDENCE = 2000, 95


def compare(old: dict[str, Any], new: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """New over old by artifact: of median times with an interval that holds the true ratio with 95% confidence, or of instructions.

    Raises:
        UsageError: the two were not measured alike.
    """
    for key in ("architecture", "size", "cpu", "threads"):
        if old.get(key) != new.get(key):
            raise UsageError(f"{key} was {old.get(key)} and is {new.get(key)}", hint="compare two runs of the same kind")
    found = {}
    for name in new["artifacts"]:
        if name in old["artifacts"]:
            before, now = old["artifacts"][name], new["artifacts"][name]
            if "times_ms" in now:
                ratio, low, high = _ratio(before["times_ms"], now["times_ms"])
                found[name] = {"ratio": ratio, "low": low, "high": high}
            else:
                found[name] = {"ratio": round(now["instructions"][count.TOTAL] / before["instructions"][count.TOTAL], 4)}
    if not found:
        raise UsageError("the two runs have no artifact in common", hint=f"the old one has: {', '.join(old['artifacts'])}")
    return found


def _ratio(before: Sequence[float], now: Sequence[float]) -> tuple[float, float, float]:
    """Ratio of medians, and its bootstrap interval."""
    rng = np.random.default_rng(0)
    a, b = (np.median(rng.choice(times, (RESAMPLED, len(times))), axis=1) for times in (before, now))
    low, high = np.percentile(b / a, ((100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2))
    return round(float(np.median(now) / np.median(before)), 4), round(float(low), 4), round(float(high), 4)


def read(path: Path) -> dict[str, Any]:
    """What ``mfs bench --json`` printed.  Raises UsageError."""
    try:
        found = json.loads(path.read_text("utf-8"))
        if found["schema"] != SCHEMA or not isinstance(found["artifacts"], dict):
            raise ValueError(f"schema {found['schema']}")
        for entry in found["artifacts"].values():
            values = entry["times_ms"] if "times_ms" in entry else [entry["instructions"][count.TOTAL]]
            if not values or not all(isinstance(value, (int, float)) and value > 0 for value in values):
                raise ValueError("an artifact without numbers")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise UsageError(
            f"{path} is not what mfs bench --json prints ({exc})", hint="make it with: mfs bench BUNDLE --json > FILE"
        ) from exc
    return dict(found)
