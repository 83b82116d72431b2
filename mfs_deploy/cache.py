"""Where what took long to find out is kept for the next time.  A cache that cannot be read or written costs time, nothing else."""

from __future__ import annotations

import os
from pathlib import Path


def folder(name: str) -> Path:
    """The folder for one kind of thing; it may not exist yet."""
    root = Path(os.environ["XDG_CACHE_HOME"]) if os.environ.get("XDG_CACHE_HOME") else Path("~/.cache").expanduser()
    return root / "mfs-deploy" / name
