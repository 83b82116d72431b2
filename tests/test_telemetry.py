"""ONNX Runtime's wheels write usage telemetry into the home folder, which we do not let them: people's faces are read here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SESSION = "from mfs_deploy.backends.onnx import runner; p = pathlib.Path(sys.argv[1]); runner.session(p, p.read_bytes())"
DETECTOR = "from mfs_deploy.faces import detectors; detectors.open_detector(pathlib.Path(sys.argv[1]))"
STAMP = "from mfs_deploy import cli; sys.exit(cli.main(['stamp', *sys.argv[1:]]))"


@pytest.fixture
def written(tmp_path):
    """Code and its arguments to what is in a new home folder after it ran."""

    def run(code: str, *args: object) -> list[Path]:
        # Nothing else is passed on: ONNX Runtime also keeps silent where a variable such as CI tells it that nobody is there.
        env = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "PYTHONPATH", "OPENBLAS_CORETYPE")}
        home = tmp_path / "home"
        home.mkdir()
        command = [sys.executable, "-c", f"import pathlib, sys\n{code}", *map(str, args)]
        subprocess.run(command, check=True, env={**env, "HOME": str(home)})
        return list(home.rglob("*"))

    return run


def test_onnx_runtime_alone_writes_into_the_home_folder(written, scrfd):
    """Else the tests below could not fail."""
    assert written("import onnxruntime; onnxruntime.InferenceSession(sys.argv[1])", scrfd) != []


@pytest.mark.parametrize("code", [SESSION, DETECTOR], ids=["running an artifact", "finding a face"])
def test_the_home_folder_stays_empty(written, code, scrfd):
    assert written(code, scrfd) == []


def test_the_home_folder_stays_empty_after_a_stamp(written, small_kit, somebody, tmp_path):
    assert written(STAMP, small_kit, "--identity", somebody(0), "--backends", "ncnn", "--out", tmp_path / "bundle", "-q") == []
