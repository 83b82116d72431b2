"""A batch's bundles as the objects under a URL that fsspec knows (s3://bucket/prefix).

Objects have neither renames nor locks.  So a bundle counts as complete when it has a ``manifest.json``, which is written last, and
deleted first where a bundle is replaced; and nothing keeps two runs out of the same prefix.  Each result is one small object,
``.records/ID.json``, which the worker writes after the manifest.  A journal would have to be uploaded again and again, and merged.
A record also names our objects: what an interrupted upload left can be replaced, and nothing else ever is.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from mfs_deploy.batch import results
from mfs_deploy.batch.results import PersonResult
from mfs_deploy.bundle import manifest
from mfs_deploy.bundle.schema import schema_error
from mfs_deploy.errors import BundleError, MissingExtra, OutputError, StoreFailed

RECORDS = ".records"  # no person's id begins with a dot


class Record(TypedDict):
    """A person's objects by name, each with its size and ETag, so that a change is seen without reading the object.

    ``result``: a ``PersonResult`` as a dict.  Without it the record names the objects that an upload is changing.
    """

    objects: dict[str, str]
    result: NotRequired[dict[str, Any]]


class Objects:
    """Bundles under a URL."""

    parallelism = 32  # each waits for the network only

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
    def lock_run(self) -> Iterator[None]:
        probe = f"{RECORDS}/.probe"
        self._write({probe: b""})  # a store that does not answer, or refuses to write, is reported before any work
        self._remove([probe])
        yield

    def register_worker(self) -> None:
        pass

    def earlier(self, name: str, inputs_sha256: Callable[[], str | None]) -> PersonResult | None:
        record = self._record(name)
        try:
            before = PersonResult(**record["result"])
        except (KeyError, TypeError):
            return None
        same = before.id == name and before.inputs_sha256 == inputs_sha256()
        return before if same and record["objects"] == self._list(name) else None

    @contextlib.contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix=".mfs-") as folder:
            yield Path(folder)

    def publish(self, folder: Path, result: PersonResult) -> None:
        name = result.id
        new = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        there = self._list(name)
        if foreign := there.keys() - (self._ours(name) if there else set()):
            raise OutputError(
                f"{self.where(name)} holds {min(foreign)!r}, which is not a bundle's", hint="choose another --out, or remove it"
            )
        new_manifest = new.pop(manifest.NAME)
        self._write({f"{RECORDS}/{name}.json": _json({"objects": dict.fromkeys([*there, *new, manifest.NAME], "")})})
        if manifest.NAME in there:
            self._remove([f"{name}/{manifest.NAME}"])
        self._remove([f"{name}/{old}" for old in sorted(there.keys() - new.keys() - {manifest.NAME})])
        self._write({f"{name}/{key}": content for key, content in new.items()})
        self._write({f"{name}/{manifest.NAME}": new_manifest})
        self._write({f"{RECORDS}/{name}.json": _json({"objects": self._list(name), "result": asdict(result)})})

    def add(self, result: PersonResult) -> None:
        pass  # ``publish`` has recorded it

    def finish(self, found: Sequence[PersonResult]) -> None:
        with tempfile.TemporaryDirectory(prefix=".mfs-") as folder:
            results.write(Path(folder), found)
            self._write({path.name: path.read_bytes() for path in Path(folder).iterdir()})
            if not Path(folder, results.PARQUET).exists() and self._read(results.PARQUET) is not None:
                self._remove([results.PARQUET])  # an earlier run's

    @contextlib.contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix=".mfs-") as folder:
            for key in self._list(name):
                if ".." in key.split("/") or key.startswith("/"):
                    raise BundleError(f"{self.where(name)} holds {key!r}, a name that leads out of the bundle")
                path = Path(folder, key)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self._read(f"{name}/{key}") or b"")
            yield Path(folder)

    def where(self, name: str) -> str:
        return f"{self._url}/{name}"

    def _ours(self, name: str) -> set[str]:
        """Names of the objects that a record or a manifest lists as a bundle's."""
        ours = set(self._record(name)["objects"])
        with tempfile.TemporaryDirectory(prefix=".mfs-") as folder, contextlib.suppress(BundleError):
            Path(folder, manifest.NAME).write_bytes(self._read(f"{name}/{manifest.NAME}") or b"")
            ours |= {manifest.NAME, *manifest.read(Path(folder))["files"]}
        return ours

    def _record(self, name: str) -> Record:
        """The person's record; an empty one where there is none, or a damaged one."""
        try:
            found = json.loads(self._read(f"{RECORDS}/{name}.json") or b"")
        except ValueError:
            found = None
        return {"objects": {}} if schema_error(found, Record, "record") else cast(Record, found)

    # The four requests that are made to the store.

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
    """Raises StoreFailed with the message of whatever the store's client raised."""
    try:
        yield
    except Exception as exc:  # each client has errors of its own, and they share no base class
        reason = (str(exc).splitlines() or [""])[0]
        raise StoreFailed(url, f"{type(exc).__name__}: {reason}") from exc
