"""What is known of the published files and of the demo weights (their cards), and what may be written down of a user's files."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from mfs_deploy.files import shipped

ARCHIVE = "archive"
GENERATOR = "generator"
DETECTOR = "detector"
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

    role: str  # "archive", "generator", "identity encoder" or "detector"
    name: str
    bytes: int
    sha256: str
    recognised: str


@functools.cache
def card(model: str) -> dict[str, Any]:
    """``models/<model>/card.toml``."""
    return tomllib.loads(shipped(f"models/{model}/card.toml").read_text("utf-8"))


def describe(role: str, name: str, size: int, sha256: str) -> SourceFile:
    """``name`` is the file's own base name, which is kept only if it is a published one."""
    demo = [known for known, digest in card("demo")["sha256"].items() if digest == sha256]
    if demo:
        return SourceFile(role, demo[0], size, sha256, DEMO)
    archive: dict[str, Any] = card("mobilefaceswap")["archive"]
    published = {archive["name"]: archive["bytes"]}
    published |= {PurePosixPath(path).name: count for path, count in card("mobilefaceswap")["members"].items()}
    same_size = [known for known, count in published.items() if count == size]
    recognised = SAME_SIZE if same_size else ""
    if same_size and role == ARCHIVE:
        recognised = WHOLE if sha256 == archive["sha256"] else SAME_SIZE
    if same_size:
        name = same_size[0]
    elif name not in published:
        name = neutral(role, name)
    return SourceFile(role, name, size, sha256, recognised)


def neutral(role: str, name: str) -> str:
    """ "generator.pth" for "anna.pth"."""
    suffixes = "".join(s for s in PurePosixPath(name.lower()).suffixes if s in SUFFIXES)
    return f"{role.rpartition(' ')[2]}{suffixes}"


SUFFIXES = (".pdparams", ".pth", ".pt", ".safetensors", ".onnx", ".tar", ".gz", ".tgz")
