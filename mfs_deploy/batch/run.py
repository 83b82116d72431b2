"""Many people's bundles out of one kit, on the cores of this machine or of a Ray cluster.  No PyTorch, no converter.

People go in chunks through identity encoder and generator, and each is stamped and published by itself: a bundle is there whole or
not at all.  What is done is noted beside (``stores``), person by person, so that a second run does what is missing or has changed.
One bad photo costs its own person only; a disk that is full, or a store that is gone, stops the run.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mfs_deploy import files
from mfs_deploy.architectures import source_face
from mfs_deploy.backends.worker import end_with
from mfs_deploy.batch import stores
from mfs_deploy.batch.outcomes import RESULTS as RESULTS
from mfs_deploy.batch.outcomes import Outcome as Outcome
from mfs_deploy.batch.people import Row, read_people
from mfs_deploy.batch.stores import JOURNAL as JOURNAL
from mfs_deploy.batch.stores import Store
from mfs_deploy.checkpoint.identity_file import IdentityArrays
from mfs_deploy.errors import ConversionError, MfsError, OutputError
from mfs_deploy.faces import find, landmarks, pixels
from mfs_deploy.faces.detectors import Detector, open_detector
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.stamping import kit as kits
from mfs_deploy.stamping import person
from mfs_deploy.stamping.kit import Kit
from mfs_deploy.stamping.template import Template

CHUNK = 32  # people that go through the generator together
BLOCK = 1000  # people that an earlier run's bundles are looked for at once
ATTEMPTS = 2  # for a person alone whose worker was killed


@dataclass(frozen=True)
class Request:
    """
    Attributes:
        out: a folder, or a URL as text.
        workers: as many as there are processors where it is 0.
        engine: "local" or "ray".
    """

    people: Path
    kit: Path
    out: Path | str
    targets: tuple[str, ...]
    recipe: str
    detector: Path | None = None
    workers: int = 0
    engine: str = "local"


def run(request: Request, progress: Progress = SILENT) -> list[Outcome]:
    """Make every bundle that is missing or has changed.

    Returns:
        an outcome for every person, in the order of the rows.

    Raises:
        UsageError: the rows, or the kit and what is wanted of it, make no sense; nothing is made.
        MissingExtra: the engine or the place needs what is not installed.
        OutputError: bundles cannot be written; those that were finished are there, and a second run goes on.
    """
    rows = read_people(request.people, taken=stores.TAKEN)
    store = stores.at(request.out)
    person.choose(kits.load(request.kit), request.targets, request.recipe)  # refused before any work
    if request.detector is not None:
        open_detector(request.detector)
    engine: AbstractContextManager[None] = nullcontext()
    if request.engine == "ray":
        from mfs_deploy.batch import ray_pool as batch_ray

        engine = batch_ray.cluster()
    basis = _basis(request)
    with engine, store.alone():
        return _run(request, store, rows, basis, progress)


def _run(request: Request, store: Store, rows: Sequence[Row], basis: str, progress: Progress) -> list[Outcome]:
    found: dict[str, Outcome] = {}
    progress.start(len(rows))
    todo: list[Row] = []
    with ThreadPoolExecutor(store.at_once) as pool:
        for i in range(0, len(rows), BLOCK):
            block = rows[i : i + BLOCK]
            for row, before in zip(block, pool.map(lambda row: _kept(store, row, basis), block), strict=True):
                if before is None:
                    todo.append(row)
                else:
                    found[row.id] = before
                    progress.step(f"{row.id} kept")
    for outcome in _make(request, basis, todo):
        store.add(outcome)
        found[outcome.id] = outcome
        progress.step(f"{outcome.id} {outcome.status}")
    outcomes = [found[row.id] for row in rows]
    store.finish(outcomes)
    progress.finish()
    return outcomes


# ---- what was done before


def _basis(request: Request) -> str:
    """What all people's bundles depend on."""
    read = [request.kit] + ([] if request.detector is None else [request.detector])
    facts = [*(files.sha256(file) for file in read), *request.targets, request.recipe]
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()


def _made_of(row: Row, basis: str) -> str:
    """Raises OSError where the person's file cannot be read."""
    facts = (basis, files.sha256(Path(row.photo or row.identity)), row.landmarks, str(row.aligned), str(row.face))
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()


def _kept(store: Store, row: Row, basis: str) -> Outcome | None:
    """What an earlier run made, if it is what this one would make."""

    def made_of() -> str | None:
        try:
            return _made_of(row, basis)
        except OSError:
            return None

    before = store.done(row.id, made_of)
    return None if before is None else replace(before, status="kept")


# ---- workers


