"""mfs bench and mfs parity on an Android phone: what a user is told, and what is left on the phone.

``fake_adb.py`` stands for adb; in ``tests/mobile_core`` the same is done with mobile_core's own program, run by an emulator.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mfs_deploy.backends.launch import JobResult
from mfs_deploy.bundle import manifest
from mfs_deploy.devices import android as phones
from mfs_deploy.devices.phone import OnPhone
from mfs_deploy.errors import DeviceError, ParityError, UsageError
from mfs_deploy.evaluate import bench_phone, bundle_parity
from mfs_deploy.evaluate.verify import verify_bundle

NAME = "Google Pixel 8, Android 14"
OTHER = {"serial": "emulator-5554", "state": "device", "model": "sdk"}


def by_runner(runner: Path, litert: Path | None = None) -> phones.Runner:
    return phones.Runner(phones.connect(None), runner, litert)


def outputs_of(phone: phones.Runner | phones.App, bundle: Path) -> list[JobResult]:
    """As ``mfs parity`` asks for them."""
    said = manifest.read(bundle)
    contract = verify_bundle(bundle, said)
    jobs = [job for name, job in bundle_parity.artifact_jobs(bundle, said, contract).items() if name in phone.runs]
    return OnPhone(phone, bundle).run(jobs, np.zeros(0, np.float32), bundle, lambda job: None)


# ---- what comes back


def test_outputs_of_a_phone_are_held_against_the_gates(mfs, android, bundle, runner):
    ran = mfs("parity", bundle, "--on", "android", "--runner", runner, "--json")
    assert ran.code == 0, ran.err
    there = ran.json["elsewhere"]
    assert there["machine"] == NAME
    assert set(there["artifacts"]) == {"ncnn"}  # the runner was given no LiteRT
    assert there["artifacts"]["ncnn"]["cases"][0]["swapped_psnr_db"] > 100
    assert f"ncnn on {NAME}" in ran.json["agreement_db"]


def test_a_phone_that_computes_something_else_fails(mfs, android, bundle, runner, replay):
    """The same bundle, but the phone's runtime gives nine tenths of every colour."""
    android.tell(program=replay("import numpy as np; path = dump / 'swapped.npy'; np.save(path, np.load(path) * np.float32(0.9))"))
    ran = mfs("parity", bundle, "--on", "android", "--runner", runner)
    assert ran.code == 7
    assert f"fp32 ncnn on {NAME}: swapped_" in ran.err


def test_times_come_with_the_phone_s_name_and_its_runtime(android, bundle, runner, elf):
    litert = runner.with_name("libLiteRt.so")
    litert.write_bytes(elf(kind=3))
    found = bench_phone.on_phone(bundle, by_runner(runner, litert), runs=3, threads=2, sustained=5)
    assert (found["phone"], found["by"], found["threads"], found["runs"]) == (NAME, "mfs-bench-device", 2, 3)
    assert set(found["artifacts"]) == {"ncnn", "tflite"}
    for artifact in found["artifacts"].values():
        assert artifact["latency_ms"]["network"]["p50"] > 0
        assert artifact["sustained"]["samples"][0]["heat"] == {"0 cpu": 31.5}


def test_the_app_measures_what_the_runner_measures(mfs, android, bundle):
    ran = mfs("bench", bundle, "--on", "android", "--runs", 100)
    assert ran.code == 0, ran.err
    assert f"a whole frame on {NAME}, by app, 1 thread\n" in ran.out
    assert [line.split()[0] for line in ran.out.splitlines()[2:]] == ["ncnn", "tflite"]
    done = outputs_of(phones.App(phones.connect(None)), bundle)
    assert [one.job.backend for one in done] == ["ncnn", "tflite"]
    assert {name: array.shape for name, array in done[0].outputs.items()} == {"swapped": (2, 3, 224, 224), "mask": (2, 1, 224, 224)}


