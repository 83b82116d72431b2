"""A bundle on disk: written beside its final place, then renamed, so that readers see the old one, the new one, or none."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mfs_deploy import manifest
from mfs_deploy.errors import OutputError

REJECTED = ".rejected"  # suffix of the folder that keeps what a gate refused


def check_place(out: Path) -> None:
    """Refuse early what publishing would refuse late.

    Raises:
        OutputError: something other than a bundle is at ``out``, or its parent cannot be written.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputError(f"{out} exists and is not a folder", hint="choose another --out")
    if out.is_dir() and any(out.iterdir()) and not (out / manifest.NAME).exists():
        raise OutputError(f"{out} holds files that are not a bundle", hint="choose another --out, or empty it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{out.parent} cannot be created: {exc.strerror}") from exc
    if not os.access(out.parent, os.W_OK):
        raise OutputError(f"{out.parent} cannot be written", hint="choose another --out")


@contextlib.contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A folder on the same file system as ``out`` to write into; gone afterwards unless it was published."""
    check_place(out)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, out: Path) -> None:
    """Move a finished folder to ``out``, replacing a bundle that is there.

    Everything is on disk before the first rename.  Should the second rename fail, the old bundle is put back.
    """
    _sync(folder)
    os.chmod(folder, 0o755)  # mkdtemp's 0700 is for the unfinished
    old = folder.with_suffix(".old")
    if out.exists():
        os.rename(out, old)
    try:
        os.rename(folder, out)
    except BaseException:
        if old.exists():
            os.rename(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def keep_rejected(folder: Path, out: Path) -> Path:
    """Move what a gate refused to ``<out>.rejected``, for inspection; an earlier one is replaced."""
    place = out.with_name(out.name + REJECTED)
    shutil.rmtree(place, ignore_errors=True)
    shutil.move(folder, place)
    os.chmod(place, 0o755)
    return place


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
