"""Tables and pictures on the pages are those of the results that are kept: nobody edits a number by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import pages, remake

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkout's pages, and what fills them looks there."""
    found = [
        p for pattern in ("*.md", "docs/*", "benchmarks/*.md", "models/*/README.md") for p in ROOT.glob(pattern) if p.is_file()
    ]
    for page in found:
        place = tmp_path / page.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(page, place)
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    return tmp_path


def test_pages_made_again_from_the_results_are_the_same(copy: Path) -> None:
    remake.remake()
    files = [path for path in copy.rglob("*") if path.is_file()]
    assert copy / "docs" / "peers.svg" in files
    changed = [str(f.relative_to(copy)) for f in files if f.read_bytes() != (ROOT / f.relative_to(copy)).read_bytes()]
    assert changed == []


def test_a_table_that_no_page_shows_any_more_is_an_error(copy: Path) -> None:
    with pytest.raises(AssertionError, match="nobodys"):
        pages.fill("nobodys", "| a |\n")
