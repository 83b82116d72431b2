"""Per-person results of a batch, and their table."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mfs_deploy import files

RESULTS = "results.csv"
PARQUET = "results.parquet"  # where pyarrow is installed


@dataclass(frozen=True)
class PersonResult:
    """One person's line in the results.

    Attributes:
        status: "done", "unchanged" (an earlier run's bundle is the one that this run would make) or "failed".
        inputs_sha256: hash of everything that the bundle depends on.
        seconds: time of this person's own work, and an equal share of what was done for the whole chunk.
    """

    id: str
    status: str
    inputs_sha256: str = ""
    weights_sha256: str = ""
    bytes: int = 0
    seconds: float = 0.0
    error_kind: str = ""
    error: str = ""


def write(folder: Path, results: Sequence[PersonResult]) -> None:
    """Write both tables, each one whole or not at all.  Without pyarrow, an earlier run's Parquet table is removed."""
    lines = [asdict(result) for result in results]
    with files.replacing(folder / RESULTS) as temporary, open(temporary, "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    if importlib.util.find_spec("pyarrow") is None:
        (folder / PARQUET).unlink(missing_ok=True)
        return
    import pyarrow
    from pyarrow import parquet

    with files.replacing(folder / PARQUET) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(lines), temporary)
