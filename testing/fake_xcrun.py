"""An ``xcrun devicectl`` with phones of its own: the JSON that Xcode 16's writes, as far as it is read.

Its phones are told by the file in FAKE_PHONES:

    phones      what `list devices` gives
    root        a folder: the app's container
    apps        {name it shows: identifier}
    program     a command that measures in place of the app, with the options of mfs-bench-device
    app         how the app behaves: "measures", "dies", or an error to report
    refuses     words of Apple's for which every copy is refused
    forgets     false: the app cannot be started to delete a copy
    took        appended: every command
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

STATE = Path(os.environ["FAKE_PHONES"])


def told() -> dict[str, Any]:
    return json.loads(STATE.read_text("utf-8"))


def finish(out: Path, command: str, result: dict[str, Any] | None, error: str = "") -> NoReturn:
    said: dict[str, Any] = {"info": {"commandType": f"devicectl.{command}", "outcome": "failed" if error else "success"}}
    if error:
        outer = {"NSLocalizedDescription": {"string": "The operation could not be completed."}}
        inner = {"error": {"domain": "CoreDevice", "code": 3, "userInfo": {"NSLocalizedDescription": {"string": error}}}}
        said["error"] = {"domain": "com.apple.dt.CoreDeviceError", "code": 1, "userInfo": {**outer, "NSUnderlyingError": inner}}
    else:
        said["result"] = result or {}
    out.write_text(json.dumps(said), "utf-8")
    print("devicectl says something for people here")
    sys.exit(1 if error else 0)


def options(words: list[str]) -> dict[str, str]:
    return {word: words[i + 1] for i, word in enumerate(words[:-1]) if word.startswith("--")}


def copy(words: list[str], out: Path) -> NoReturn:
    state, given = told(), options(words)
    inside = Path(state["root"], given["--source" if words[0] == "from" else "--destination"])
    if "refuses" in state:
        finish(out, "device.copy", None, state["refuses"])
    if given["--domain-identifier"] not in state["apps"].values() or given["--domain-type"] != "appDataContainer":
        finish(out, "device.copy", None, "The specified application is not installed.")
    if words[0] == "to":
        if inside.exists():
            finish(out, "device.copy", None, f"The file “{inside.name}” is there already.")
        inside.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if Path(given["--source"]).is_dir() else shutil.copyfile)(given["--source"], inside)
    elif not inside.is_file() or Path(given["--destination"]).exists():
        finish(out, "device.copy", None, f"The file “{inside.name}” could not be opened because there is no such file.")
    else:
        shutil.copyfile(inside, given["--destination"])
    finish(out, "device.copy", {})


def launch(words: list[str], arguments: list[str], out: Path) -> NoReturn:
    state, given = told(), options(arguments)
    assert words[-1] in state["apps"].values()
    documents = Path(state["root"], "Documents")
    if "--forget" in given:
        if not state.get("forgets", True):
            finish(out, "device.process.launch", None, "The device is locked.")
        for path in (documents / given["--forget"], documents / "reports" / given["--forget"]):
            shutil.rmtree(path, ignore_errors=True)
        (documents / "reports" / f"{given['--forget']}.json").unlink(missing_ok=True)
        finish(out, "device.process.launch", {})
    if state["app"] == "dies":
        finish(out, "device.process.launch", None, "The application exited unexpectedly.")
    report = json.dumps({"error": state["app"]})
    if state["app"] == "measures":
        bundle = documents / given["--bench"]
        words = ["--bundle", str(bundle), "--backend", "coreml", "--reference", str(bundle / "reference")]
        words += ["--dump", str(documents / "reports" / given["--dump"])] if "--dump" in given else []
        words += [word for name in ("--warmup", "--runs", "--sustained") for word in (name, given[name])]
        report = subprocess.run([*state["program"], *words], capture_output=True, text=True, check=True).stdout
    (documents / "reports").mkdir(exist_ok=True)
    (documents / "reports" / given["--report"]).write_text(report, "utf-8")
    finish(out, "device.process.launch", {})


def main(words: list[str]) -> NoReturn:
    assert words[0] == "devicectl"
    words, arguments = (words[1 : words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words[1:], [])
    out = Path(words.pop(words.index("--json-output") + 1))
    words.remove("--json-output")
    state = told()
    STATE.write_text(json.dumps({**state, "took": [*state.get("took", []), words + arguments]}), "utf-8")
    if words[:2] == ["list", "devices"]:
        finish(out, "list.devices", {"devices": state["phones"]})
    if words[:3] == ["device", "info", "apps"]:
        apps = [{"name": name, "bundleIdentifier": identifier} for name, identifier in state["apps"].items()]
        finish(out, "device.info.apps", {"apps": apps})
    if words[:2] == ["device", "copy"]:
        copy(words[2:], out)
    assert words[:3] == ["device", "process", "launch"], words
    launch(words[3:], arguments, out)


if __name__ == "__main__":
    main(sys.argv[1:])
