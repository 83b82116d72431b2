"""The emulated phone as a machine that runs workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfs_deploy.arm64 import machine
from mfs_deploy.backends.workers import Machine


@pytest.fixture(scope="session")
def a76(environment: Path) -> Machine:
    return machine.machine("cortex-a76")
