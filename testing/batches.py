"""A batch's folder of bundles, looked at from outside while the batch runs and after it was killed."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from mfs_deploy import files
from mfs_deploy.bundle import manifest

WORKER = b"spawn_main"  # in the command line of a worker of multiprocessing


def bundles(out: Path) -> list[Path]:
    return [p for p in out.iterdir() if p.is_dir() and not p.name.startswith(".")] if out.exists() else []


def hashes(out: Path) -> dict[str, str]:
    """``person/file`` to the SHA-256 of every file of the bundles, each of which must be whole."""
    found: dict[str, str] = {}
    for folder in bundles(out):
        assert manifest.verify(folder, manifest.read(folder)) == []
        found |= {f"{folder.name}/{p.relative_to(folder)}": files.sha256(p) for p in folder.rglob("*") if p.is_file()}
    return found


def wait_for_bundles(process: subprocess.Popen[str], out: Path, count: int) -> None:
    while len(bundles(out)) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
