"""Times files against each other, each in a process of its own: see ``measure.py``."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.contestant import Contestant
from benchmarks.peers.environment import command, last_line

THREADS, ROUNDS, FRAMES = (1, 2), 5, 20
TIMEOUT_S = 120  # of a round


class Runner:
    """A process of ``runner.py``, stopped while it is not asked."""

    def __init__(self, one: Contestant, folder: Path, threads: int) -> None:
        self.one, self.outputs = one, folder / "outputs" / f"{one.key.replace(' ', '-')}.npz"
        self.log = self.outputs.with_suffix(f".{threads}.log")
        self.log.parent.mkdir(exist_ok=True)
        self.rounds: list[dict[str, Any]] = []
        self.error: str | None = None
        files = (str(folder / one.file), str(threads), str(folder / "target.npy"), str(self.outputs))
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command("runner.py", one.runtime, one.runtime, *files),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))},
            )

    def ask(self, frames: int) -> None:
        """One round more."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if self.error is not None:
            return
        self.process.send_signal(signal.SIGCONT)
        try:
            print(frames, file=self.process.stdin, flush=True)
            if not select.select([self.process.stdout], [], [], TIMEOUT_S)[0]:
                self.process.kill()
            self.rounds.append(json.loads(self.process.stdout.readline()))
            self.process.send_signal(signal.SIGSTOP)
        except (OSError, ValueError):  # it ended before it answered, or was ended
            code = self.process.wait()
            said = self.log.read_text("utf-8", errors="replace").replace(str(self.outputs.parents[1]), "")
            self.error = last_line(said, code)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def running(ones: Sequence[Contestant], folder: Path, threads: int) -> Iterator[list[Runner]]:
    runners = [Runner(one, folder, threads) for one in ones if one.runtime and (folder / one.file).exists()]
    try:
        yield runners
    finally:
        for runner in runners:
            runner.end()


def measure(ones: Sequence[Contestant], folder: Path, found: dict[str, dict[str, Any]]) -> None:
    for threads in THREADS:
        with running(ones, folder, threads) as runners:
            for i in range(ROUNDS + 1):  # the first loads libraries; its times are not used
                for runner in runners:
                    runner.ask(FRAMES if i else 1)
                print(f"{threads} threads, round {i} of {ROUNDS}", file=sys.stderr, flush=True)
        for runner in runners:
            entry = found[runner.one.key]
            if runner.error is not None:
                entry["error"] = runner.error
            else:
                entry[f"threads_{threads}"] = summary(runner.rounds[1:])


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    medians = [float(np.median(one["times_ms"])) for one in rounds]
    p10, p90 = np.percentile([time for one in rounds for time in one["times_ms"]], (10, 90))
    values = {
        "median_ms": np.median(medians),
        "p10_ms": p10,
        "p90_ms": p90,
        **{name: np.median([one[name] for one in rounds]) for name in ("load_ms", "first_ms", "cpu_ms")},
    }
    return {**{name: round(float(value), 3) for name, value in values.items()}, "rounds_ms": [round(m, 3) for m in medians]}
