"""A copy of the checkout's files, and the wheel that is built from it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def source(once) -> Path:
    """A folder with the files that git does not ignore.  Do not write into it."""

    def copy(folder: Path) -> None:
        command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0"):
            if name and (ROOT / name).is_file():  # a file may be deleted and not committed yet
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)

    return once("source", copy)


@pytest.fixture(scope="session")
def wheel(source, once, tmp_path_factory) -> Path:
    """Built from ``source`` without a network: by the setuptools that is installed here."""

    def build(folder: Path) -> None:
        place = shutil.copytree(source, tmp_path_factory.mktemp("build") / "source")  # builds write beside what they build
        former = place / "build" / "lib" / "mfs_deploy" / "former.py"  # of a build of an earlier version, in the same checkout
        former.parent.mkdir(parents=True)
        former.touch()
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
        subprocess.run([*pip, "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, place], check=True)

    (path,) = once("wheel", build).glob("*.whl")
    return path
