"""Where a batch's bundles go: a folder, or the objects under a URL that fsspec knows (s3://bucket/prefix).

Both show a bundle whole or not at all.  A folder has renames for that, and a journal that lines are added to.  Objects have
neither.  There a bundle is what has a ``manifest.json``, and readers look for it: it is written last, and removed first where a
bundle is replaced.  What is done is told by one small object a person, ``.records/ID.json``, which the worker writes after the
manifest.  That is simpler than a journal that is uploaded now and then: it needs no run that lives and no merging.  It also names
the objects that are ours, so that what an upload that was cut off left can be replaced, and nothing else ever is.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from mfs_deploy.batch import outcomes
from mfs_deploy.batch import run_lock as locks
from mfs_deploy.batch.outcomes import Outcome
from mfs_deploy.bundle import manifest
from mfs_deploy.bundle import publish as bundle
from mfs_deploy.errors import (
    BundleError,
    MissingExtra,
    OutputError,
    StoreFailed,
)

JOURNAL = "journal.jsonl"
RECORDS = ".records"  # no person's id begins with a dot
TAKEN = (JOURNAL, outcomes.RESULTS, outcomes.PARQUET)  # names that no person may have


class Store(Protocol):
    """``alone`` first; in workers ``join`` instead, and then only ``staging`` and ``publish``.

    Every method raises OSError where the store cannot be reached or refuses (StoreFailed, where it is objects), and OutputError
    where something else is in the way.
    """

    at_once: int  # questions that are best asked side by side

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Take the place for this run, and read what was done before."""

    def join(self) -> None:
        """In a worker: say that it is at work, until it ends."""

    def done(self, name: str, made_of: Callable[[], str | None]) -> Outcome | None:
        """What was said of a person's bundle when it was done, if it is made of this and is as it was then."""

    def staging(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """A local folder for a bundle to be written into."""

    def publish(self, folder: Path, outcome: Outcome) -> None:
        """Show what is in that folder, in place of an earlier bundle."""

    def add(self, outcome: Outcome) -> None:
        """In the run: note what became of a person."""

    def finish(self, found: Sequence[Outcome]) -> None:
        """Write the tables."""

    def reading(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """A bundle as a local folder."""

    def where(self, name: str) -> str: ...


def is_url(out: Path | str) -> bool:
    return "://" in str(out)


def at(out: Path | str) -> Store:
    """
    Raises:
        MissingExtra: what the URL needs is not installed.
        OutputError: the URL means nothing.
    """
    return Objects(str(out)) if isinstance(out, str) and is_url(out) else Folder(Path(out))


# ---- a folder


class Folder:
    at_once = 1

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with locks.alone(self.path):
            self._journal = Journal(self.path / JOURNAL)
            try:
                yield
            finally:
                self._journal.close()

    def join(self) -> None:
        locks.join(self.path)

    def done(self, name: str, made_of: Callable[[], str | None]) -> Outcome | None:
        before = self._journal.done.get(name)
        if before is None or before.status == "failed" or before.made_of != made_of():
            return None
        try:
            said = manifest.read(self.path / name)
            whole = said["weights"]["sha256"] == before.weights_sha256 and not manifest.verify(self.path / name, said)
        except (OSError, BundleError):
            return None
        return before if whole else None

    def staging(self, name: str) -> contextlib.AbstractContextManager[Path]:
        return bundle.staging(self.path / name)

    def publish(self, folder: Path, outcome: Outcome) -> None:
        bundle.publish(folder, self.path / outcome.id)

    def add(self, outcome: Outcome) -> None:
        self._journal.add(outcome)

    def finish(self, found: Sequence[Outcome]) -> None:
        outcomes.write(self.path, found)

    def reading(self, name: str) -> contextlib.AbstractContextManager[Path]:
        return contextlib.nullcontext(self.path / name)

    def where(self, name: str) -> str:
        return str(self.path / name)


class Journal:
    """One line of JSON for each person done; the last one counts.  A line that a crash cut off is passed over."""

    def __init__(self, path: Path) -> None:
        self.done: dict[str, Outcome] = {}
        text = path.read_text("utf-8", errors="replace") if path.exists() else ""
        for line in text.splitlines():
            try:
                outcome = Outcome(**json.loads(line))
                self.done[outcome.id] = outcome
            except (ValueError, TypeError):
                continue
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)
        if text and not text.endswith("\n"):
            self._file.write("\n")

    def add(self, outcome: Outcome) -> None:
        self._file.write(json.dumps(asdict(outcome)) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


# ---- objects


class Objects:
    """Nothing keeps two runs from the same place: objects have no locks.

    A record is ``{"objects": {name: seal}, "outcome": ...}``; without the outcome, it says whose objects an upload is changing.
    A seal is an object's size and what the store calls its content (ETag), so changes are seen without reading anything.
    """

    at_once = 32  # each waits for the network only

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ImportError as exc:
            raise MissingExtra("s3", "fsspec", f"--out {url}") from exc
        try:
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ImportError as exc:
            raise MissingExtra("s3", "s3fs", f"--out {url}") from exc
        except ValueError as exc:
            raise OutputError(f"{url}: {exc}", hint="give a folder, or s3://bucket/prefix") from exc
        self._root = root.rstrip("/")
        self._url = url.rstrip("/")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        probe = f"{RECORDS}/.probe"
        self._write({probe: b""})  # a store that is not there, or does not let us, is told before any work
        self._remove([probe])
        yield

    def join(self) -> None:
        pass

    def done(self, name: str, made_of: Callable[[], str | None]) -> Outcome | None:
        record = self._record(name)
        try:
            before = Outcome(**record["outcome"])
        except (KeyError, TypeError):
            return None
        same = before.id == name and before.made_of == made_of()
        return before if same and record["objects"] == self._list(name) else None

    @contextlib.contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix=".mfs-") as folder:
            yield Path(folder)

    def publish(self, folder: Path, outcome: Outcome) -> None:
        name = outcome.id
        new = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        there = self._list(name)
        if foreign := there.keys() - (self._ours(name) if there else set()):
            raise OutputError(
                f"{self.where(name)} holds {min(foreign)!r}, which is not a bundle's", hint="choose another --out, or remove it"
            )
        said = new.pop(manifest.NAME)
        self._write({f"{RECORDS}/{name}.json": _json({"objects": dict.fromkeys([*there, *new, manifest.NAME], "")})})
        if manifest.NAME in there:
            self._remove([f"{name}/{manifest.NAME}"])
        self._remove([f"{name}/{old}" for old in sorted(there.keys() - new.keys() - {manifest.NAME})])
        self._write({f"{name}/{key}": content for key, content in new.items()})
        self._write({f"{name}/{manifest.NAME}": said})
        self._write({f"{RECORDS}/{name}.json": _json({"objects": self._list(name), "outcome": asdict(outcome)})})

    def add(self, outcome: Outcome) -> None:
        pass  # publish has

    def finish(self, found: Sequence[Outcome]) -> None:
        with tempfile.TemporaryDirectory(prefix=".mfs-") as folder:
            outcomes.write(Path(folder), found)
            self._write({path.name: path.read_bytes() for path in Path(folder).iterdir()})
            if not Path(folder, outcomes.PARQUET).exists() and self._read(outcomes.PARQUET) is not None:
                self._remove([outcomes.PARQUET])  # an earlier run's

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix=".mfs-") as folder:
            for key in self._list(name):
                if ".." in key.split("/") or key.startswith("/"):
                    raise BundleError(f"{self.where(name)} holds {key!r}, a name that leads out of it")
                path = Path(folder, key)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self._read(f"{name}/{key}") or b"")
            yield Path(folder)

    def where(self, name: str) -> str:
        return f"{self._url}/{name}"

    def _ours(self, name: str) -> set[str]:
        """Names of objects that a record or a manifest says are a bundle's."""
        ours = set(self._record(name)["objects"])
        with tempfile.TemporaryDirectory(prefix=".mfs-") as folder, contextlib.suppress(BundleError):
            Path(folder, manifest.NAME).write_bytes(self._read(f"{name}/{manifest.NAME}") or b"")
            ours |= {manifest.NAME, *manifest.read(Path(folder))["files"]}
        return ours

    def _record(self, name: str) -> dict[str, Any]:
        """The person's record; one of nothing where there is none, or a damaged one."""
        try:
            found = json.loads(self._read(f"{RECORDS}/{name}.json") or b"")
        except ValueError:
            found = None
        return found if isinstance(found, dict) and isinstance(found.get("objects"), dict) else {"objects": {}}

    # All that is asked of the store.

    def _list(self, name: str) -> dict[str, str]:
        """Objects below ``name``, and their seals."""
        place = f"{self._root}/{name}"
        with _reaching(self.where(name)):
            found = self._fs.find(place, detail=True)
        return {
            path.removeprefix(f"{place}/"): f"{facts['size']} {facts.get('ETag') or facts.get('etag') or facts.get('mtime', '')}"
            for path, facts in found.items()
        }

    def _read(self, key: str) -> bytes | None:
        with _reaching(self.where(key)):
            try:
                return bytes(self._fs.cat_file(f"{self._root}/{key}"))
            except FileNotFoundError:
                return None

    def _write(self, contents: dict[str, bytes]) -> None:
        with _reaching(self._url):
            self._fs.pipe({f"{self._root}/{key}": content for key, content in contents.items()})

    def _remove(self, keys: list[str]) -> None:
        if keys:
            with _reaching(self._url):
                self._fs.rm([f"{self._root}/{key}" for key in keys])


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


@contextlib.contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Stores' clients each have their own errors, with no base in common."""
    try:
        yield
    except Exception as exc:
        said = (str(exc).splitlines() or [""])[0]
        raise StoreFailed(url, f"{type(exc).__name__}: {said}") from exc
