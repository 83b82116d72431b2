"""Where a batch's bundles go: a folder, or the objects under a URL that fsspec knows (``object_store``).

Both show a bundle whole or not at all.  A folder has renames for that, and a journal with a line for each person.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from mfs_deploy.batch import results, run_lock
from mfs_deploy.batch.object_store import Objects
from mfs_deploy.batch.results import PersonResult
from mfs_deploy.bundle import manifest
from mfs_deploy.bundle import publish as bundles
from mfs_deploy.errors import BundleError

JOURNAL = "journal.jsonl"
TAKEN = (JOURNAL, results.RESULTS, results.PARQUET)  # names that no person may have


class Store(Protocol):
    """A run calls ``lock_run`` first.  A worker calls ``register_worker`` first, and then only ``staging`` and ``publish``.

    Raises:
        OSError: the store cannot be reached or refuses (StoreFailed, where it holds objects); from every method.
        OutputError: something that is not ours is in the way; from every method.
    """

    parallelism: int  # how many ``earlier`` to ask at once

    def lock_run(self) -> contextlib.AbstractContextManager[None]:
        """Keep other runs out, where the store can, and read the results of earlier runs."""

    def register_worker(self) -> None:
        """In a worker: keep the next run out until this process ends."""

    def earlier(self, name: str, inputs_sha256: Callable[[], str | None]) -> PersonResult | None:
        """The result of an earlier run, if its inputs had this hash and its bundle has not changed since."""

    def staging(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """A local folder to write a bundle into."""

    def publish(self, folder: Path, result: PersonResult) -> None:
        """Make ``folder`` the person's bundle, in place of an earlier one."""

    def add(self, result: PersonResult) -> None:
        """In the run: record a result."""

    def finish(self, found: Sequence[PersonResult]) -> None:
        """Write the tables."""

    def fetched(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """A bundle as a local folder."""

    def where(self, name: str) -> str:
        """Path or URL of something in the store, for messages."""


def is_url(out: Path | str) -> bool:
    return "://" in str(out)


def open_store(out: Path | str) -> Store:
    """The store at a path, or at a URL given as text.

    Raises:
        MissingExtra: the URL needs a package that is not installed.
        OutputError: no file system has such URLs.
    """
    return Objects(str(out)) if isinstance(out, str) and is_url(out) else Folder(Path(out))


class Folder:
    """A folder of bundles, with a journal of results."""

    parallelism = 1

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def lock_run(self) -> Iterator[None]:
        with run_lock.hold(self.path):
            self._journal = Journal(self.path / JOURNAL)
            try:
                yield
            finally:
                self._journal.close()

    def register_worker(self) -> None:
        run_lock.register_worker(self.path)

    def earlier(self, name: str, inputs_sha256: Callable[[], str | None]) -> PersonResult | None:
        before = self._journal.results.get(name)
        if before is None or before.status == "failed" or before.inputs_sha256 != inputs_sha256():
            return None
        try:
            held = manifest.read(self.path / name)
            whole = held["weights"]["sha256"] == before.weights_sha256 and not manifest.verify(self.path / name, held)
        except (OSError, BundleError):
            return None
        return before if whole else None

    def staging(self, name: str) -> contextlib.AbstractContextManager[Path]:
        return bundles.staging(self.path / name)

    def publish(self, folder: Path, result: PersonResult) -> None:
        bundles.publish(folder, self.path / result.id)

    def add(self, result: PersonResult) -> None:
        self._journal.add(result)

    def finish(self, found: Sequence[PersonResult]) -> None:
        results.write(self.path, found)

    def fetched(self, name: str) -> contextlib.AbstractContextManager[Path]:
        return contextlib.nullcontext(self.path / name)

    def where(self, name: str) -> str:
        return str(self.path / name)


class Journal:
    """A line of JSON for each result; a person's last line counts.  A line that a crash cut off is ignored."""

    def __init__(self, path: Path) -> None:
        self.results: dict[str, PersonResult] = {}
        text = path.read_text("utf-8", errors="replace") if path.exists() else ""
        for line in text.splitlines():
            try:
                result = PersonResult(**json.loads(line))
                self.results[result.id] = result
            except (ValueError, TypeError):
                continue
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)
        if text and not text.endswith("\n"):
            self._file.write("\n")

    def add(self, result: PersonResult) -> None:
        self._file.write(json.dumps(asdict(result)) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
