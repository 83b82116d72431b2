"""A batch's chunks on the machines of a Ray cluster: the same work as in a pool of processes, by actors that open the kit once.

Plain actors, not Ray Data: its pool tries a chunk that kills its actor again without end, and one such photo would stop everybody.
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

from mfs_deploy.batch import run as batch
from mfs_deploy.batch.outcomes import Outcome
from mfs_deploy.batch.people import Row
from mfs_deploy.batch.stores import is_url
from mfs_deploy.errors import MissingExtra, OutputError

Chunk = list[Row]


class Worker:
    """Opens the kit with the first chunk and not when it is made, so that what goes wrong is told as what it is."""

    opened = False

    def run(self, request: batch.Request, rows: Chunk, basis: str) -> list[Outcome]:
        if not self.opened:
            batch._open(request)
            self.opened = True
        return batch._chunk(rows, basis)


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
    with contextlib.redirect_stdout(sys.stderr):  # Ray tells of killed workers on stdout, whatever is asked of it
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as exc:
            said = (str(exc).splitlines() or [""])[0]
            raise OutputError(f"no Ray cluster: {said}", hint="look at RAY_ADDRESS; without it one is started here") from exc
        try:
            yield
        finally:
            ray.shutdown()


def size() -> int:
    """Processors of the cluster."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def pool(
    request: batch.Request, basis: str, chunks: Sequence[Chunk], workers: int
) -> Generator[Outcome, None, tuple[list[Chunk], list[Chunk]]]:
    """As ``batch._pool``; kit and photos must be found under the same paths everywhere."""
    import ray

    waiting = [[_absolute(row) for row in chunk] for chunk in chunks]
    request = replace(
        request,
        kit=request.kit.resolve(),
        out=request.out if is_url(request.out) else Path(request.out).resolve(),
        detector=None if request.detector is None else request.detector.resolve(),
    )
    # No more than can run: others would wait for a processor for ever, and their chunks with them.
    workers = min(workers, len(waiting), size())
    idle = [ray.remote(num_cpus=1)(Worker).remote() for _ in range(workers)]
    actors = list(idle)
    running: dict[Any, tuple[Any, Chunk]] = {}
    hit: list[Chunk] = []
    try:
        while running or (waiting and not hit):
            while idle and waiting and not hit:
                actor, chunk = idle.pop(), waiting.pop(0)
                running[actor.run.remote(request, chunk, basis)] = (actor, chunk)
            (ready, *_), _ = ray.wait(list(running))
            actor, chunk = running.pop(ready)
            try:
                outcomes = ray.get(ready)
            except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError):
                hit.append(chunk)
                continue
            except ray.exceptions.RayTaskError as exc:
                raise exc.cause from exc
            idle.append(actor)
            yield from outcomes
    finally:
        for actor in actors:
            ray.kill(actor)
    return hit, waiting


def _absolute(row: Row) -> Row:
    return replace(row, **{name: os.path.abspath(path) for name in ("photo", "identity") if (path := getattr(row, name))})
