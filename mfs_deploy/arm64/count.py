"""Executed arm64 instructions of a frame, by class: a cost that any machine measures alike, to 1e-5 for ncnn and LiteRT.

Counts are not cycles: they know nothing of caches, memory or how a core issues instructions.
"""

from __future__ import annotations

from pathlib import Path

from mfs_deploy.errors import ConversionError

FRAMES = 3
# Classes of ``armcount.c``, and those that the arithmetic of a network is made of.
TOTAL = "total"
ARITHMETIC = ("fma32", "fma16", "fmlal", "sdot", "i8mm", "bf16dot", "intmul")


def read(path: Path) -> dict[str, int]:
    """Instructions of one frame by class: of the frames that were marked, the one with the fewest.

    Raises:
        ConversionError: the plugin wrote something else than marks and counts.
    """
    frames = [_line(line) for line in path.read_text("utf-8").splitlines() if line.startswith("ARMCOUNT mark=")]
    if len(frames) < 2:
        raise ConversionError(f"the instruction counter wrote {len(frames)} marks, at least 2 are needed")
    return min(frames[1:], key=lambda counts: counts[TOTAL])  # the first is of all before the first mark


def _line(line: str) -> dict[str, int]:
    try:
        return {name: int(value) for name, value in (field.split("=") for field in line.split()[2:])}
    except ValueError as exc:
        raise ConversionError(f"the instruction counter wrote {line[:80]!r}") from exc
