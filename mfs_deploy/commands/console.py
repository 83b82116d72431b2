"""Output of a verb: results on stdout (as text or JSON), everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click


class Console:
    """Printing for one run of a verb.  It is also the ``Progress`` that the library reports to."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._bar: Any = None
        self._steps = self._done = 0

    def result(self, data: Mapping[str, object], text: str) -> None:
        """Print the result: ``data`` under --json, else ``text`` unless --quiet."""
        if self.as_json:
            click.echo(json.dumps(data, indent=2, sort_keys=True, allow_nan=False))
        elif not self.quiet:
            click.echo(text)

    def note(self, text: str) -> None:
        """Print a note on stderr; beside the bar while there is one."""
        if self._bar is not None:
            self._bar.update(0, text)
        elif not self.quiet:
            click.echo(text, err=True)

    def start(self, steps: int) -> None:
        self._steps, self._done = steps, 0
        if not self.quiet and sys.stderr.isatty():
            self._bar = click.progressbar(length=steps, file=sys.stderr, item_show_func=lambda label: label or "")
            self._bar.__enter__()

    def step(self, label: str) -> None:
        self._done += 1
        if self._bar is not None:
            self._bar.update(1, label)
        elif not self.quiet and self._is_worth_a_line():
            click.echo(f"[{self._done}/{self._steps}] {label}", err=True)

    def _is_worth_a_line(self) -> bool:
        """Without a terminal only every tenth part of long work is reported."""
        tenth = max(1, self._steps // 10)
        return self._steps <= 20 or self._done % tenth == 0 or self._done == self._steps

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --json and --quiet, and hands the verb a ``Console`` as ``console``."""

    @click.option("--json", "as_json", is_flag=True, help="Print the outcome (or the error) as JSON on stdout.")
    @click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors (and JSON, if asked for).")
    def wrapper(as_json: bool, quiet: bool, **kwargs: Any) -> Any:
        console = Console(as_json=as_json, quiet=quiet)
        try:
            return command(console=console, **kwargs)
        finally:
            console.finish()

    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    wrapper.__click_params__ = [*wrapper.__click_params__, *getattr(command, "__click_params__", [])]  # type: ignore[attr-defined]
    return wrapper
