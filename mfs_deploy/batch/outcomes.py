"""What became of each person of a batch, and the table of it."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = "results.csv"
PARQUET = "results.parquet"  # where pyarrow is installed


@dataclass(frozen=True)
class Outcome:
    """One person's line in the results.

    Attributes:
        status: "done", "kept" (an earlier run's bundle is as it should be) or "failed".
        made_of: hash of everything that the bundle depends on.
        seconds: of work on this person alone, shared work shared out.
    """

    id: str
    status: str
    made_of: str = ""
    weights_sha256: str = ""
    bytes: int = 0
    seconds: float = 0.0
    error_kind: str = ""
    error: str = ""


def write(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """The tables, each put in place whole; an earlier run's that cannot be written again is removed."""
    lines = [asdict(outcome) for outcome in outcomes]
    temporary = folder / f".{RESULTS}"
    with open(temporary, "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    temporary.rename(folder / RESULTS)
    if importlib.util.find_spec("pyarrow") is None:
        (folder / PARQUET).unlink(missing_ok=True)
        return
    import pyarrow
    from pyarrow import parquet

    temporary = folder / f".{PARQUET}"
    parquet.write_table(pyarrow.Table.from_pylist(lines), temporary)
    temporary.rename(folder / PARQUET)
