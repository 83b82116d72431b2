"""How long work tells of its steps.  The command line draws a bar; the library is silent unless given one."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    def start(self, steps: int) -> None: ...
    def step(self, label: str) -> None:
        """A step begins (or, for those that run side by side, ends)."""

    def note(self, text: str) -> None:
        """What a step is busy with, where that takes a while."""

    def finish(self) -> None: ...


class Silent:
    def start(self, steps: int) -> None: ...
    def step(self, label: str) -> None: ...
    def note(self, text: str) -> None: ...
    def finish(self) -> None: ...


SILENT = Silent()