def _make(request: Request, basis: str, rows: Sequence[Row]) -> Iterator[Outcome]:
    """Outcomes as they come.  Who was at work when a worker was killed is tried again, one chunk at a time, then one by one."""
    pool, workers = _pool, request.workers or os.cpu_count() or 1
    if request.engine == "ray":
        from mfs_deploy.batch import ray_pool as batch_ray

        pool, workers = batch_ray.pool, request.workers or batch_ray.size()
    size = max(1, min(CHUNK, -(-len(rows) // workers)))
    waiting = [list(rows[i : i + size]) for i in range(0, len(rows), size)]
    killed: Counter[str] = Counter()
    while waiting:
        suspects, waiting = yield from pool(request, basis, waiting, workers)
        while suspects:  # alone, so that nobody is blamed for who ran beside them
            hit, suspects = yield from pool(request, basis, suspects, 1)
            for row in (row for chunk in hit for row in chunk):
                killed[row.id] += len(hit[0]) == 1
                if killed[row.id] < ATTEMPTS:
                    suspects.insert(0, [row])
                else:
                    yield Outcome(row.id, "failed", error_kind="killed", error="the worker was killed, every time")


def _pool(
    request: Request, basis: str, chunks: Sequence[list[Row]], workers: int
) -> Generator[Outcome, None, tuple[list[list[Row]], list[list[Row]]]]:
    """Outcomes until all are done or a worker is killed.

    Returns:
        chunks that were at work then, and those that had not begun.
    """
    waiting = list(chunks)
    # Not forked: ONNX Runtime's threads do not survive it.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(request, os.getpid()))
    running: dict[Future[list[Outcome]], list[Row]] = {}
    ahead = workers if workers == 1 else 2 * workers
    try:
        while waiting or running:
            while waiting and len(running) < ahead:
                running[pool.submit(_chunk, waiting[0], basis)] = waiting[0]
                waiting.pop(0)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                outcomes = future.result()
                del running[future]
                yield from outcomes
    except BrokenProcessPool:
        pass
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return list(running.values()), waiting


@dataclass
class _Worker:
    store: Store
    kit: Kit
    templates: list[Template]
    detector: Detector | None


_worker: _Worker


def _start(request: Request, parent: int) -> None:
    """In a new worker: open the kit once, and end when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this one after its chunk
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    _open(request)


def _open(request: Request) -> None:
    global _worker  # noqa: PLW0603 (a process pool has no other place for what its workers keep)
    store = stores.at(request.out)
    store.join()
    kit = kits.load(request.kit)
    detector = None if request.detector is None else open_detector(request.detector)
    _worker = _Worker(store, kit, person.choose(kit, request.targets, request.recipe), detector)


def _chunk(rows: list[Row], basis: str) -> list[Outcome]:
    """Outcomes of a chunk's people.  Raises OutputError where no bundle can be written."""
    began = time.perf_counter()
    outcomes: dict[str, Outcome] = {}
    read: list[tuple[Row, str, Any]] = []
    for row in rows:
        try:
            read.append((row, _made_of(row, basis), read_person(row, _worker.kit, _worker.detector)))
        except MfsError as exc:
            outcomes[row.id] = Outcome(row.id, "failed", error_kind=exc.kind, error=exc.message)
        except OSError as exc:
            outcomes[row.id] = Outcome(row.id, "failed", error_kind="unreadable", error=exc.strerror or str(exc))
        except Exception as exc:  # a bug of ours, which must not cost anybody else
            outcomes[row.id] = Outcome(row.id, "failed", error_kind="unexpected", error=f"{type(exc).__name__}: {exc}")
    crops = [face for _, _, face in read if not isinstance(face, IdentityArrays)]
    encoded = iter(_worker.kit.encode(crops) if crops else [])
    people = [face if isinstance(face, IdentityArrays) else next(encoded) for _, _, face in read]
    shared = (time.perf_counter() - began) / max(1, len(rows))
    baked = _worker.kit.bake(people) if people else iter(())
    for (row, made_of, _), weights in zip(read, baked, strict=True):
        started = time.perf_counter()
        try:
            with _worker.store.staging(row.id) as folder:
                said = person.stamp_bundle(_worker.kit, _worker.templates, weights, folder)
                size = sum(facts["bytes"] for facts in said["files"].values())
                done = Outcome(row.id, "done", made_of, weights.digest, size, round(shared + time.perf_counter() - started, 4))
                _worker.store.publish(folder, done)
        except (ConversionError, OutputError) as exc:  # not finite; or something else is in the place of this person's bundle
            outcomes[row.id] = Outcome(row.id, "failed", error_kind=exc.kind, error=exc.message)
            continue
        except OSError as exc:  # the disk is full or gone, for the others too
            raise OutputError.from_os(exc) or exc from exc
        outcomes[row.id] = replace(done, seconds=round(shared + time.perf_counter() - started, 4))
    return [outcomes[row.id] for row in rows]


def read_person(row: Row, kit: Kit, detector: Detector | None) -> IdentityArrays | pixels.Image:
    """An identity, or an aligned face to be encoded with the others.  Raises MfsError where there is none."""
    if row.identity:
        return person.read_identity(kit, Path(row.identity))
    points = landmarks.parse(row.landmarks) if row.landmarks else None
    return source_face.read(Path(row.photo), find.Where(points, row.aligned, row.face or None), detector, kit.interface).crop
