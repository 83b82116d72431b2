"""The emulated phone, set up once and kept between runs: it is half a minute and a hundred megabytes of packages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mfs_deploy.arm64 import machine, setup
from mfs_deploy.backends.workers import Machine

HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "mfs-deploy", "arm64")  # before tests hide it


@pytest.fixture(scope="session")
def environment(cache_home: Path, once) -> Path:
    """The folder of the environment.  Skipped only where the machine cannot have one."""
    try:
        setup.check()
    except machine.NotSetUp as exc:
        pytest.skip(exc.message)
    place = cache_home / "mfs-deploy" / "arm64"

    def make(_: Path) -> None:
        HOME.mkdir(parents=True, exist_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(HOME)
        setup.setup()

    once("arm64", make)
    return machine.folder()


@pytest.fixture(scope="session")
def a76(environment: Path) -> Machine:
    return machine.machine("cortex-a76")
