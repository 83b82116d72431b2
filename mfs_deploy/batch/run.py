"""Many people's bundles from one kit, on the cores of this machine or of a Ray cluster.  No PyTorch, no converter.

People go through identity encoder and generator in chunks; each bundle is stamped and published by itself, whole or not at all.
Each result is recorded beside the bundles (``stores``), so that a second run makes only what is missing or has changed.
A bad photo fails its own person only; a full disk, or a store that does not answer, stops the run.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from mfs_deploy import files
from mfs_deploy.batch import process_pool, stores
from mfs_deploy.batch.chunk import BatchRequest, inputs_sha256
from mfs_deploy.batch.people import PersonEntry, read_people
from mfs_deploy.batch.results import PersonResult
from mfs_deploy.batch.stores import Store
from mfs_deploy.faces.detectors import open_detector
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.stamping import kit as kits
from mfs_deploy.stamping import person

CHUNK = 32  # people that go through the generator together
BLOCK = 1000  # people whose earlier bundles are looked up at once
ATTEMPTS = 2  # for a person alone whose worker was killed


def run(request: BatchRequest, progress: Progress = SILENT) -> list[PersonResult]:
    """Make every bundle that is missing or has changed.

    Returns:
        a result for every person, in the order of the table.

    Raises:
        UsageError: the table is not valid, or the kit lacks what is asked for; nothing is made.
        MissingExtra: the engine or the store needs a package that is not installed.
        OutputError: bundles cannot be written; those that were finished stay, and a second run continues.
    """
    entries = read_people(request.people, taken=stores.TAKEN)
    store = stores.open_store(request.out)
    person.choose(kits.load(request.kit), request.backends, request.recipe)  # refused before any work
    if request.detector is not None:
        open_detector(request.detector)
    engine: AbstractContextManager[None] = nullcontext()
    if request.engine == "ray":
        from mfs_deploy.batch import ray_pool

        engine = ray_pool.cluster()
    sha256 = run_sha256(request)
    with engine, store.lock_run():
        return _run(request, store, entries, sha256, progress)


def _run(
    request: BatchRequest, store: Store, entries: Sequence[PersonEntry], sha256: str, progress: Progress
) -> list[PersonResult]:
    results: dict[str, PersonResult] = {}
    progress.start(len(entries))
    todo: list[PersonEntry] = []
    with ThreadPoolExecutor(store.parallelism) as pool:
        for i in range(0, len(entries), BLOCK):
            block = entries[i : i + BLOCK]
            for entry, earlier in zip(block, pool.map(lambda entry: _unchanged(store, entry, sha256), block), strict=True):
                if earlier is None:
                    todo.append(entry)
                else:
                    results[entry.id] = earlier
                    progress.step(f"{entry.id} unchanged")
    for result in _make(request, sha256, todo):
        store.add(result)
        results[result.id] = result
        progress.step(f"{result.id} {result.status}")
    in_order = [results[entry.id] for entry in entries]
    store.finish(in_order)
    progress.finish()
    return in_order


def run_sha256(request: BatchRequest) -> str:
    """Hash of what every bundle of a run depends on."""
    read = [request.kit] + ([] if request.detector is None else [request.detector])
    facts = [*(files.sha256(file) for file in read), *request.backends, request.recipe]
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()


def _unchanged(store: Store, entry: PersonEntry, sha256: str) -> PersonResult | None:
    """The result of an earlier run, if its bundle is the one that this run would make."""

    def inputs() -> str | None:
        try:
            return inputs_sha256(entry, sha256)
        except OSError:
            return None

    earlier = store.earlier(entry.id, inputs)
    return None if earlier is None else replace(earlier, status="unchanged")


def _make(request: BatchRequest, sha256: str, entries: Sequence[PersonEntry]) -> Iterator[PersonResult]:
    """Results as they come.  A chunk whose worker was killed is run again alone, then each of its people alone."""
    run_chunks, workers = process_pool.run_chunks, request.workers or os.cpu_count() or 1
    if request.engine == "ray":
        from mfs_deploy.batch import ray_pool

        run_chunks, workers = ray_pool.run_chunks, request.workers or ray_pool.size()
    size = max(1, min(CHUNK, -(-len(entries) // workers)))
    waiting = [list(entries[i : i + size]) for i in range(0, len(entries), size)]
    killed: Counter[str] = Counter()
    while waiting:
        suspects, waiting = yield from run_chunks(request, sha256, waiting, workers)
        while suspects:  # alone, so that a neighbour's crash is not blamed on them
            hit, suspects = yield from run_chunks(request, sha256, suspects, 1)
            for entry in (entry for chunk in hit for entry in chunk):
                killed[entry.id] += len(hit[0]) == 1
                if killed[entry.id] < ATTEMPTS:
                    suspects.insert(0, [entry])
                else:
                    yield PersonResult(entry.id, "failed", error_kind="killed", error="the worker was killed, every time")
