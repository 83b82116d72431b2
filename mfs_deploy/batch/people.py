"""Input table of a batch: a CSV or Parquet file, or a folder of photos and identity files."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfs_deploy.bundle import publish as bundles
from mfs_deploy.errors import MissingExtra, UsageError
from mfs_deploy.faces import landmarks, photos

COLUMNS = ("id", "photo", "identity", "landmarks", "aligned", "face")
ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}")
FACE = re.compile(r"[1-9][0-9]{0,3}")
TRUTH = {"": False, "0": False, "false": False, "1": True, "true": True}
MAX_ROWS = 10_000_000


@dataclass(frozen=True)
class PersonEntry:
    """One person: a photo, with the face's location, or an identity file.  ``face`` counts from 1; 0 where it is not given."""

    id: str
    photo: str = ""
    identity: str = ""
    landmarks: str = ""
    aligned: bool = False
    face: int = 0


def read_people(path: Path, taken: Collection[str] = ()) -> list[PersonEntry]:
    """The entries of a table, or one for each photo and identity file of a folder, with the file's stem as id.

    Paths in a table are relative to the table.

    Args:
        taken: ids that are refused.

    Raises:
        UsageError: names the line or file, and what is wrong with it.
        MissingExtra: the table is Parquet, and pyarrow is not installed.
    """
    entries: dict[str, PersonEntry] = {}
    read = _folder if path.is_dir() else _parquet if path.suffix == ".parquet" else _table
    for where, entry in read(path):
        if not ID.fullmatch(entry.id) or entry.id.endswith(bundles.REJECTED):
            raise UsageError(f"{where}: the id {entry.id!r} cannot name a bundle", hint="use letters, digits, '.', '_' and '-'")
        if entry.id in entries or entry.id in taken:
            raise UsageError(f"{where}: the id {entry.id!r} is taken", hint="every person needs an id of their own")
        if len(entries) == MAX_ROWS:
            raise UsageError(f"{where}: more than {MAX_ROWS:,} people", hint="split the table into several runs")
        entries[entry.id] = entry
    if not entries:
        raise UsageError(f"{path} lists no people", hint=f"columns are {', '.join(COLUMNS)}; or give a folder of photos")
    return list(entries.values())


def _folder(path: Path) -> Iterator[tuple[str, PersonEntry]]:
    for file in sorted(path.iterdir()):
        if not file.is_file() or file.name.startswith("."):
            continue
        if file.suffix == ".safetensors":
            yield file.name, PersonEntry(file.stem, identity=str(file))
        elif photos.is_photo(file):
            yield file.name, PersonEntry(file.stem, photo=str(file))


def _table(path: Path) -> Iterator[tuple[str, PersonEntry]]:
    read = 0
    try:
        with open(path, newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f, strict=True)  # an open quote would otherwise swallow the people after it
            _check_columns(path, reader.fieldnames or [])
            for line in reader:
                read = reader.line_num
                where = f"{path.name}, line {read}"
                yield where, _entry(where, line, path.parent)
    except OSError as exc:
        raise UsageError(f"{path} cannot be read: {exc.strerror}") from exc
    except (UnicodeDecodeError, csv.Error) as exc:
        raise UsageError(f"{path.name} is not CSV in UTF-8 after line {read}: {exc}") from exc


def _parquet(path: Path) -> Iterator[tuple[str, PersonEntry]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as exc:
        raise MissingExtra("batch", "pyarrow", f"{path.name}, a Parquet file,") from exc
    read = 0
    try:
        with open(path, "rb") as f, parquet.ParquetFile(f) as table:
            _check_columns(path, table.schema_arrow.names)
            for batch in table.iter_batches():
                for line in batch.to_pylist():
                    read += 1
                    where = f"{path.name}, row {read}"
                    yield where, _entry(where, {name: _text(value) for name, value in line.items()}, path.parent)
    except (OSError, ArrowException) as exc:
        if isinstance(exc, OSError) and exc.strerror:
            raise UsageError(f"{path} cannot be read: {exc.strerror}") from exc
        raise UsageError(f"{path.name} is not Parquet after row {read}: {str(exc).splitlines()[0]}") from exc


def _text(value: object) -> str:
    """The value as a CSV would hold it; pyarrow reads a column of integers with gaps as floats."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    if unknown := [name for name in columns if name not in COLUMNS or columns.count(name) > 1]:
        raise UsageError(f"{path.name}: columns {unknown} are unknown or duplicated", hint=f"columns: {', '.join(COLUMNS)}")


def _entry(where: str, line: dict[str, str | None], folder: Path) -> PersonEntry:
    if None in line:
        raise UsageError(f"{where}: more values than columns")
    values = {name: (line.get(name) or "").strip() for name in COLUMNS}
    if "\0" in "".join(values.values()):
        raise UsageError(f"{where}: a NUL byte")
    if (not values["photo"]) == (not values["identity"]):
        raise UsageError(f"{where}: give exactly one of photo and identity")
    if values["aligned"] not in TRUTH:
        raise UsageError(f"{where}: aligned is {values['aligned']!r}; allowed: true or false")
    if values["face"] and not FACE.fullmatch(values["face"]):
        raise UsageError(f"{where}: face is {values['face']!r}; allowed: a number from 1 to 9999")
    aligned, face = TRUTH[values["aligned"]], int(values["face"] or 0)
    if [bool(values["identity"]), bool(values["landmarks"]), aligned or face > 0].count(True) > 1:
        raise UsageError(f"{where}: identity, landmarks, and aligned or face exclude each other")
    if values["landmarks"]:
        try:
            landmarks.parse(values["landmarks"])
        except UsageError as exc:
            raise UsageError(f"{where}: {exc.message}", hint=exc.hint) from exc
    photo, identity = (str(folder / values[name]) if values[name] else "" for name in ("photo", "identity"))
    return PersonEntry(values["id"], photo, identity, values["landmarks"], aligned, face)
