"""An NCNN artifact to damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(fp32: Path, tmp_path: Path) -> Path:
    """An fp32 artifact that a test may damage."""
    for file in (fp32, fp32.with_suffix(".bin")):
        shutil.copy(file, tmp_path)
    return tmp_path / fp32.name
