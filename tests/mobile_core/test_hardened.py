"""Memory that is read or written where it should not be, by good input or bad: our own code under sanitizers, and fuzzed."""

from __future__ import annotations

import os
import shutil
import subprocess

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


@pytest.mark.parametrize("rounds", [400, 8000])
def test_damaged_bundles_are_read_or_refused_and_nothing_else(sanitized, bare_bundle, golden_bundle, tmp_path, rounds):
    seed = shutil.copytree(bare_bundle("mobilefaceswap"), tmp_path / "seed")  # whose files take no time to hash
    for name in ("swap.param", "swap.bin"):
        shutil.copy(golden_bundle / name, seed)
    done = run(sanitized / "tests" / "mfs-fuzz", seed, rounds, rounds)
    refused = [int(line.rsplit(" ", 3)[-3]) for line in done.stdout.splitlines()]
    assert len(refused) == 3
    assert min(refused) > rounds // 2  # the damage is real
