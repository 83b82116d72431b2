"""The emulated phone as a machine that runs workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfs_deploy.backends.machine import Machine
from mfs_deploy.devices.arm64 import machine


@pytest.fixture(scope="session")
def a76(environment: Path) -> Machine:
    return machine.machine("cortex-a76")
