"""Runs a benchmark, keeps its results, and puts the tables made of them into pages, between their markers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


def run(measure: Callable[[], dict[str, Any]], show: Callable[[dict[str, Any]], None], results: Path) -> None:
    """Measure, write ``results`` (JSON), and fill the pages from it."""
    found = measure()
    results.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", "utf-8")
    show(found)
    print(f"wrote {results.relative_to(ROOT)} and the pages that show it")


def fill(name: str, text: str) -> None:
    """Replace what stands between ``<!-- NAME table -->`` and ``<!-- end -->``, in every page that has the marker."""
    marked = re.compile(rf"(<!-- {name} table -->\n).*?(<!-- end -->)", re.DOTALL)
    total = 0
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("models/*/README.md")):
        before = page.read_text("utf-8")
        after, count = marked.subn(lambda match: match[1] + text + match[2], before)
        total += count
        if after != before:
            page.write_text(after, "utf-8")
    assert total, f"no page has a place for the table {name!r}"


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (columns, *rows)]
    return "\n".join([lines[0], "|---" * len(columns) + "|", *lines[1:]]) + "\n"
