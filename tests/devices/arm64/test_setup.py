"""Setting up the emulated phone: what is missing is said at once, and nothing half-made is taken for the whole."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from mfs_deploy import cli
from mfs_deploy.devices.arm64 import machine, setup
from mfs_deploy.errors import UsageError


def test_everything_that_a_machine_lacks_is_said_at_once(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(setup, "_os_release", dict)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(machine.NotSetUp) as caught:
        setup.check()
    for words in ("Linux", "bookworm", "apt-get", "dpkg-deb"):
        assert words in caught.value.message
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("verb", ["parity", "bench"])
def test_without_an_environment_the_verb_says_how_to_get_one(verb, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cli.main([verb, str(tmp_path), "--on", "arm64", "--json"]) in (5, 8)
    with pytest.raises(machine.NotSetUp, match="not set up") as caught:
        machine.machine("cortex-a76")
    assert "mfs arm64 setup" in caught.value.hint


def test_a_failed_step_leaves_nothing_and_tells_the_program_s_words(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(setup, "check", lambda: None)
    monkeypatch.setattr(setup, "_source", lambda: "file:///nowhere")
    with pytest.raises(machine.NotSetUp, match="package lists failed"):
        setup.setup()
    assert list((tmp_path / "mfs-deploy" / "arm64").iterdir()) == []


def test_a_second_setup_does_nothing(environment, capfd):
    assert cli.main(["arm64", "setup", "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert said["folder"] == str(environment)
    assert "7.2" in said["emulator"]
    assert said["versions"] == machine.versions()


@pytest.mark.parametrize(("cpu", "has_float16"), [("cortex-a76", True), ("cortex-a72", False)])
def test_a_runtime_sees_the_features_of_the_emulated_processor(environment, cpu, has_float16):
    there = machine.machine(cpu)
    code = "import platform; print(platform.machine()); print(open('/proc/cpuinfo').read())"
    said = subprocess.run([*there.command, "-c", code], env=there.environment, capture_output=True, text=True, check=True).stdout
    assert said.startswith("aarch64")
    assert ("asimdhp" in said.split()) is has_float16


def test_a_processor_that_is_not_known_is_refused():
    with pytest.raises(UsageError, match="cortex-a53"):
        machine.machine("cortex-a53")