def test_times_of_wrong_outputs_are_not_shown(android, bundle, runner, replay):
    android.tell(program=replay("report['parity']['complaints'] = ['swapped_max on target is 0.5, limit 0.0001']"))
    with pytest.raises(ParityError, match=r"ncnn on Google Pixel 8.*swapped_max on target is 0\.5"):
        bench_phone.on_phone(bundle, by_runner(runner), runs=1, threads=1, sustained=0)


def test_a_phone_that_pastes_otherwise_fails_though_its_network_is_right(android, bundle, runner, replay):
    android.tell(program=replay("report['parity']['complaints'] = ['paste_max is 3, limit 1']"))
    with pytest.raises(ParityError, match=r"Pixel 8, Android 14: paste_max is 3, limit 1"):
        outputs_of(by_runner(runner), bundle)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("report['manifest_sha256'] = '0' * 64", "manifest_sha256 is '0000"),
        ("report['recipe'] = 'w8a8'", "recipe is 'w8a8', not 'fp32'"),
        ("report['schema'] = 2", "its schema is 2"),
        ("del report['latency_ms']", "report lacks 'latency_ms'"),
        ("report['latency_ms']['total']['p50'] = None", "'p50' is of type NoneType"),
        ("report['pixels'] = 'no'", "'pixels' is of type str"),
        ("report = []", "its schema is None"),
    ],
)
def test_a_report_of_something_else_is_no_result(android, bundle, runner, replay, change, words):
    android.tell(program=replay(change))
    with pytest.raises(DeviceError) as caught:
        bench_phone.on_phone(bundle, by_runner(runner), runs=1, threads=1, sustained=0)
    assert words in caught.value.message


def test_outputs_of_a_wrong_shape_are_refused(android, bundle, runner, replay):
    android.tell(program=replay("import numpy as np; np.save(dump / 'mask.npy', np.zeros((2, 3, 224, 224), np.float32))"))
    with pytest.raises(DeviceError) as caught:
        outputs_of(by_runner(runner), bundle)
    assert "mask.npy is float32 (2, 3, 224, 224), expected float32 (N, 1, 224, 224)" in caught.value.message


# ---- what is left there


@pytest.mark.parametrize("way", ["runner", "app"])
def test_nothing_of_a_face_stays_on_the_phone_and_no_name_gets_there(android, bundle, runner, way):
    phone = by_runner(runner) if way == "runner" else phones.App(phones.connect(None))
    bench_phone.on_phone(bundle, phone, runs=1, threads=1, sustained=0)
    outputs_of(phone, bundle)
    assert [file for file in android.holds() if file != "running"] == []
    assert not any("jane-doe" in words[-1] for words in android.took)


