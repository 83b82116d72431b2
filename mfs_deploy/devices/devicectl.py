"""Apple's ``xcrun devicectl``: list phones, copy files to and from an app's container, start the app.

It needs Xcode 16, which can wait for an app to end, and iOS 17.  Only its JSON is read, which Apple documents as stable; its
printed output is not.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from mfs_deploy.devices import run_tool
from mfs_deploy.devices.choose import Listed
from mfs_deploy.errors import DeviceError

ANSWER_S = 60
COPY_S = 300  # devicectl waits without end where an app's container cannot be reached
OLDEST = 17
PLUG_IN = "plug it in, unlock it, and trust this Mac; 'xcrun devicectl list devices' must list it"


def listed() -> list[Listed]:
    """iPhones and iPads that devicectl lists, in any state."""
    found = []
    for entry in call("list", "devices").get("devices", []):
        hardware, own, link = (_object(entry, key) for key in ("hardwareProperties", "deviceProperties", "connectionProperties"))
        if not hardware or not own or not link:
            raise DeviceError(
                "this Xcode's devicectl lists phones in an unknown format",
                hint="xcrun devicectl --version tells it: report it, or use Xcode 16",
                kind="device-tool",
            )
        if hardware.get("platform") not in ("iOS", "iPadOS") or hardware.get("reality") == "virtual":
            continue
        problem = hint = ""
        if link.get("pairingState") == "unsupported":
            problem, hint = "is too old for devicectl", f"iOS {OLDEST} or newer is needed"
        elif link.get("pairingState") != "paired":
            problem, hint = "does not trust this Mac", "unlock it, and choose Trust when it asks"
        elif link.get("tunnelState") == "unavailable":
            problem, hint = "is out of reach", PLUG_IN
        elif own.get("developerModeStatus", "enabled") != "enabled":
            problem, hint = "has Developer Mode off", "turn it on in Settings, Privacy & Security, Developer Mode"
        model = hardware.get("marketingName") or hardware.get("productType") or "iPhone"
        identifier, udid, system = entry.get("identifier"), hardware.get("udid"), own.get("osVersionNumber")
        phone = Listed(str(identifier), str(model), str(system or "unknown"), problem, hint, also=str(udid or ""))
        found.append(phone)
    return found


def call(*words: str, timeout_s: float = ANSWER_S) -> dict[str, Any]:
    """Run a command and return its ``result``.

    Raises:
        DeviceError: devicectl is not installed, or failed; with its message.
    """
    if shutil.which("xcrun") is None:
        raise DeviceError(
            "xcrun is not installed: iPhones need a Mac with Xcode 16 or later", hint="run this there", kind="device-tool"
        )
    with tempfile.TemporaryDirectory(prefix=".mfs-") as scratch:
        path = Path(scratch, "result.json")
        command = ["xcrun", "devicectl", *words]
        at = command.index("--") if "--" in command else len(command)  # what follows is the app's
        done = run_tool.run([*command[:at], "--json-output", str(path), *command[at:]], timeout_s)
        try:
            answer = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            answer = {}
    result = _object(answer, "result")
    if done.code == 0 and _object(answer, "info").get("outcome") == "success":
        return result
    raise DeviceError(f"devicectl {words[0]} {words[1]} failed: {_description(_object(answer, 'error')) or done.last_words}")


class Container:
    """The files of an app on a phone; paths are relative to it."""

    def __init__(self, identifier: str, app: str) -> None:
        self._device = ("--device", identifier)
        self._domain = ("--domain-type", "appDataContainer", "--domain-identifier", app)
        self._app = app

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """Copy a file or folder to a new path; parent folders are made."""
        self._copy("to", str(local), str(remote))

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """Copy a file from the container to a new path."""
        self._copy("from", str(remote), str(local))

    def start(self, *arguments: str, timeout_s: float) -> None:
        """Run the app to its end and stop a running one.  Its exit code is not available; its report is."""
        words = ("device", "process", "launch", "--console", "--terminate-existing", *self._device, self._app)
        call(*words, "--", *arguments, timeout_s=timeout_s)

    def _copy(self, direction: str, source: str, destination: str) -> None:
        words = ("device", "copy", direction, *self._device, *self._domain, "--source", source, "--destination", destination)
        call(*words, timeout_s=COPY_S)


def apps(identifier: str) -> dict[str, str]:
    """Bundle identifiers of the apps that developers installed, by display name."""
    entries = call("device", "info", "apps", "--device", identifier).get("apps", [])
    return {str(entry.get("name")): str(entry.get("bundleIdentifier")) for entry in entries if isinstance(entry, dict)}


def _object(answer: Any, key: str) -> dict[str, Any]:
    value = answer.get(key) if isinstance(answer, dict) else None
    return value if isinstance(value, dict) else {}


def _description(error: dict[str, Any]) -> str:
    """The innermost description in an error of devicectl."""
    if not error:
        return ""
    info = _object(error, "userInfo")
    inner = _description(_object(_object(info, "NSUnderlyingError"), "error"))
    outer = _object(info, "NSLocalizedDescription").get("string", "")
    return inner or str(outer)[: run_tool.SHOWN]
