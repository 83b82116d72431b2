"""Whoever reads a page finds what it names: links, files, folders and make targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(page for pattern in ("*.md", "*/*.md", "*/*/*.md") for page in ROOT.glob(pattern) if "bundles" not in page.parts)
HELD = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "RELEASE.md", "THIRD_PARTY.md")]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    files = [link for link in links if not re.match(r"\w+:", link)]
    assert [link for link in files if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", HELD, ids=name_of)
def test_files_that_a_page_names_are_there(page):
    names = re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", page.read_text("utf-8"))
    assert names
    lost = [name for name in names if not (ROOT / name).exists() and not (ROOT / "mfs_deploy" / name).exists()]
    assert [name for name in lost if not name.startswith("backends/NAME/")] == []


@pytest.mark.parametrize("page", HELD, ids=name_of)
def test_make_targets_that_a_page_names_are_there(page):
    named = {target for line in re.findall(r"make ((?:[\w-]+ ?)+)[`#]", page.read_text("utf-8")) for target in line.split()}
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert named <= targets


def test_every_place_of_the_package_is_explained():
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    table = page[page.index("| place | what |") : page.index("Beside the package")]
    cells = " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    explained = set(re.findall(r"[\w.]+", cells))
    package = ROOT / "mfs_deploy"
    places = {path.name for path in package.iterdir() if path.suffix == ".py" or list(path.glob("*.py"))}
    assert places - {"__init__.py"} == explained
