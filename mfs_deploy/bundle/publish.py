"""Publishing a bundle: it is written beside its final place and renamed, so that readers see the old one, the new one, or none."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mfs_deploy.bundle import manifest
from mfs_deploy.errors import BundleError, OutputError
from mfs_deploy.files import sync, umask

REJECTED = ".rejected"  # suffix of the folder of a bundle outside its tolerance ...
REASON = "parity.json"  # ... and its file with the reason, by which such a folder is recognised
UNFINISHED = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.(partial|old)")  # names of the folders of staging and publish


def check_place(out: Path) -> None:
    """Check that a bundle can be published at ``out``.

    Raises:
        OutputError: something other than a bundle is at ``out``, or its parent cannot be written.
    """
    if not out.name or out.name == "..":
        raise OutputError(f"{out} names no folder of its own", hint="give a name: --out bundles/face01")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputError(f"{out} exists and is not a folder", hint="choose another --out")
    if out.is_dir() and any(out.iterdir()) and not _is_ours(out):
        raise OutputError(f"{out} holds files that are not a bundle's", hint="choose another --out, or empty it")
    rejected = rejected_place(out)
    if rejected.exists() and not (rejected / REASON).is_file():
        raise OutputError(f"{rejected} is in the way: what a gate refuses would go there", hint="choose another --out, or move it")


def _is_ours(folder: Path) -> bool:
    """Whether the folder is a bundle without foreign files, so that replacing it loses nothing."""
    try:
        return set(manifest.list_files(folder)) <= set(manifest.read(folder)["files"])
    except BundleError:
        return False


def rejected_place(out: Path) -> Path:
    return out.with_name(out.name + REJECTED)


@contextlib.contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A folder on the same file system as ``out`` to write into; gone afterwards unless it was published."""
    check_place(out)
    made = [parent for parent in (out.parent, *out.parent.parents) if not parent.exists()]  # deepest first
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name[:80]}.", suffix=".partial", dir=out.parent))
    in_use = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(in_use, fcntl.LOCK_SH)
        yield folder
    finally:
        os.close(in_use)
        shutil.rmtree(folder, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):  # not empty: it is in use now
                parent.rmdir()


def publish(folder: Path, out: Path) -> None:
    """Move a finished folder to ``out``, replacing an older bundle.

    Everything is on disk before the first rename.  Should the second rename fail, the old bundle is put back.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            sync(path)
    os.chmod(folder, 0o777 & ~umask())  # mkdtemp's 0700 is for unfinished folders
    old = folder.with_suffix(".old")
    try:
        if out.exists():
            os.rename(out, old)
        os.rename(folder, out)
    except BaseException:
        if old.exists() and not out.exists():
            os.rename(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Remove folders that killed runs left in ``parent``; a bundle that was about to be replaced is put back."""
    for folder in list(parent.iterdir()):
        named = UNFINISHED.fullmatch(folder.name)
        if named is None or folder.is_symlink() or not folder.is_dir():
            continue
        if named[2] == "old" and not (parent / named[1]).exists():
            folder.rename(parent / named[1])
            continue
        used = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        except BlockingIOError:  # of a running export
            pass
        finally:
            os.close(used)


def keep_rejected(folder: Path, out: Path, reason: dict[str, Any]) -> Path:
    """Move a bundle outside its tolerance to ``<out>.rejected``, with the reason as JSON; an earlier one is replaced."""
    place = rejected_place(out)
    (folder / REASON).write_text(json.dumps(reason, indent=2, sort_keys=True) + "\n", "utf-8")
    if place.exists():
        shutil.rmtree(place)
    os.rename(folder, place)
    os.chmod(place, 0o777 & ~umask())
    return place
