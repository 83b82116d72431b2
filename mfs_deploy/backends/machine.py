"""Where a worker process runs: on this machine, in an emulator, or here with another runtime."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Machine:
    """The Python to start, with what it needs in its environment, and how many threads a runtime may use."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1


LOCAL = Machine(platform.machine(), (sys.executable,))
