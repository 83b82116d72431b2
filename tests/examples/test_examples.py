"""The examples are what people copy first: they must run as they stand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import mfs_deploy as mfs_api

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*args: object, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, check=False, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_export_example_runs(tmp_path):
    out = run(EXAMPLES / "export.py", tmp_path / "out", cwd=tmp_path)
    assert "onnx fp16:" in out
    assert "refused: unknown backend 'tensorrt'" in out


def test_the_runtime_example_gives_what_our_own_runner_gives(demo_bundle, tmp_path):
    bundle = mfs_api.open_bundle(demo_bundle)
    rng = np.random.default_rng(0)
    crop = np.asarray(Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).resize((bundle.size, bundle.size)))
    Image.fromarray(crop).save(tmp_path / "crop.png")
    out = run(EXAMPLES / "android_runtime.py", demo_bundle, tmp_path / "crop.png", tmp_path / "swapped.png", cwd=tmp_path)
    assert "the mask covers" in out
    swapped, _ = bundle.run("tflite", crop)
    assert np.abs(np.asarray(Image.open(tmp_path / "swapped.png")).astype(int) - swapped).max() <= 1


def test_the_runtime_example_needs_nothing_of_ours():
    assert "mfs_deploy" not in (EXAMPLES / "android_runtime.py").read_text("utf-8").replace("without mfs_deploy", "")


def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    cells = json.loads((EXAMPLES / "quickstart.ipynb").read_text("utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)  # a notebook with results in it shows those of another day
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    run("-c", code, cwd=tmp_path)
    assert (tmp_path / "bundles" / "notebook" / "manifest.json").is_file()
