"""Results that ``mfs parity --json`` and ``mfs bench --json`` printed, from untrusted files: every entry is checked before use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle.manifest_types import NetworkEntry
from mfs_deploy.bundle.schema import parse, schema_error
from mfs_deploy.devices.arm64.count import TOTAL
from mfs_deploy.errors import UsageError
from mfs_deploy.evaluate.bench_results import SCHEMA
from mfs_deploy.evaluate.result_types import AnyResult, InstructionsResult, ParityResult, PhoneResult, TimesResult

MAX_BYTES = 20_000_000
PARITY, TIMES, INSTRUCTIONS, PHONE = "parity", "times", "instructions", "phone"
HINT = "give a bundle's folder, or what 'mfs parity --json' or 'mfs bench --json' printed for it"

# By kind: the key that distinguishes it from the kinds below, and its type.
KINDS: dict[str, tuple[str, Any]] = {
    PARITY: ("agreement_db", ParityResult),
    PHONE: ("phone", PhoneResult),
    TIMES: ("threads", TimesResult),
    INSTRUCTIONS: ("cpu", InstructionsResult),
}


@dataclass(frozen=True)
class Results:
    """``content`` is of the type that ``KINDS`` gives its kind; all its numbers are finite, and only temperatures are negative."""

    path: Path
    kind: str
    content: AnyResult

    @property
    def network(self) -> NetworkEntry:
        content = self.content
        return {"architecture": content["architecture"], "size": content["size"], "weights_sha256": content["weights_sha256"]}


def read(path: Path) -> Results:
    """
    Raises:
        UsageError: the file cannot be read, is of no known kind, or an entry is wrong.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UsageError(f"{path} has {size:,} bytes; results have at most {MAX_BYTES:,}", hint=HINT)
        found = parse(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise UsageError(f"{path} cannot be read as JSON: {exc}", hint=HINT) from exc
    return Results(path, *_checked(path, found))


def _checked(path: Path, found: object) -> tuple[str, AnyResult]:
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds a {type(found).__name__}, no results", hint=HINT)
    if isinstance(error := found.get("error"), dict):
        raise UsageError(f"{path} holds an error and no results: {str(error.get('message'))[:200]}", hint="run that verb again")
    kind = next((kind for kind, (key, _) in KINDS.items() if key in found), None)
    if kind is None:
        keys = ", ".join(sorted(map(repr, found))[:5])
        raise UsageError(f"{path} is of no kind that is known: it has {keys[:200] or 'no entries'}", hint=HINT)
    problem = schema_error(found, KINDS[kind][1], kind) or _odd(kind, found)
    if problem is not None:
        raise UsageError(f"{path}: {problem}", hint=HINT)
    return kind, cast(AnyResult, found)


def _odd(kind: str, found: dict[str, Any]) -> str | None:
    """An impossible value of the right type, described, or None."""
    if found.get("schema", SCHEMA) != SCHEMA:
        return f"schema {found['schema']}, this version reads {SCHEMA}"
    names = {*found["artifacts"], *found.get("compared", {}), *found.get("elsewhere", {}).get("artifacts", {})}
    if not found["artifacts"] or not names <= set(BACKENDS):
        return f"artifacts are {', '.join(sorted(names))[:100] or 'none'}; at least one is needed, of {', '.join(BACKENDS)}"
    if kind == PARITY:
        everyone = set(found["agreement_db"])
        elsewhere = set(found.get("elsewhere", {}).get("artifacts", {}))
        if not elsewhere <= set(found["artifacts"]):
            return "artifacts that ran elsewhere are not among those that ran here"
        if any(set(row) != everyone - {name} for name, row in found["agreement_db"].items()):
            return "agreement_db has not a figure for each two"
    for name, artifact in found["artifacts"].items() if kind == INSTRUCTIONS else ():
        if any(TOTAL not in counts for counts in (artifact["instructions"], *artifact.get("layers", {}).values())):
            return f"artifacts.{name} counts without a {TOTAL}"
    if kind != PARITY and any(number < 0 for number in _numbers(found)):
        return "a time or a count is negative"
    return None


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, dict):
        value = [item for key, item in value.items() if key != "samples"]  # temperatures, which may be below zero
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value
