"""Makes a page of a bundle, of results, or of both, with the template ``page.html``."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mfs_deploy import files
from mfs_deploy.bundle import manifest
from mfs_deploy.bundle.manifest_types import CaseEntry, Manifest, NetworkEntry
from mfs_deploy.devices.arm64.count import TOTAL
from mfs_deploy.errors import MissingExtra, UsageError
from mfs_deploy.evaluate.result_types import InstructionsResult, ParityResult, PhoneResult, TimesResult
from mfs_deploy.evaluate.verify import verify_bundle
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.report import pictures, results, tables
from mfs_deploy.report.results import Results

SUFFIXES = (".html", ".htm")
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Page:
    """``problems``: artifacts outside their tolerance, or that could not be run; the page shows them too."""

    html: str
    problems: tuple[str, ...]


def check_place(out: Path, paths: Sequence[Path]) -> None:
    """Refuse to write a page over one of its inputs.

    Raises:
        UsageError: another kind of file, one of the inputs, or a place inside a bundle.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--out {out.name}: this is written as {', '.join(SUFFIXES)}")
    for path in paths:
        if out.resolve().is_relative_to(path.resolve()):
            raise UsageError(f"--out {out} is, or lies in, an input", hint="choose another --out")


def write(page: Page, out: Path) -> None:
    """Write the page, whole or not at all.  Raises OutputError."""
    with files.replacing(out) as temporary:
        temporary.write_text(page.html, "utf-8", newline="\n")


def make(paths: Sequence[Path], progress: Progress = SILENT) -> Page:
    """Read a bundle or results or both, run the bundle's artifacts, and draw the page.

    Raises:
        UsageError: a file is of no known kind, there are two bundles, or not all are of one network.
        BundleError: the bundle is damaged.
        MissingExtra: jinja2 is not installed.
    """
    folders = [path for path in paths if path.is_dir()]
    if len(folders) > 1:
        raise UsageError(f"{folders[0]} and {folders[1]} are both folders", hint="give one bundle, and results beside it")
    found = [results.read(path) for path in paths if path not in folders]
    entries = None
    shown = None
    if folders:
        entries = manifest.read(folders[0])
        contract = verify_bundle(folders[0], entries)
        check_network([(folders[0], manifest.network(entries)), *((one.path, one.network) for one in found)])
        shown = pictures.show(folders[0], entries, contract, progress)
    else:
        check_network([(one.path, one.network) for one in found])
    problems = () if shown is None else tuple(problem for ran in shown.ran for problem in ran.problems)
    return Page(_render(_context(entries, shown, found)), problems)


def check_network(known: Sequence[tuple[Path, NetworkEntry]]) -> None:
    """Raises UsageError where two inputs are not of the same weights, architecture and size."""
    first, network = known[0]
    for path, other in known[1:]:
        theirs: dict[str, object] = {**other}
        for key, value in network.items():
            if theirs[key] != value:
                shown = [str(one)[:12] for one in (value, theirs[key])]
                raise UsageError(
                    f"{key} is {shown[0]} in {first} and {shown[1]} in {path}", hint="give a bundle and what was measured on it"
                )


def _context(entries: Manifest | None, shown: pictures.Shown | None, found: Sequence[Results]) -> dict[str, Any]:
    """The variables of ``page.html``."""
    recipe_of = {} if entries is None else {name: a["recipe"] for name, a in entries["artifacts"].items()}
    measured = {} if entries is None else {name: a["parity"] for name, a in entries["artifacts"].items() if a["parity"]["cases"]}
    return {
        "network": found[0].network if entries is None else manifest.network(entries),
        "manifest": entries,
        "shown": shown,
        "overview": overview(entries, found),
        "made": tables.parity("When the bundle was made", measured, recipe_of) if measured else None,
        "checks": [_check(cast(ParityResult, one.content)) for one in found if one.kind == results.PARITY],
        "times": [one.content for one in found if one.kind == results.TIMES],
        "phones": [one.content for one in found if one.kind == results.PHONE],
        "counts": [one.content for one in found if one.kind == results.INSTRUCTIONS],
        "tables": tables,
        "manifest_json": None if entries is None else json.dumps(entries, indent=2, sort_keys=True, ensure_ascii=False),
    }


def _check(entries: ParityResult) -> list[tables.Table]:
    """The tables of an ``mfs parity --json``."""
    recipe_of = {name: entry["recipe"] for name, entry in entries["artifacts"].items()}
    made = [tables.parity("mfs parity", entries["artifacts"], recipe_of)]
    if "elsewhere" in entries:
        made.append(tables.parity(f"mfs parity on {entries['elsewhere']['machine']}", entries["elsewhere"]["artifacts"], recipe_of))
    return [*made, tables.agreement(entries["agreement_db"])]


def overview(entries: Manifest | None, found: Sequence[Results]) -> tables.Table | None:
    """Each artifact and recipe with its size, PSNR, time and instructions; the first input that has a value gives it."""
    header = ("size", "PSNR to PyTorch", "time of a frame", "whole frame on a phone", "instructions of a frame")
    rows: dict[tuple[str, str], dict[str, str]] = {}

    def note(name: str, recipe: str, column: str, text: str) -> None:
        rows.setdefault((name, recipe), {}).setdefault(column, text)

    def note_psnr(name: str, recipe: str, cases: Sequence[CaseEntry]) -> None:
        for case in cases[:1]:
            note(name, recipe, "PSNR to PyTorch", tables.decibels(case["swapped_psnr_db"]))

    for name, a in {} if entries is None else entries["artifacts"].items():
        note(name, a["recipe"], "size", tables.megabytes(a["bytes"]))
        note_psnr(name, a["recipe"], a["parity"]["cases"])
    for one in found:
        match one.kind:
            case results.PARITY:
                for name, ran in cast(ParityResult, one.content)["artifacts"].items():
                    note_psnr(name, ran["recipe"], ran["cases"])
            case results.TIMES:
                for name, timed in cast(TimesResult, one.content)["artifacts"].items():
                    note(name, timed["recipe"], "time of a frame", f"{timed['median_ms']:.2f} ms")
            case results.PHONE:
                for name, there in cast(PhoneResult, one.content)["artifacts"].items():
                    note(name, there["recipe"], "whole frame on a phone", f"{there['latency_ms']['total']['p50']:.2f} ms")
            case results.INSTRUCTIONS:
                for name, counted in cast(InstructionsResult, one.content)["artifacts"].items():
                    note(name, counted["recipe"], "instructions of a frame", tables.millions(counted["instructions"][TOTAL]))
    used = [column for column in header if any(column in row for row in rows.values())]
    lines = [(tables.title(*key), *(row.get(column, tables.NONE) for column in used)) for key, row in rows.items()]
    return tables.Table("Artifacts at a glance", ("artifact", *used), lines)


def _render(context: dict[str, Any]) -> str:
    try:
        import jinja2
    except ImportError as exc:
        raise MissingExtra("report", "jinja2", "mfs report") from exc

    style = (HERE / "page.css").read_text("utf-8")
    seal = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()  # the one style that the page's content policy allows
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(**context, style=style, seal=seal) + "\n"
