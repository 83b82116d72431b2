"""The Android Debug Bridge: list phones, run commands on them, copy files, explain errors.

States and wording are adb's.  The exit code of ``adb shell`` is not trusted: if the cable is pulled meanwhile, it can be 0 with
half of the output.  So the phone's shell prints a mark and the exit code last.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from mfs_deploy.devices import run_tool
from mfs_deploy.devices.choose import Listed
from mfs_deploy.devices.run_tool import Finished
from mfs_deploy.errors import DeviceError

ANSWER_S = 60  # for a short command
COPY_S = 600  # for megabytes over a slow cable
READY = "device"
STATES = {
    "unauthorized": ("does not let this computer in", "unlock it, and allow USB debugging when it asks"),
    "authorizing": ("does not let this computer in yet", "unlock it, and allow USB debugging when it asks"),
    "no permissions": (
        "may not be opened by this user",
        "on Linux udev rules allow it (package android-sdk-platform-tools-common)",
    ),
    "offline": ("does not answer", "unplug it and plug it in again; else: adb kill-server"),
    "connecting": ("does not answer yet", "unplug it and plug it in again; else: adb kill-server"),
}
PASSING = ("authorizing", "offline", "connecting")  # states of the first moments after adb's server has started
SETTLE_S, POLL_S = 5.0, 0.5
LINE = re.compile(r"(\(no serial number\)|\S+)\s+(no permissions|\S+)(.*)")
PLUG_IN = "plug it in, unlock it, and turn on USB debugging in its developer options; 'adb devices' must list it"


def program() -> str:
    """adb's path: in the SDK at ANDROID_HOME, else on the PATH.

    Raises:
        DeviceError: there is none.
    """
    name = "adb.exe" if sys.platform == "win32" else "adb"
    for variable in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        path = Path(os.environ.get(variable, ""), "platform-tools", name)
        if os.environ.get(variable) and path.is_file():
            return str(path)
    found = shutil.which("adb")
    if found is None:
        raise DeviceError(
            "adb is not installed; it is needed to talk to Android phones",
            hint="install Android's platform tools and put adb on the PATH, or set ANDROID_HOME",
            kind="device-tool",
        )
    return found


def listed(adb: str) -> list[Listed]:
    """Phones that adb lists, in any state; waits up to SETTLE_S while a state may still change."""
    end = time.monotonic() + SETTLE_S
    while True:
        lines = _lines(adb)
        states = {state for _, state, _ in lines}
        if READY in states or not states & set(PASSING) or time.monotonic() > end:
            return [_phone(*line) for line in lines]
        time.sleep(POLL_S)


def _lines(adb: str) -> list[tuple[str, str, str]]:
    """Serial, state, and model or else state; of lines like ``SERIAL  device usb:1-2 model:Pixel_8 transport_id:3``."""
    done = run_tool.run([adb, "devices", "-l"], ANSWER_S)
    if done.code != 0:
        raise DeviceError(f"adb does not work: {done.last_words}", kind="device-tool")
    found = []
    for line in done.out.splitlines():
        matched = None if line.startswith(("*", "List of devices")) else LINE.match(line)
        if matched is not None:
            serial, state, rest = matched.groups()
            models = re.findall(r"\bmodel:(\S+)", rest)
            found.append((serial, state, models[0].replace("_", " ") if models else state))
    return found


def _phone(serial: str, state: str, name: str) -> Listed:
    problem, hint = ("", "") if state == READY else STATES.get(state, (f"is in the state {state!r}", "start it normally"))
    return Listed(serial, name, problem=problem, hint=hint)


class Adb:
    """One phone."""

    def __init__(self, adb: str, serial: str) -> None:
        self._adb, self.serial = adb, serial

    def shell(self, *words: str, timeout_s: float = ANSWER_S) -> Finished:
        """Run a command on the phone, which may fail there.  Words are quoted for its shell.

        Raises:
            DeviceError: the phone went away before the command had ended.
        """
        end = f"mfs-{secrets.token_hex(8)}"
        done = self._run("shell", "-n", f"{shlex.join(words)}; e=$?; echo; echo {end} $e", timeout_s=timeout_s)
        out, mark, code = done.out.rpartition(f"\n{end} ")
        if not mark:
            raise self.failure(f"'{' '.join(words[:2])}' ran there", done)
        return Finished(int(code), out, done.err)

    def call(self, *words: str) -> str:
        """The output of a command on the phone.  Raises DeviceError where it fails."""
        done = self.shell(*words)
        if done.code != 0:
            raise self.failure(f"'{' '.join(words[:2])}' ran there", done)
        return done.out.strip()

    def push(self, files: Mapping[PurePosixPath, Path]) -> None:
        """Copy files to the phone, by destination path.  Folders are made first: adb push fails to make them on some phones."""
        self.call("mkdir", "-p", *sorted({str(remote.parent) for remote in files}))
        for remote, local in files.items():
            done = self._run("push", str(local), str(remote), timeout_s=COPY_S)
            if done.code != 0:
                raise self.failure(f"{remote.name} was copied there", done)

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """Copy a file from the phone."""
        done = self._run("pull", str(remote), str(local), timeout_s=COPY_S)
        if done.code != 0:
            raise self.failure(f"{remote.name} was fetched", done)

    def failure(self, doing: str, done: Finished) -> DeviceError:
        """The error of a failed step: the phone is gone, or full, or the command's own message."""
        if not self.is_there() or done.code == 0:
            return DeviceError(
                f"the phone {self.serial} went away while {doing}", hint="plug it in again, and run this again", kind="device-lost"
            )
        if "No space left" in done.out + done.err:
            return DeviceError(f"the phone is full: it failed while {doing}", hint="make room on the phone", kind="device-full")
        return DeviceError(f"the phone failed while {doing}: {done.last_words}")

    def is_there(self) -> bool:
        return any((serial, state) == (self.serial, READY) for serial, state, _ in _lines(self._adb))

    def _run(self, *words: str, timeout_s: float) -> Finished:
        return run_tool.run([self._adb, "-s", self.serial, *words], timeout_s)
