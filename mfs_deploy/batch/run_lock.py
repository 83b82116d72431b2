"""Locks on a folder of bundles: one run at a time.  Taking the lock deletes what killed runs left unfinished."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mfs_deploy.bundle import publish as bundles
from mfs_deploy.errors import OutputError

RUN = ".batch.lock"  # held by the run ...
WORKERS = ".workers.lock"  # ... and shared by its workers, which may outlive it by a second


@contextlib.contextmanager
def hold(out: Path) -> Iterator[None]:
    """Hold the lock of ``out``.

    Raises:
        OutputError: another run holds the lock, or ``out`` is not a folder.
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
        fcntl.flock(workers, fcntl.LOCK_EX)  # waits for the workers of a killed run to end
        bundles.sweep(out)
        fcntl.flock(workers, fcntl.LOCK_UN)
        yield


def register_worker(out: Path) -> None:
    """In a worker: hold the workers' lock until this process ends."""
    fcntl.flock(os.open(out / WORKERS, os.O_RDONLY), fcntl.LOCK_SH)