def test_ctrl_c_leaves_nothing_on_the_phone_and_ends_what_runs_there(android, bundle, runner, tmp_path):
    """In a process of its own, while the phone measures, which goes on by itself when adb is ended."""
    android.tell(program=[sys.executable, "-c", "import time; time.sleep(60)"])
    command = [sys.executable, "-m", "mfs_deploy", "bench", str(bundle), "--on", "android", "--runner", str(runner)]
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True, process_group=0)
    try:
        while not (found := list((tmp_path / "pids").glob("*"))):
            assert process.poll() is None
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, out
    assert android.holds() == []
    time.sleep(0.5)
    stat = Path("/proc", found[0].name, "stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"  # ended, whether or not its parent knows


@pytest.mark.parametrize("way", ["runner", "app"])
def test_a_copy_that_cannot_be_deleted_is_told_with_its_place(android, bundle, runner, way):
    place = "/data/local/tmp/mfs-" if way == "runner" else "/sdcard/Android/data/mfs.demo/files/bundles/mfs-"
    android.tell(keeps=place)
    with pytest.raises(DeviceError, match="could not be deleted") as caught:
        phone = by_runner(runner) if way == "runner" else phones.App(phones.connect(None))
        bench_phone.on_phone(bundle, phone, runs=1, threads=1, sustained=0)
    assert f"is still on the phone, in {place}" in caught.value.hint


# ---- what goes wrong


@pytest.mark.parametrize(
    ("changes", "serial", "words", "hint"),
    [
        ({"phones": []}, None, "no phone is connected", "'adb devices' must list it"),
        ({"phones": [OTHER]}, "R5CT", "no phone 'R5CT' is connected; there is emulator-5554 (sdk)", "'adb devices' must list it"),
        (
            {"phones": [OTHER, {"serial": "R5CT1234567", "state": "device", "model": "Pixel_8"}]},
            None,
            "several phones are connected: emulator-5554 (sdk), R5CT1234567 (Pixel 8)",
            "choose one with --serial",
        ),
        (
            {"phones": [{"serial": "X", "state": "unauthorized", "model": ""}]},
            None,
            "the phone X (unauthorized) does not let this computer in",
            "allow USB debugging when it asks",
        ),
        ({"phones": [{"serial": "X", "state": "offline", "model": ""}]}, None, "does not answer", "adb kill-server"),
        ({"phones": [{"serial": "X", "state": "recovery", "model": ""}]}, None, "is in the state 'recovery'", "start it normally"),
        (
            {"phones": [{"serial": "(no serial number)", "state": "no permissions (user in plugdev group)", "model": ""}]},
            None,
            "the phone (no serial number) (no permissions) may not be opened by this user",
            "udev rules",
        ),
        (
            {"properties": {"ro.build.version.release": "8.1", "ro.build.version.sdk": "27"}},
            None,
            "the phone has Android 8.1 (API 27); Android 9 (API 28) or newer is needed",
            "use a newer phone",
        ),
        (
            {"properties": {"ro.build.version.sdk": "34", "ro.product.cpu.abilist": "x86_64,x86"}},
            None,
            "processor takes x86_64,x86; arm64-v8a is needed",
            "use another phone",
        ),
        ({"apps": []}, None, "the app mfs.demo is not on Google Pixel 8", "install android_demo, or give --runner"),
    ],
)
def test_a_phone_that_cannot_be_used_is_told_by_name(mfs, android, bundle, monkeypatch, changes, serial, words, hint):
    monkeypatch.setattr("mfs_deploy.devices.adb.SETTLE_S", 0)
    android.tell(**changes)
    ran = mfs("bench", bundle, "--on", "android", *(("--serial", serial) if serial else ()))
    assert ran.code == 11
    assert words in ran.err
    assert hint in ran.err.splitlines()[-1]


def test_a_phone_that_is_just_being_found_is_waited_for(android):
    """adb's server says offline or authorizing for the first moments after it was started."""
    ready = android.told["phones"]
    android.tell(phones=[{**ready[0], "state": "authorizing"}])
    later = threading.Timer(1.0, android.tell, kwargs={"phones": ready})
    later.start()
    assert phones.connect(None).name == NAME
    later.join()


def test_android_serial_selects_the_phone(android, monkeypatch):
    android.tell(phones=[OTHER, {"serial": "R5CT1234567", "state": "device", "model": "Pixel_8"}])
    monkeypatch.setenv("ANDROID_SERIAL", "R5CT1234567")
    assert phones.connect(None).name == NAME


def test_a_ready_phone_is_taken_beside_one_that_is_not(android):
    android.tell(phones=[{"serial": "X", "state": "offline", "model": ""}, {"serial": "Y", "state": "device", "model": "Pixel_8"}])
    assert phones.connect(None).adb.serial == "Y"


def test_no_adb_says_where_it_is_looked_for(mfs, bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ANDROID_HOME", raising=False)
    monkeypatch.delenv("ANDROID_SDK_ROOT", raising=False)
    ran = mfs("bench", bundle, "--on", "android", "--json")
    assert ran.code == 11
    assert ran.json["error"]["kind"] == "device-tool"
    assert "ANDROID_HOME" in ran.json["error"]["hint"]


def test_adb_of_an_sdk_is_found(android, monkeypatch, tmp_path):
    (tmp_path / "sdk").mkdir()
    (tmp_path / "bin").rename(tmp_path / "sdk" / "platform-tools")
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path / "sdk"))
    assert phones.connect(None).name == NAME


