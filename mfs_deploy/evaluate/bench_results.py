"""Results of ``mfs bench --json``: read, and compared with those of another run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from mfs_deploy.bundle.schema import parse, schema_error
from mfs_deploy.devices.arm64 import count
from mfs_deploy.errors import UsageError
from mfs_deploy.evaluate.result_types import InstructionsResult, IntervalEntry, TimesResult

SCHEMA = 1
RESAMPLED, CONFIDENCE = 2000, 95


def compare(old: TimesResult | InstructionsResult, new: TimesResult | InstructionsResult) -> None:
    """Store in ``new``, by artifact, its median times or instructions over those of ``old``.

    Raises:
        UsageError: the two were not measured alike.
    """
    before, now = ({key: one.get(key) for key in ("architecture", "size", "cpu", "threads")} for one in (old, new))
    for key, value in before.items():
        if value != now[key]:
            raise UsageError(f"{key} was {value} and is {now[key]}", hint="compare two runs of the same kind")
    common = [name for name in new["artifacts"] if name in old["artifacts"]]
    if not common:
        raise UsageError("the two runs have no artifact in common", hint=f"the old one has: {', '.join(old['artifacts'])}")
    if "cpu" in new and "cpu" in old:
        counts = [{name: one["artifacts"][name]["instructions"][count.TOTAL] for name in common} for one in (old, new)]
        new["compared"] = {name: {"ratio": round(counts[1][name] / counts[0][name], 4)} for name in common}
    if "threads" in new and "threads" in old:
        times = [{name: one["artifacts"][name]["times_ms"] for name in common} for one in (old, new)]
        new["compared"] = {name: _ratio(times[0][name], times[1][name]) for name in common}


def _ratio(before: Sequence[float], now: Sequence[float]) -> IntervalEntry:
    """Ratio of medians, and its bootstrap interval."""
    rng = np.random.default_rng(0)
    a, b = (np.median(rng.choice(times, (RESAMPLED, len(times))), axis=1) for times in (before, now))
    low, high = np.percentile(b / a, ((100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2))
    ratio = np.median(now) / np.median(before)
    return {"ratio": round(float(ratio), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def read(path: Path) -> TimesResult | InstructionsResult:
    """Read what ``mfs bench --json`` printed for this machine or an emulated one.  Raises UsageError."""
    try:
        found = parse(path.read_text("utf-8"))
        kind: Any = InstructionsResult if isinstance(found, dict) and "cpu" in found else TimesResult
        problem = schema_error(found, kind, "the result")
        if problem is None and found["schema"] != SCHEMA:
            problem = f"schema {found['schema']}"
        if problem is not None:
            raise ValueError(problem)
        for entry in found["artifacts"].values():
            values = entry["times_ms"] if "times_ms" in entry else [entry["instructions"].get(count.TOTAL, 0)]
            if not values or not all(value > 0 for value in values):
                raise ValueError("an artifact without numbers")
    except (OSError, ValueError, RecursionError) as exc:
        raise UsageError(
            f"{path} is not what mfs bench --json prints ({exc})", hint="make it with: mfs bench BUNDLE --json > FILE"
        ) from exc
    return cast("TimesResult | InstructionsResult", found)
