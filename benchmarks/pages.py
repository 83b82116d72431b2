"""Puts a generated table into pages, between its markers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path


def fill(name: str, text: str, *pages: Path) -> None:
    """Replace what stands between ``<!-- NAME table -->`` and ``<!-- end -->`` in each page."""
    marked = re.compile(rf"(<!-- {name} table -->\n).*?(<!-- end -->)", re.DOTALL)
    for page in pages:
        after, count = marked.subn(lambda match: match[1] + text + match[2], page.read_text("utf-8"))
        assert count == 1, f"{page} has no place for the table"
        page.write_text(after, "utf-8")


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (columns, *rows)]
    return "\n".join([lines[0], "|---" * len(columns) + "|", *lines[1:]]) + "\n"
