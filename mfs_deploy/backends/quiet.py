"""Third-party converters without their chatter: notes on optional packages, progress, deprecations of each other's interfaces."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """No log records up to WARNING and no Python warnings.  Errors are exceptions, or logged as such, and still get out."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def error_text(exc: BaseException) -> str:
    """What a tool said last, or the name of its exception if it said nothing."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1] if lines else type(exc).__name__
