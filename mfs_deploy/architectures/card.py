"""The cards in ``models/``: names, sizes and hashes of published files; and the record of a file that was read."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from typing import Any

from mfs_deploy.files import shipped

# Roles of a checkpoint's files.
ARCHIVE = "archive"
GENERATOR = "generator"
ENCODER = "identity encoder"
DETECTOR = "detector"
# Why a file is taken for a published one.
WHOLE = "published archive (size and SHA-256 match)"
MEMBER = "member of the published archive"
SAME_SIZE = "size matches the published file"
DEMO = "demo weights (SHA-256 matches)"


@dataclass(frozen=True)
class SourceFile:
    """One file that a checkpoint was read from, as the manifest records it.

    ``name`` is the published one if it is that or has that size, else a neutral one: a user's file names may hold names of people.
    ``recognised`` is "" or says why the file is taken for a published one.
    """

    role: str  # ARCHIVE, GENERATOR, ENCODER or DETECTOR
    name: str
    bytes: int
    sha256: str
    recognised: str


@functools.cache
def card(model: str) -> dict[str, Any]:
    """``models/<model>/card.toml``."""
    return tomllib.loads(shipped(f"models/{model}/card.toml").read_text("utf-8"))
