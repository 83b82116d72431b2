"""Executed arm64 instructions of a frame, by class: reproducible on any machine, to 1e-5 for ncnn and LiteRT.

Counts are not cycles: they do not include the effects of caches, memory or a core's scheduling.
"""

from __future__ import annotations

import json
from pathlib import Path

from mfs_deploy.backends.job import SECTIONS
from mfs_deploy.backends.launch import JobResult
from mfs_deploy.backends.registry import LAYERED
from mfs_deploy.errors import ConversionError

FRAMES = 3
TOTAL = "total"  # a class of ``armcount.c``


def frame(path: Path) -> dict[str, int]:
    """Instructions of one frame by class: of the frames that were marked, the one with the fewest.

    Raises:
        ConversionError: the plugin's output is not marks and counts.
    """
    return min(_between(path), key=lambda counts: counts[TOTAL])


def layers(path: Path, done: JobResult) -> dict[str, dict[str, int]]:
    """Instructions of one frame by layer and class, of a job that had ``count_layers``."""
    names = json.loads((done.folder / SECTIONS).read_text("utf-8"))
    counts = _between(path)[::2]  # the others are the preparations of sections
    if len(counts) != len(names):
        raise ConversionError(f"the instruction counter wrote {len(counts)} sections, {len(names)} were run")
    costs = LAYERED[done.job.backend].layer_costs
    by_class = {kind: costs([(name, c[kind]) for name, c in zip(names, counts, strict=True)]) for kind in counts[0]}
    return {name: {kind: found[name] for kind, found in by_class.items()} for name in by_class[TOTAL]}


def _between(path: Path) -> list[dict[str, int]]:
    """Counts between each two marks."""
    found = [_line(line) for line in path.read_text("utf-8").splitlines() if line.startswith("ARMCOUNT mark=")]
    if len(found) < 2:
        raise ConversionError(f"the instruction counter wrote {len(found)} marks, at least 2 are needed")
    return found[1:]  # the first counts everything before the first mark


def _line(line: str) -> dict[str, int]:
    try:
        return {name: int(value) for name, value in (field.split("=") for field in line.split()[2:])}
    except ValueError as exc:
        raise ConversionError(f"the instruction counter wrote {line[:80]!r}") from exc
