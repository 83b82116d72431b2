"""Median time of one frame of an artifact, in a process of its own: python benchmarks/latency.py BACKEND PATH SIZE."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np

from mfs_deploy import architecture
from mfs_deploy.backends.all import BACKENDS

WARM_UP, RUNS = 10, 60


def main(backend: str, path: str, size: int) -> float:
    contract = architecture.get("mobilefaceswap").contract(size)
    runner = BACKENDS[backend].open(Path(path), contract)
    target = np.random.default_rng(0).random(contract.input.shape, np.float32)
    times = []
    for _ in range(WARM_UP + RUNS):
        started = time.perf_counter()
        runner.run(target)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[WARM_UP:])


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
