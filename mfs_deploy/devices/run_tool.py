"""Runs external tools that talk to phones, with a time limit."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from mfs_deploy.errors import DeviceError

SHOWN = 300  # characters of a program's output


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str

    @property
    def last_words(self) -> str:
        """The last line of stderr, else of stdout, on one line."""
        lines = [line for text in (self.err, self.out) for line in reversed(text.splitlines()) if line.strip()]
        return one_line(lines[0]) if lines else f"exit code {self.code}, without a word"


def one_line(words: str) -> str:
    """External text made safe for one line of a message."""
    return "".join(c for c in words.strip() if c.isprintable())[:SHOWN]


def run(command: Sequence[str], timeout_s: float) -> Finished:
    """Run a program to its end.

    Raises:
        DeviceError: it did not end in time, or cannot be started.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as exc:
        raise DeviceError(
            f"the phone has not answered '{' '.join(command[:4])} ...' for {timeout_s:.0f} s",
            hint="look at its screen, unplug it and plug it in again",
            kind="device-silent",
        ) from exc
    except OSError as exc:
        raise DeviceError(f"{command[0]} cannot be started: {exc.strerror}", kind="device-tool") from exc
    return Finished(done.returncode, done.stdout, done.stderr)
