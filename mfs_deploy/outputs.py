"""One file as a verb's output: whole, or not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mfs_deploy.bundle import publish as bundle
from mfs_deploy.errors import OutputError


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A path beside ``out`` to write to; renamed to ``out`` if all went well, deleted if not."""
    if not out.parent.is_dir():
        raise OutputError(f"{out.parent} is not a folder", hint="create it, or choose another --out")
    fd, name = tempfile.mkstemp(prefix=f".{out.stem}.", suffix=out.suffix, dir=out.parent)
    os.close(fd)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~bundle.umask())
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
