"""Progress of long work.  The command line draws a bar; the library is silent by default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

OnProgress = Callable[[int, int, str], None]  # steps done, steps in all, a label


class Progress(Protocol):
    def start(self, steps: int) -> None: ...
    def step(self, label: str) -> None:
        """A step begins (or, for those that run side by side, ends)."""

    def note(self, text: str) -> None:
        """What a long step is doing."""

    def finish(self) -> None: ...


class Silent:
    def start(self, steps: int) -> None: ...
    def step(self, label: str) -> None: ...
    def note(self, text: str) -> None: ...
    def finish(self) -> None: ...


SILENT = Silent()


class _Calls:
    def __init__(self, call: OnProgress) -> None:
        self._call, self._done, self._steps = call, 0, 0

    def start(self, steps: int) -> None:
        self._done, self._steps = 0, steps

    def step(self, label: str) -> None:
        self._done += 1
        self._call(self._done, self._steps, label)

    def note(self, text: str) -> None:
        self._call(self._done, self._steps, text)

    def finish(self) -> None: ...


def by_function(call: OnProgress | None) -> Progress:
    """Progress that calls a function at every step; silent where there is none."""
    return SILENT if call is None else _Calls(call)
