"""Whether a file of a checkpoint is a published one, and what the manifest may record of it."""

from __future__ import annotations

from pathlib import PurePosixPath

from mfs_deploy.architectures import INTERFACES
from mfs_deploy.architectures.card import ARCHIVE, DEMO, SAME_SIZE, WHOLE, SourceFile, card

SUFFIXES = (".pdparams", ".pth", ".pt", ".safetensors", ".onnx", ".tar", ".gz", ".tgz")


def describe(role: str, name: str, size: int, sha256: str) -> SourceFile:
    """``name`` is the file's own base name, which is kept only if it is a published one."""
    demo = [published for published, digest in card("demo")["sha256"].items() if digest == sha256]
    if demo:
        return SourceFile(role, demo[0], size, sha256, DEMO)
    sizes = _published_sizes()
    same_size = [published for published, count in sizes.items() if count == size]
    recognised = SAME_SIZE if same_size else ""
    if same_size and role == ARCHIVE and sha256 in _archive_hashes():
        recognised = WHOLE
    if same_size:
        name = same_size[0]
    elif name not in sizes:
        name = neutral(role, name)
    return SourceFile(role, name, size, sha256, recognised)


def _published_sizes() -> dict[str, int]:
    """Bytes by base name, of every published archive and its members."""
    sizes: dict[str, int] = {}
    for model in INTERFACES:
        published = card(model)
        if "archive" in published:
            sizes[published["archive"]["name"]] = published["archive"]["bytes"]
        sizes |= {PurePosixPath(path).name: count for path, count in published.get("members", {}).items()}
    return sizes


def _archive_hashes() -> set[str]:
    return {card(model)["archive"]["sha256"] for model in INTERFACES if "archive" in card(model)}


def neutral(role: str, name: str) -> str:
    """ "generator.pth" for "anna.pth"."""
    suffixes = "".join(s for s in PurePosixPath(name.lower()).suffixes if s in SUFFIXES)
    return f"{role.rpartition(' ')[2]}{suffixes}"
