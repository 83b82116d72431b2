"""Files: written whole or not at all; the cache folder; data that ships with the package."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mfs_deploy.errors import OutputError


@contextmanager
def replacing(out: Path, *, private: bool = False) -> Iterator[Path]:
    """A path beside ``out`` to write to; synced and renamed to ``out`` if all went well, deleted if not.

    Args:
        private: only the owner may read the file, also while it is written.

    Raises:
        OutputError: the folder of ``out`` does not exist.
    """
    if not out.parent.is_dir():
        raise OutputError(f"{out.parent} is not a folder", hint="create it, or choose another --out")
    fd, name = tempfile.mkstemp(prefix=f".{out.stem[:80]}.", suffix=out.suffix, dir=out.parent)
    os.close(fd)
    temporary = Path(name)
    try:
        yield temporary
        if not private:
            os.chmod(temporary, 0o666 & ~umask())  # mkstemp's 0600 is for unfinished files
        sync(temporary)
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, content: bytes) -> None:
    """Write a whole file by ``replacing``; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def sync(path: Path) -> None:
    """Wait until a file's content is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def umask() -> int:
    """Permission bits that this process removes from new files."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def sha256(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def cache_folder(name: str) -> Path:
    """The user's cache folder for one kind of file.  It may not exist; without it only time is lost."""
    root = Path(os.environ["XDG_CACHE_HOME"]) if os.environ.get("XDG_CACHE_HOME") else Path("~/.cache").expanduser()
    return root / "mfs-deploy" / name


def shipped(name: str) -> Path:
    """``models/...`` or ``export_configs/...``: beside the package in a checkout, inside it once installed (setup.py)."""
    package = Path(__file__).parent
    checkout = package.parent / name
    return checkout if (package.parent / "setup.py").is_file() and checkout.exists() else package / name