@pytest.mark.parametrize(
    ("way", "steps"),
    [*(("runner", steps) for steps in (0, 1, 2, 9, 21, 22)), *(("app", steps) for steps in (1, 2, 3, 5, 18, 20, 22))],
)
def test_a_pulled_plug_is_told_as_one_whenever_it_happens(android, bundle, runner, way, steps):
    """While asking, copying, measuring, and fetching: adb shell says nothing then, and ends with 0."""
    android.tell(lost_after=steps)
    with pytest.raises(DeviceError) as caught:
        outputs_of(by_runner(runner) if way == "runner" else phones.App(phones.connect(None)), bundle)
    assert caught.value.kind == "device-lost", caught.value.message
    assert "the phone R5CT1234567 went away while" in caught.value.message
    if android.holds():
        assert "is still on the phone, in /" in caught.value.hint


@pytest.mark.parametrize(("way", "share"), [("runner", 0.3), ("runner", 1.0), ("app", 0.3), ("app", 1.5)])
def test_a_full_phone_is_told_and_cleared(android, bundle, runner, way, share):
    """While files are copied there, and while the phone copies them once more for the app; in shares of the bundle."""
    android.tell(bytes=share * sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file()))
    with pytest.raises(DeviceError, match="the phone is full") as caught:
        phone = by_runner(runner) if way == "runner" else phones.App(phones.connect(None))
        bench_phone.on_phone(bundle, phone, runs=1, threads=1, sustained=0)
    assert caught.value.kind == "device-full"
    assert android.holds() == []


def test_a_phone_that_never_answers_is_given_up(android, monkeypatch):
    android.tell(hangs="getprop")
    monkeypatch.setattr("mfs_deploy.devices.adb.Adb.shell.__kwdefaults__", {"timeout_s": 1.0})
    with pytest.raises(DeviceError, match="the phone has not answered") as caught:
        phones.connect(None)
    assert caught.value.kind == "device-silent"


@pytest.mark.parametrize(
    ("says", "code", "words"),
    [
        ("Error: Activity class {mfs.demo/mfs.demo.BenchActivity} does not exist.", 0, "does not exist."),
        ("Error type 3\nError: Activity class {x} does not exist.", 1, "does not exist."),
        (
            "java.lang.SecurityException: Permission Denial: starting Intent { } requires android.permission.DUMP\n"
            "\tat android.os.Binder.execTransact(Binder.java:1179)",
            255,
            "requires android.permission.DUMP",
        ),
    ],
)
def test_an_app_that_android_does_not_start_is_told_in_android_s_words(android, bundle, says, code, words):
    (android.root / "sdcard/Android/data/mfs.demo/files").mkdir(parents=True)  # it has been started before
    android.tell(am=says, am_code=code)
    with pytest.raises(DeviceError, match="the app cannot be started: ") as caught:
        bench_phone.on_phone(bundle, phones.App(phones.connect(None)), runs=1, threads=1, sustained=0)
    assert words in caught.value.message
    assert caught.value.kind == "device-app"


def test_words_of_a_runner_that_refuses_are_passed_on(android, bundle, runner):
    """An older one, say: its usage, which follows, is not the news."""
    script = "import sys; sys.exit(print('error: there is no option --dump\\nusage: ...\\n  --runs  N', file=sys.stderr) or 2)"
    android.tell(program=[sys.executable, "-c", script])
    with pytest.raises(DeviceError, match="mfs-bench-device failed on the phone with ncnn: there is no option --dump"):
        outputs_of(by_runner(runner), bundle)


