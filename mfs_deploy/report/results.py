"""What ``mfs parity --json`` and ``mfs bench --json`` printed, read as a file of strangers: every entry is checked before use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle.manifest import (
    CASE,
    Number,
    Text,
    misfit,
    parse,
)
from mfs_deploy.devices.arm64.count import TOTAL
from mfs_deploy.devices.phone import DISTRIBUTION, STAGES, SUSTAINED
from mfs_deploy.errors import UsageError
from mfs_deploy.evaluate.bench_results import SCHEMA

MAX_BYTES = 20_000_000
PARITY, TIMES, INSTRUCTIONS, PHONE = "parity", "times", "instructions", "phone"
HINT = "give a bundle's folder, or what 'mfs parity --json' or 'mfs bench --json' printed for it"

NETWORK = {"architecture": Text, "size": int, "weights_sha256": Text}
MEASURED = {
    "schema": int,
    **NETWORK,
    "machine": {"processor": Text, "cores": (int, None), "system": Text},
    "versions": {...: Text},
}
TIMED = {
    **dict.fromkeys(("median_ms", "p90_ms", "p99_ms", "first_ms", "load_ms"), Number),
    **{"recipe": Text, "runtime": Text, "times_ms": [Number], "peak_mb": (Number, None)},
}
ON_PHONE = {
    **{"recipe": Text, "runtime": Text, "precision": Text, "open_ms": Number},
    "frame": {"name": Text, "width": int, "height": int},
    "latency_ms": dict.fromkeys(STAGES, DISTRIBUTION),
}
SAMPLED = {"sustained": SUSTAINED}
# By kind: the key that tells it from the others, what must be there, and what may be.
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    PARITY: (
        "agreement_db",
        {
            "bundle": Text,
            **NETWORK,
            "artifacts": {...: {"recipe": Text, "runtime": Text, "cases": [CASE]}},
            "agreement_db": {...: {...: (Number, None)}},
        },
        {"elsewhere": {"machine": Text, "artifacts": {...: {"runtime": Text, "cases": [CASE]}}}},
    ),
    PHONE: (
        "phone",
        {
            **{
                "schema": int,
                **NETWORK,
                "machine": MEASURED["machine"],
                "phone": Text,
                "by": Text,
                "threads": (int, None),
                "runs": int,
            },
            **{"artifacts": {...: dict}, "refused": {...: Text}},  # its artifacts are checked one by one
        },
        {},
    ),
    TIMES: (
        "threads",
        {**MEASURED, "threads": int, "artifacts": {...: TIMED}, "stages": {...: Number}},
        {"compared": {...: {"ratio": Number, "low": Number, "high": Number}}},
    ),
    INSTRUCTIONS: (
        "cpu",
        {**MEASURED, "cpu": Text, "multiply_adds": int, "artifacts": {...: dict}},  # its artifacts are checked one by one
        {"compared": {...: {"ratio": Number}}},
    ),
}
COUNTED = {"recipe": Text, "instructions": {...: int}, "bound": int}
BY_LAYER = {"layers": {...: {...: int}}}


@dataclass(frozen=True)
class Results:
    """``said`` has the form that ``KINDS`` gives its kind, all its numbers are finite, and none but a temperature is negative."""

    path: Path
    kind: str
    said: dict[str, Any]

    @property
    def network(self) -> dict[str, Any]:
        return {key: self.said[key] for key in NETWORK}


def read(path: Path) -> Results:
    """
    Raises:
        UsageError: the file cannot be read, is of none of the kinds, or an entry is not what it must be.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UsageError(f"{path} has {size:,} bytes; results have at most {MAX_BYTES:,}", hint=HINT)
        found = parse(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise UsageError(f"{path} cannot be read as JSON: {exc}", hint=HINT) from exc
    return Results(path, *_checked(path, found))


def _checked(path: Path, found: object) -> tuple[str, dict[str, Any]]:
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds a {type(found).__name__}, no results", hint=HINT)
    if isinstance(error := found.get("error"), dict):
        raise UsageError(f"{path} holds an error and no results: {str(error.get('message'))[:200]}", hint="run that verb again")
    kind = next((kind for kind, (key, _, _) in KINDS.items() if key in found), None)
    if kind is None:
        keys = ", ".join(sorted(map(repr, found))[:5])
        raise UsageError(f"{path} is of no kind that is known: it has {keys[:200] or 'no entries'}", hint=HINT)
    _, form, more = KINDS[kind]
    problem = misfit(found, form | {key: part for key, part in more.items() if key in found}, kind) or _odd(kind, found)
    if problem is not None:
        raise UsageError(f"{path}: {problem}", hint=HINT)
    return kind, found


def _odd(kind: str, found: dict[str, Any]) -> str | None:
    """What cannot be though its form is right, or None."""
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
    for name, artifact in found["artifacts"].items() if kind in (INSTRUCTIONS, PHONE) else ():
        form, more = (COUNTED, BY_LAYER) if kind == INSTRUCTIONS else (ON_PHONE, SAMPLED)
        problem = misfit(artifact, form | {key: part for key, part in more.items() if key in artifact}, f"artifacts.{name}")
        counts = (
            [artifact["instructions"], *artifact.get("layers", {}).values()] if kind == INSTRUCTIONS and problem is None else []
        )
        if any(TOTAL not in one for one in counts):
            problem = f"artifacts.{name} counts without a {TOTAL}"
        if problem is not None:
            return problem
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
