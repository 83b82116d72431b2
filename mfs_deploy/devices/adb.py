"""The Android Debug Bridge: which phone, what to run on it, and what its refusals mean.

States and wording: adb's own (packages/modules/adb of Android: transport.cpp, file_sync_client.cpp).
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path, PurePosixPath

from mfs_deploy.devices import tool
from mfs_deploy.devices.choose import Listed
from mfs_deploy.devices.tool import Finished
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
}
NOISE = ("*", "List of devices")
PLUG_IN = "plug it in, unlock it, and turn on USB debugging in its developer options; 'adb devices' must list it"


def program() -> str:
    """adb's path: of the SDK that ANDROID_HOME names, or on the PATH.

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
            "adb is not here: it talks to Android phones",
            hint="install Android's platform tools and put adb on the PATH, or set ANDROID_HOME",
            kind="device-tool",
        )
    return found


def listed(adb: str) -> list[Listed]:
    """Phones that adb sees, in whatever state."""
    done = tool.run([adb, "devices", "-l"], ANSWER_S)
    if done.code != 0:
        raise DeviceError(f"adb does not work: {done.last_words}", kind="device-tool")
    return [_phone(line.split()) for line in done.out.splitlines() if len(line.split()) > 1 and not line.startswith(NOISE)]


def _phone(words: list[str]) -> Listed:
    """A line such as ``SERIAL  device usb:1-2 product:P model:Pixel_8 device:D transport_id:3``."""
    state = "no permissions" if words[1:3] == ["no", "permissions"] else words[1]
    model = next((word.removeprefix("model:") for word in words if word.startswith("model:")), state)
    problem, hint = ("", "") if state == READY else STATES.get(state, (f"is in the state {state!r}", "start it normally"))
    return Listed(words[0], model.replace("_", " "), problem=problem, hint=hint)


class Adb:
    """One phone."""

    def __init__(self, adb: str, serial: str) -> None:
        self._adb, self.serial = adb, serial

    def shell(self, *words: str, timeout_s: float = ANSWER_S) -> Finished:
        """A command on the phone, which may fail; adb passes on its exit code.  Words reach it as they are."""
        return self._run("shell", "-n", shlex.join(words), timeout_s=timeout_s)

    def call(self, *words: str) -> str:
        """A command on the phone that must not fail; what it printed."""
        done = self.shell(*words)
        if done.code != 0:
            raise self.failure(f"'{' '.join(words[:3])}'", done)
        return done.out.strip()

    def push(self, local: Path, remote: PurePosixPath) -> None:
        done = self._run("push", str(local), str(remote), timeout_s=COPY_S)
        if done.code != 0:
            raise self.failure(f"copying {local.name} to the phone", done)

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        done = self._run("pull", str(remote), str(local), timeout_s=COPY_S)
        if done.code != 0:
            raise self.failure(f"copying {remote.name} from the phone", done)

    def failure(self, doing: str, done: Finished) -> DeviceError:
        """Why a step failed: the phone is gone, or full, or in adb's own words."""
        if not self.is_there():
            return DeviceError(
                f"the phone {self.serial} went away while {doing}", hint="plug it in again, and run this again", kind="device-lost"
            )
        if "No space left" in done.out + done.err:
            return DeviceError(f"the phone is full: {doing} failed", hint="make room on the phone", kind="device-full")
        return DeviceError(f"{doing} failed: {done.last_words}")

    def is_there(self) -> bool:
        return any(phone.serial == self.serial and not phone.problem for phone in listed(self._adb))

    def _run(self, *words: str, timeout_s: float) -> Finished:
        return tool.run([self._adb, "-s", self.serial, *words], timeout_s)