def test_a_runner_that_crashes_is_told(android, bundle, runner):
    android.tell(program=[sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"])
    with pytest.raises(DeviceError, match="mfs-bench-device was ended on the phone by signal 11"):
        outputs_of(by_runner(runner), bundle)


def test_an_app_that_crashes_is_reported_with_where_to_look(android, bundle):
    android.tell(app="dies")
    with pytest.raises(DeviceError, match="the app stopped before its report was written") as caught:
        bench_phone.on_phone(bundle, phones.App(phones.connect(None)), runs=1, threads=1, sustained=0)
    assert "adb logcat" in caught.value.hint


def test_an_app_that_never_reports_is_given_up(android, bundle, monkeypatch):
    android.tell(app="is silent")
    monkeypatch.setattr("mfs_deploy.devices.phone.Run.timeout_s", 0)
    with pytest.raises(DeviceError) as caught:
        bench_phone.on_phone(bundle, phones.App(phones.connect(None)), runs=1, threads=1, sustained=0)
    assert caught.value.kind == "device-silent"


def test_what_the_app_says_went_wrong_is_passed_on(android, bundle):
    android.tell(app="no memory for a crop")
    with pytest.raises(DeviceError, match="ncnn: no memory for a crop"):
        bench_phone.on_phone(bundle, phones.App(phones.connect(None)), runs=1, threads=1, sustained=0)


@pytest.mark.parametrize("verb", ["bench", "parity"])
def test_a_phone_without_any_runtime_for_the_bundle_fails(android, bundle, verb):
    """Not: an empty table and exit code 0."""
    android.tell(app="LiteRT cannot be loaded: dlopen failed")
    phone = phones.App(phones.connect(None))
    with pytest.raises(DeviceError, match="no artifact ran on the phone: ncnn: LiteRT cannot be loaded"):
        bench_phone.on_phone(bundle, phone, runs=1, threads=1, sustained=0) if verb == "bench" else outputs_of(phone, bundle)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({"machine": 62}, "is not for 64-bit ARM"),
        ({"wide": False}, "is not for 64-bit ARM"),
        ({"kind": 3}, "is a library"),
        ({"loader": "/lib/ld-linux-aarch64.so.1"}, "asks for /lib/ld-linux-aarch64.so.1, which phones do not have"),
    ],
)
def test_a_runner_for_another_machine_is_refused_before_it_is_copied(mfs, android, bundle, runner, elf, head, words):
    runner.write_bytes(elf(**head))
    ran = mfs("bench", bundle, "--on", "android", "--runner", runner)
    assert ran.code == 2
    assert words in ran.err
    assert android.took == []


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x02" + bytes(13) + b"\xb7\x00" + b"\xff" * 60])
def test_a_runner_that_is_no_program_is_refused(mfs, android, bundle, runner, content):
    runner.write_bytes(content)
    ran = mfs("bench", bundle, "--on", "android", "--runner", runner)
    assert ran.code == 2
    assert "is not for 64-bit ARM" in ran.err


def test_a_runner_by_the_ndk_is_taken_and_no_library_that_is_none(runner, elf):
    runner.write_bytes(elf(kind=3, loader="/system/bin/linker64"))
    phones.check_runner(runner)
    runner.write_bytes(elf())
    with pytest.raises(UsageError, match="is not a library"):
        phones.check_litert(runner)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--device", "android", "--on", "arm64"), "--on arm64 and --device android exclude each other"),
        (("--runner", "x"), "--runner and --litert are for Android phones"),
        (("--on", "ios", "--litert", "x"), "--runner and --litert are for Android phones"),
        (("--serial", "x"), "--serial needs a phone"),
        (("--on", "android", "--litert", "x"), "--litert needs --runner"),
    ],
)
@pytest.mark.parametrize("verb", ["bench", "parity"])
def test_options_that_do_not_fit_together_are_refused(mfs, bundle, verb, options, words):
    ran = mfs(verb, bundle, *options)
    assert ran.code == 2
    assert words in ran.err


def test_a_bundle_without_reference_tensors_is_refused(mfs, android, bundle, runner, tmp_path):
    copy = Path(shutil.copytree(bundle, tmp_path / "bare"))
    manifest.write(copy, manifest.read(copy) | {"reference": {}})
    for verb in ("bench", "parity"):
        ran = mfs(verb, copy, "--on", "android", "--runner", runner)
        assert ran.code == 8
        assert "holds no reference tensors" in ran.err
