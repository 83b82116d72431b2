"""Who is to be done: rows of a CSV or Parquet file, or the files of a folder."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfs_deploy.bundle import publish as bundle
from mfs_deploy.errors import MissingExtra, UsageError
from mfs_deploy.faces import landmarks, photos

COLUMNS = ("id", "photo", "identity", "landmarks", "aligned", "face")
ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}")
FACE = re.compile(r"[1-9][0-9]{0,3}")
TRUTH = {"": False, "0": False, "false": False, "1": True, "true": True}
MAX_ROWS = 10_000_000


@dataclass(frozen=True)
class Row:
    """One person: a photo, with where the face is, or an identity file."""

    id: str
    photo: str = ""
    identity: str = ""
    landmarks: str = ""
    aligned: bool = False
    face: int = 0


def read_people(path: Path, taken: Collection[str] = ()) -> list[Row]:
    """Rows of a table, or one for each photo and identity file of a folder, whose names are then the ids.

    Paths in a table are relative to it.

    Args:
        taken: ids that nobody may have.

    Raises:
        UsageError: says which line or file, and what is wrong with it.
        MissingExtra: the table is Parquet, and pyarrow is not installed.
    """
    rows: dict[str, Row] = {}
    read = _folder if path.is_dir() else _parquet if path.suffix == ".parquet" else _table
    for where, row in read(path):
        if not ID.fullmatch(row.id) or row.id.endswith(bundle.REJECTED):
            raise UsageError(f"{where}: the id {row.id!r} cannot name a bundle", hint="use letters, digits, '.', '_' and '-'")
        if row.id in rows or row.id in taken:
            raise UsageError(f"{where}: the id {row.id!r} is taken", hint="every person needs an id of their own")
        if len(rows) == MAX_ROWS:
            raise UsageError(f"{where}: more than {MAX_ROWS:,} people", hint="make several runs of it")
        rows[row.id] = row
    if not rows:
        raise UsageError(f"{path} names nobody", hint=f"columns are {', '.join(COLUMNS)}; or give a folder of photos")
    return list(rows.values())


def _folder(path: Path) -> Iterator[tuple[str, Row]]:
    for file in sorted(path.iterdir()):
        if not file.is_file() or file.name.startswith("."):
            continue
        if file.suffix == ".safetensors":
            yield file.name, Row(file.stem, identity=str(file))
        elif photos.is_photo(file):
            yield file.name, Row(file.stem, photo=str(file))


def _table(path: Path) -> Iterator[tuple[str, Row]]:
    read = 0
    try:
        with open(path, newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f, strict=True)  # an open quote would otherwise swallow the people after it
            _check_columns(path, reader.fieldnames or [])
            for line in reader:
                read = reader.line_num
                where = f"{path.name}, line {read}"
                yield where, _row(where, line, path.parent)
    except OSError as exc:
        raise UsageError(f"{path} cannot be read: {exc.strerror}") from exc
    except (UnicodeDecodeError, csv.Error) as exc:
        raise UsageError(f"{path.name} is not CSV in UTF-8 after line {read}: {exc}") from exc


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
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
                    yield where, _row(where, {name: _text(value) for name, value in line.items()}, path.parent)
    except (OSError, ArrowException) as exc:
        if isinstance(exc, OSError) and exc.strerror:
            raise UsageError(f"{path} cannot be read: {exc.strerror}") from exc
        raise UsageError(f"{path.name} is not Parquet after row {read}: {str(exc).splitlines()[0]}") from exc


def _text(value: object) -> str:
    """As the value would stand in a CSV; a column of numbers with gaps may have come as floats."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    if unknown := [name for name in columns if name not in COLUMNS or columns.count(name) > 1]:
        raise UsageError(f"{path.name}: columns {unknown} not known, or there twice", hint=f"columns: {', '.join(COLUMNS)}")


def _row(where: str, line: dict[str, str | None], folder: Path) -> Row:
    if None in line:
        raise UsageError(f"{where}: more values than columns")
    said = {name: (line.get(name) or "").strip() for name in COLUMNS}
    if "\0" in "".join(said.values()):
        raise UsageError(f"{where}: a character of value zero")
    if (not said["photo"]) == (not said["identity"]):
        raise UsageError(f"{where}: give exactly one of photo and identity")
    if said["aligned"] not in TRUTH:
        raise UsageError(f"{where}: aligned is {said['aligned']!r}; true or false is due")
    if said["face"] and not FACE.fullmatch(said["face"]):
        raise UsageError(f"{where}: face is {said['face']!r}; a number from 1 on is due")
    aligned, face = TRUTH[said["aligned"]], int(said["face"] or 0)
    if [bool(said["identity"]), bool(said["landmarks"]), aligned or face > 0].count(True) > 1:
        raise UsageError(f"{where}: identity, landmarks, and aligned or face exclude each other")
    if said["landmarks"]:
        try:
            landmarks.parse(said["landmarks"])
        except UsageError as exc:
            raise UsageError(f"{where}: {exc.message}", hint=exc.hint) from exc
    photo, identity = (str(folder / said[name]) if said[name] else "" for name in ("photo", "identity"))
    return Row(said["id"], photo, identity, said["landmarks"], aligned, face)
