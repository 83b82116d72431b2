"""A batch's chunks on the machines of a Ray cluster, by actors that open the kit once.

Plain actors, not Ray Data: its actor pool retries a chunk that kills its actor without end, so one such photo would stop the run
(https://github.com/ray-project/ray/issues/51946).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mfs_deploy.batch.chunk import BatchRequest, Chunk, ChunkWorker, open_worker
from mfs_deploy.batch.people import PersonEntry
from mfs_deploy.batch.results import PersonResult
from mfs_deploy.batch.stores import is_url
from mfs_deploy.errors import MissingExtra, OutputError


class Actor:
    """Opens the kit with its first chunk: Ray reports an error there as itself, and one in the constructor as a dead actor."""

    worker: ChunkWorker | None = None

    def run(self, request: BatchRequest, chunk: Chunk, run_sha256: str) -> list[PersonResult]:
        if self.worker is None:
            self.worker = open_worker(request)
        return self.worker.run(chunk, run_sha256)


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """Connected to the cluster of RAY_ADDRESS, or to a new one on this machine, until the end.

    Raises:
        MissingExtra: Ray is not installed.
        OutputError: there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as exc:
        raise MissingExtra("ray", "ray", "--engine ray") from exc
    with contextlib.redirect_stdout(sys.stderr):  # Ray reports killed workers on stdout, whatever its options say
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as exc:
            reason = (str(exc).splitlines() or [""])[0]
            raise OutputError(f"no Ray cluster: {reason}", hint="check RAY_ADDRESS; without it one is started here") from exc
        try:
            yield
        finally:
            ray.shutdown()


def size() -> int:
    """Processors of the cluster."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def run_chunks(
    request: BatchRequest, run_sha256: str, chunks: Sequence[Chunk], workers: int
) -> Generator[PersonResult, None, tuple[list[Chunk], list[Chunk]]]:
    """As ``process_pool.run_chunks``; kit and photos must have the same paths on every machine."""
    import ray

    waiting = [[_absolute(entry) for entry in chunk] for chunk in chunks]
    request = replace(
        request,
        kit=request.kit.resolve(),
        out=request.out if is_url(request.out) else Path(request.out).resolve(),
        detector=None if request.detector is None else request.detector.resolve(),
    )
    # No more than there are processors: an actor without one would hold its chunk for ever.
    workers = min(workers, len(waiting), size())
    idle = [ray.remote(num_cpus=1)(Actor).remote() for _ in range(workers)]
    actors = list(idle)
    running: dict[Any, tuple[Any, Chunk]] = {}
    hit: list[Chunk] = []
    try:
        while running or (waiting and not hit):
            while idle and waiting and not hit:
                actor, chunk = idle.pop(), waiting.pop(0)
                running[actor.run.remote(request, chunk, run_sha256)] = (actor, chunk)
            (ready, *_), _ = ray.wait(list(running))
            actor, chunk = running.pop(ready)
            try:
                results = ray.get(ready)
            except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError):
                hit.append(chunk)
                continue
            except ray.exceptions.RayTaskError as exc:
                raise exc.cause from exc
            idle.append(actor)
            yield from results
    finally:
        for actor in actors:
            ray.kill(actor)
    return hit, waiting


def _absolute(entry: PersonEntry) -> PersonEntry:
    return replace(entry, **{name: os.path.abspath(path) for name in ("photo", "identity") if (path := getattr(entry, name))})
