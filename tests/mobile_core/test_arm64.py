"""The program that runs on a phone by ``adb push``, run here by the emulator: cross-compiled, static, with a phone's kernels."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable

import numpy as np
import pytest

from mfs_deploy.backends.machine import Machine
from mfs_deploy.devices.arm64 import machine


@pytest.fixture(scope="module", params=["cortex-a76", "cortex-a72"])
def phone(request, arm64) -> tuple[str, Callable[..., subprocess.CompletedProcess[str]]]:
    """The processor's name, and PROGRAM ARGS... run on it."""
    emulated: Machine = machine.machine(request.param)
    emulator = emulated.command[:-1]  # the rest is its Python

    def run(program: str, *args: object) -> subprocess.CompletedProcess[str]:
        command = [*emulator, str(arm64 / program), *map(str, args)]
        environment = {**os.environ, **emulated.environment, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=environment)

    return request.param, run


def test_a_phone_s_processor_gives_what_pytorch_gives(phone, golden_bundle, reference):
    _, run = phone
    done = run("mfs-bench-device", "--bundle", golden_bundle, "--reference", reference(golden_bundle), "--warmup", 0, "--runs", 0)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["machine"]["architecture"] == "aarch64"
    assert max(case["swapped_max"] for case in said["parity"]["cases"]) < 1e-4
    assert (said["parity"]["align_max"], said["parity"]["paste_max"]) <= (1, 1)


def test_float16_arithmetic_runs_where_the_processor_has_it(phone, demo_bundle, reference, tmp_path):
    """On x86 ncnn computes float16 artifacts in float32; what a phone would give is seen only here."""
    name, run = phone
    for path in reference(demo_bundle).glob("*.npy"):  # of the cases only the first: a frame takes the emulator seconds
        array = np.load(path)
        np.save(tmp_path / path.name, array[:1] if path.stem in ("case", "target_rgb", "swapped", "mask") else array)
    done = run("mfs-bench-device", "--bundle", demo_bundle, "--reference", tmp_path, "--warmup", 0, "--runs", 0)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    has_half = "asimdhp" in machine.CPUS[name].features
    assert said["precision"] == ("float16 where the graph allows it" if has_half else "float32")
    target = said["parity"]["cases"][0]
    assert (target["swapped_max"] > 3e-4) is has_half


def test_the_core_s_own_tests_pass_on_arm64(phone):
    _, run = phone
    done = run("tests/mfs-core-test")
    assert done.returncode == 0, done.stdout


def test_a_static_program_says_that_it_has_no_litert(phone, golden_bundle):
    _, run = phone
    done = run("mfs-bench-device", "--bundle", golden_bundle, "--backend", "tflite")
    assert done.returncode == 5
    assert "a static program cannot load libraries" in done.stderr
