"""Processes that tests kill in the middle of their work, and what must not outlive them."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path


def wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    """Read ``process``'s standard error up to the first line that holds ``text``."""
    assert process.stderr is not None
    assert any(text in line for line in process.stderr), f"{text!r} was never printed"


def children(pid: int, name: bytes) -> list[int]:
    """Child processes, of any thread of ``pid``, whose command line holds ``name``."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [child for task in tasks for child in map(int, (task / "children").read_text().split()) if lives(child, name)]


def lives(pid: int, name: bytes) -> bool:
    try:
        return name in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def wait_until_gone(pids: list[int], name: bytes, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while any(lives(pid, name) for pid in pids):
        assert time.monotonic() < deadline, "a worker lives on"
        time.sleep(0.1)
