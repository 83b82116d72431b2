"""One run at a time in a folder of bundles, and what killed runs left unfinished there is cleared away."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mfs_deploy.bundle import publish as bundle
from mfs_deploy.errors import OutputError

RUN = ".batch.lock"  # held by the run ...
WORKERS = ".workers.lock"  # ... and shared by its workers, which may outlive it by a second


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Make ``out`` this run's.

    Raises:
        OutputError: another run is at work there, or ``out`` is no folder.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError as exc:
        raise OutputError(f"{out} exists and is not a folder", hint="choose another --out") from exc
    with open(out / RUN, "w") as run, open(out / WORKERS, "w") as workers:
        try:
            fcntl.flock(run, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise OutputError(f"another mfs batch is at work in {out}", hint="wait for it, or choose another --out") from exc
        fcntl.flock(workers, fcntl.LOCK_EX)  # had once the workers of a killed run are gone
        bundle.sweep(out)
        fcntl.flock(workers, fcntl.LOCK_UN)
        yield


def join(out: Path) -> None:
    """In a worker of the run: say that it is at work, until it ends."""
    fcntl.flock(os.open(out / WORKERS, os.O_RDONLY), fcntl.LOCK_SH)
