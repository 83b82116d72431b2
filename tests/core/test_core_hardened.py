"""Memory that is read or written where it should not be, by good input or bad: our own code under sanitizers, and fuzzed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def run(*command: object) -> subprocess.CompletedProcess[str]:
    """Succeeds, or fails the test with what the sanitizers said."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False, env={**os.environ, **ENVIRONMENT})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done


def test_the_core_s_own_tests_under_sanitizers(sanitized, golden_bundle):
    run(sanitized / "tests" / "mfs-core-test", golden_bundle)


def test_a_whole_run_under_sanitizers(sanitized, golden_bundle, reference, tmp_path):
    given = ("--bundle", golden_bundle, "--reference", reference(golden_bundle), "--dump", tmp_path / "dump")
    run(sanitized / "mfs-bench-device", *given, "--warmup", 0, "--runs", 1, "--sustained", 0.1)


@pytest.mark.parametrize("rounds", [400, pytest.param(8000, marks=pytest.mark.slow)])
def test_damaged_bundles_are_read_or_refused_and_nothing_else(sanitized, golden_bundle, rounds):
    done = run(sanitized / "tests" / "mfs-fuzz", golden_bundle, rounds, rounds)
    refused = [int(line.rsplit(" ", 3)[-3]) for line in done.stdout.splitlines()]
    assert len(refused) == 3
    assert min(refused) > rounds // 2  # the damage is real


def test_every_source_compiles_alone_and_without_warnings(dependencies, tmp_path):
    """The tests compile several files as one, which hides a header that was forgotten: a sample of them by itself."""
    core = Path(__file__).parents[2] / "mobile_core"
    source, ncnn = dependencies.sources(), dependencies.ncnn()
    include = [f"-I{core / 'include'}", f"-I{core / 'src'}", f"-isystem{ncnn / 'include' / 'ncnn'}", f"-isystem{source / 'yyjson'}"]
    flags = [
        "-std=c++17",
        "-fsyntax-only",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-missing-field-initializers",
        '-DMFS_CORE_VERSION="0"',
    ]
    for path in sorted((core / "src").glob("*.cpp")):
        run("c++", *flags, "-DMFS_WITH_LITERT", *include, path)
