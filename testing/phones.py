"""Phones that are not there: what stands for adb and xcrun (``fake_adb.py``, ``fake_xcrun.py``), put in their place."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FAKES = Path(__file__).parent
SERIAL = "R5CT1234567"
PIXEL = {
    "ro.build.version.release": "14",
    "ro.build.version.sdk": "34",
    "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
    "ro.product.manufacturer": "Google",
    "ro.product.model": "Pixel 8",
}
IPHONE = {
    "identifier": "5B4C4E0B-0000-4000-8000-00000000A001",
    "connectionProperties": {"pairingState": "paired", "transportType": "wired", "tunnelState": "connected"},
    "deviceProperties": {"name": "somebody's phone", "osVersionNumber": "18.1", "developerModeStatus": "enabled"},
    "hardwareProperties": {"platform": "iOS", "marketingName": "iPhone 15 Pro", "productType": "iPhone16,1", "udid": "00008130-1"},
}


@dataclass(frozen=True)
class Phones:
    """What the fakes were told, and what they were asked; see ``fake_adb.py`` and ``fake_xcrun.py``."""

    state: Path
    root: Path

    def tell(self, **changes: Any) -> None:
        self.state.write_text(json.dumps({**self.told, **changes}), "utf-8")

    @property
    def told(self) -> dict[str, Any]:
        return json.loads(self.state.read_text("utf-8"))

    @property
    def took(self) -> list[list[str]]:
        return self.told.get("took", [])

    def holds(self) -> list[str]:
        """Files left on the phone."""
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())


def install(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, Any]) -> Phones:
    """``fake_<name>.py`` as the program of that name, on the PATH before all others."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / name
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{FAKES / f"fake_{name}.py"}" "$@"\n', "utf-8")
    program.chmod(0o755)
    root = tmp_path / "phone"
    phones = Phones(tmp_path / "phones.json", root)
    phones.state.write_text(json.dumps({"root": str(root), **state}), "utf-8")
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_PHONES", str(phones.state))
    for variable in ("ANDROID_HOME", "ANDROID_SDK_ROOT", "ANDROID_SERIAL"):
        monkeypatch.delenv(variable, raising=False)
    return phones


def install_android(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **state: Any) -> Phones:
    """A Pixel with the demo app, which measures."""
    pixel = {"phones": [{"serial": SERIAL, "state": "device", "model": "Pixel_8"}], "properties": PIXEL, "apps": ["mfs.demo"]}
    phones = install("adb", tmp_path, monkeypatch, {**pixel, "app": "measures", **state})
    (phones.root / "data/local/tmp").mkdir(parents=True)
    return phones


def install_iphone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **state: Any) -> Phones:
    """An iPhone with the demo app, which measures."""
    apple = {"phones": [IPHONE], "apps": {"MfsDemo": "com.example.swap"}, "app": "measures"}
    phones = install("xcrun", tmp_path, monkeypatch, {**apple, **state})
    phones.root.mkdir()
    return phones
