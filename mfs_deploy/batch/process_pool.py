"""A batch's chunks in processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from mfs_deploy.backends.worker import end_with
from mfs_deploy.batch.chunk import BatchRequest, Chunk, ChunkWorker, open_worker
from mfs_deploy.batch.results import PersonResult

_worker: ChunkWorker  # of this process, where it is one of the pool


def run_chunks(
    request: BatchRequest, run_sha256: str, chunks: Sequence[Chunk], workers: int
) -> Generator[PersonResult, None, tuple[list[Chunk], list[Chunk]]]:
    """Results until all chunks are done or a worker is killed.

    Returns:
        the chunks that were being worked on at that time, and those that had not begun.
    """
    waiting = list(chunks)
    # Not forked: ONNX Runtime's threads do not survive it.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(request, os.getpid()))
    running: dict[Future[list[PersonResult]], Chunk] = {}
    ahead = workers if workers == 1 else 2 * workers
    try:
        while waiting or running:
            while waiting and len(running) < ahead:
                running[pool.submit(_run_chunk, waiting[0], run_sha256)] = waiting[0]
                waiting.pop(0)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                results = future.result()
                del running[future]
                yield from results
    except BrokenProcessPool:
        pass
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return list(running.values()), waiting


def _start(request: BatchRequest, parent: int) -> None:
    """In a new worker: open the kit once, and end when the parent does."""
    global _worker  # noqa: PLW0603 (a process pool has no other place for what its workers keep)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this one after its chunk
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    _worker = open_worker(request)


def _run_chunk(chunk: Chunk, run_sha256: str) -> list[PersonResult]:
    return _worker.run(chunk, run_sha256)
