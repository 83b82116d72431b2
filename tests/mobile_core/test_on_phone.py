"""mfs bench and mfs parity with ``--on android`` and mobile_core's own program: adb is played, the program is not.

It is the static one for 64-bit ARM, pushed, started and cleared away as on a phone, and run by the emulator.
"""

from __future__ import annotations

import json

import pytest

from mfs_deploy import cli
from mfs_deploy.devices import android
from mfs_deploy.devices.arm64 import machine
from mfs_deploy.evaluate import bench_phone
from testing import phones


@pytest.fixture
def phone(arm64, tmp_path, monkeypatch) -> phones.Phones:
    """A Pixel with a Cortex-A76, and the demo app, which measures by the same program."""
    emulated = machine.machine("cortex-a76")
    return phones.install_android(
        tmp_path,
        monkeypatch,
        program=list(emulated.command[:-1]),  # the rest is its Python
        environment={**emulated.environment, "OMP_NUM_THREADS": "1"},
        runner=str(arm64 / "mfs-bench-device"),
    )


@pytest.mark.parametrize("way", ["runner", "app"])
def test_a_phone_s_own_outputs_hold_the_gates(phone, arm64, demo_bundle, capfd, way):
    """The whole of ``mfs parity``, in half precision, which on x86 is not what a phone computes."""
    options = ("--runner", str(arm64 / "mfs-bench-device")) if way == "runner" else ()
    code = cli.main(["parity", str(demo_bundle), "--on", "android", *options, "--json"])
    captured = capfd.readouterr()
    assert code == 0, captured.err
    said = json.loads(captured.out)
    there = said["elsewhere"]["artifacts"]["ncnn"]
    assert "float16 where the graph allows it" in there["runtime"]
    assert 40 < there["cases"][0]["swapped_psnr_db"] < said["artifacts"]["ncnn"]["cases"][0]["swapped_psnr_db"]
    assert all("unpacked" in file for file in phone.holds())


def test_times_come_from_the_program_that_was_pushed(phone, arm64, golden_bundle):
    runner = android.Runner(android.connect(None), arm64 / "mfs-bench-device", None)
    found = bench_phone.on_phone(golden_bundle, runner, runs=2, threads=1, sustained=2)
    assert found["machine"]["system"].endswith("aarch64")
    ncnn = found["artifacts"]["ncnn"]
    assert 0 < ncnn["latency_ms"]["network"]["p50"] <= ncnn["latency_ms"]["total"]["max"]
    assert ncnn["sustained"]["frames"] > 0
    assert phone.holds() == []
