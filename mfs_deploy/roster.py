"""Who is to be done: rows of a CSV file, or the files of a folder."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mfs_deploy import landmarks, photos
from mfs_deploy.errors import UsageError

COLUMNS = ("id", "photo", "identity", "landmarks", "aligned", "face")
ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
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
    """Rows of a CSV file, or one for each photo and identity file of a folder, whose names are then the ids.

    Paths in a CSV are relative to it.

    Args:
        taken: ids that nobody may have.

    Raises:
        UsageError: says which line, and what is wrong with it.
    """
    rows = _folder(path) if path.is_dir() else _table(path)
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        if not ID.fullmatch(row.id):
            raise UsageError(f"row {number}: the id {row.id!r} cannot name a folder", hint="use letters, digits, '.', '_' and '-'")
        if row.id in seen or row.id in taken:
            raise UsageError(f"row {number}: the id {row.id!r} is taken", hint="every person needs an id of their own")
        if (not row.photo) == (not row.identity):
            raise UsageError(f"row {number}: give exactly one of photo and identity")
        seen.add(row.id)
    if not rows:
        raise UsageError(f"{path} names nobody", hint=f"columns are {', '.join(COLUMNS)}; or give a folder of photos")
    return rows


def _folder(path: Path) -> list[Row]:
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    rows = [Row(file.stem, identity=str(file)) for file in files if file.suffix == ".safetensors"]
    rows += [Row(file.stem, photo=str(file)) for file in files if file.suffix != ".safetensors" and photos.is_photo(file)]
    return sorted(rows, key=lambda row: row.id)


def _table(path: Path) -> list[Row]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f)
            columns = reader.fieldnames or []
            if unknown := [name for name in columns if name not in COLUMNS]:
                raise UsageError(f"{path.name}: columns {', '.join(map(repr, unknown))} not known", hint=f"{', '.join(COLUMNS)}")
            return [_row(number, line, path.parent) for number, line in enumerate(reader, 1)]
    except OSError as exc:
        raise UsageError(f"{path} cannot be read: {exc.strerror}") from exc
    except (UnicodeDecodeError, csv.Error) as exc:
        raise UsageError(f"{path.name} is not CSV in UTF-8: {exc}") from exc


def _row(number: int, line: dict[str, str | None], folder: Path) -> Row:
    if None in line or number > MAX_ROWS:
        raise UsageError(f"row {number}: more values than columns" if None in line else f"more than {MAX_ROWS:,} rows")
    said = {name: (line.get(name) or "").strip() for name in COLUMNS}
    if said["aligned"] not in ("", "0", "1", "false", "true"):
        raise UsageError(f"row {number}: aligned is {said['aligned']!r}; true or false is due")
    if said["face"] and not said["face"].isdecimal():
        raise UsageError(f"row {number}: face is {said['face']!r}; a number from 1 on is due")
    if said["landmarks"]:
        landmarks.parse(said["landmarks"])
    photo, identity = (str(folder / said[name]) if said[name] else "" for name in ("photo", "identity"))
    aligned = said["aligned"] in ("1", "true")
    return Row(said["id"], photo, identity, said["landmarks"], aligned, int(said["face"] or 0))
