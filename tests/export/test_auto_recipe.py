"""What ``--recipe auto`` takes: never what departs from PyTorch, never the slower one, and the smaller of two alike."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from mfs_deploy.backends import launch
from mfs_deploy.backends.job import Job, Result
from mfs_deploy.backends.launch import JobResult
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.evaluate import parity
from mfs_deploy.exporter import auto_recipe as choosing
from mfs_deploy.progress import SILENT
from mfs_deploy.quant import recipes

CASES = [parity.Case("target", np.zeros((32, 32, 3), np.uint8))]
SWAPPED = np.full((1, 3, 32, 32), 0.5, np.float32)
MASK = np.ones((1, 1, 32, 32), np.float32)
REFERENCE = parity.Outputs(SWAPPED, MASK)


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """Artifacts of one backend as if they had been converted: recipe to bytes, frame time and error."""

    def make(backend: str, **facts: tuple[int, float, float]) -> tuple[list[JobResult], list[choosing.Trial]]:
        done = []
        for name, (size, _, error) in facts.items():
            folder = tmp_path / f"{backend}-{name}"
            (folder / "out").mkdir(parents=True)
            (folder / "out" / "swap").write_bytes(bytes(size))
            job = Job(backend=backend, arch="mobilefaceswap", size=32, recipe=asdict(recipes.load(name)), convert=True)
            result = Result(backend, "", False, 0, {}, None)
            done.append(JobResult(job, result, {"swapped": SWAPPED + np.float32(error), "mask": MASK}, folder))

        def run(jobs, targets, folder, **options):
            assert options == {"side_by_side": False}
            return [
                replace(one, result=replace(one.result, frame_ms=facts[job.recipe_name][1]))
                for job in jobs
                for one in done
                if one.job.recipe_name == job.recipe_name
            ]

        monkeypatch.setattr(launch, "run", run)
        return choosing.choose(done, CASES, REFERENCE, None, tmp_path, SILENT)

    return make


def test_the_fastest_that_passes_is_taken(tried):
    (chosen,), trials = tried("onnx", fp32=(40, 9.0, 0), fp16=(20, 8.0, 0), w8a8=(10, 2.0, 0.2), w8=(12, 5.0, 1e-3))
    assert chosen.job.recipe_name == "w8"
    assert {t.recipe: t.frame_ms for t in trials} == {"fp32": 9.0, "fp16": 8.0, "w8a8": None, "w8": 5.0}
    assert [t.recipe for t in trials if t.complaint] == ["w8a8"]
    assert [t.recipe for t in trials if t.chosen] == ["w8"]


def test_of_those_as_fast_as_each_other_the_smallest_is_taken(tried):
    (chosen,), _ = tried("onnx", fp32=(40, 5.0, 0), fp16=(20, 5.2, 0), w8=(12, 5.4, 0))
    assert chosen.job.recipe_name == "fp16"


def test_if_no_recipe_passes_the_default_is_kept_and_its_gate_fails(tried):
    (chosen,), trials = tried("onnx", fp32=(40, 5.0, 0.1), fp16=(20, 5.2, 0.1))
    assert chosen.job.recipe_name == "fp16"
    assert all(t.complaint for t in trials)


def test_integers_are_tried_only_with_ranges_and_a_runtime_that_is_not_here_is_not_compared(monkeypatch):
    monkeypatch.setattr(BACKENDS["coreml"], "RUNS_HERE", False)
    tried = {(b, r.name) for b, r in choosing.candidates(["onnx", "coreml"], calibrated=False)}
    assert tried == {("onnx", "fp32"), ("onnx", "fp16"), ("onnx", "w8"), ("coreml", "fp16")}
    assert {r.name for _, r in choosing.candidates(["ncnn"], calibrated=True)} >= {"fp32", "fp16", "w8a8"}
