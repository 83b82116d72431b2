"""Phones that are not there, a bundle for them, and what they say of it."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mfs_deploy.bundle import reference_file
from testing import fake_bench_device, phones
from testing.phones import Phones


@pytest.fixture
def android(tmp_path, monkeypatch, replay) -> Phones:
    return phones.install_android(tmp_path, monkeypatch, program=replay(), stand_in=True, runner="none")


@pytest.fixture
def iphone(tmp_path, monkeypatch, replay) -> Phones:
    return phones.install_iphone(tmp_path, monkeypatch, program=replay())


@pytest.fixture(scope="session")
def bundle(golden_bundle, once) -> Path:
    """In float32, for all that phones run, in a folder with a person's name.  Do not write into it."""
    return once("phone-bundle", lambda folder: shutil.copytree(golden_bundle, folder / "jane-doe")) / "jane-doe"


@pytest.fixture(scope="session")
def elf() -> Callable[..., bytes]:
    """The head of a program, or with kind 3 of a library: its processor's number, its word size, the loader that it asks for."""

    def make(machine: int = 183, wide: bool = True, loader: str | None = None, kind: int = 2) -> bytes:
        interpreter = b"" if loader is None else loader.encode() + b"\0"
        head = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9) + struct.pack("<HHI", kind, machine, 1)
        head += struct.pack("<QQQIHHHHHH", 0, 64, 0, 0, 64, 56, 0 if loader is None else 1, 0, 0, 0)
        if loader is not None:
            head += struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(interpreter), len(interpreter), 1)
        return head + interpreter

    return make


@pytest.fixture
def runner(tmp_path, elf) -> Path:
    """A file that looks like mfs-bench-device for phones; where it is run the stand-in runs."""
    path = tmp_path / "mfs-bench-device"
    path.write_bytes(elf())
    return path


@pytest.fixture(scope="session")
def recorded(bundle, once) -> Path:
    """What ``fake_bench_device.py`` said of each artifact, and its outputs: ``<backend>.json`` and ``<backend>/``."""

    def make(folder: Path) -> None:
        (folder / "reference").mkdir()
        reference_file.unpack(bundle / reference_file.NAME, folder / "reference")
        for name in ("ncnn", "tflite", "coreml"):
            words = ["--bundle", bundle, "--reference", folder / "reference", "--backend", name, "--dump", folder / name]
            words += ["--warmup", 0, "--runs", 3, "--sustained", 5]
            done = subprocess.run([sys.executable, fake_bench_device.__file__, *map(str, words)], capture_output=True, check=True)
            (folder / f"{name}.json").write_bytes(done.stdout)

    return once("phone-recorded", make)


@pytest.fixture
def replay(tmp_path, recorded) -> Callable[..., list[str]]:
    """The command of a phone that says what is recorded; Python given changes ``report``, or the outputs at ``dump``, before."""

    def make(change: str = "") -> list[str]:
        path = tmp_path / "replay.py"
        path.write_text(
            f"""
import json, pathlib, shutil, sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
backend, recorded, dump = given["--backend"], pathlib.Path({str(recorded)!r}), pathlib.Path(given.get("--dump", "/nowhere"))
report = json.loads((recorded / f"{{backend}}.json").read_text())
report["threads"] = int(given["--threads"]) if "--threads" in given else None
if "--dump" in given:
    shutil.copytree(recorded / backend, dump)
{change}
print(json.dumps(report))
""",
            "utf-8",
        )
        return [sys.executable, str(path)]

    return make
