"""An adb with phones of its own: states, wording and exit codes of the real one (checked against 29.0.6 where no phone is needed).

Its phones are told by the file in FAKE_PHONES:

    phones       [{"serial", "state", "model"}], as `adb devices -l` lists them
    root         a folder, the phone's file system; adb may write below /data/local/tmp and /sdcard
    properties   what getprop says
    apps         installed packages
    program      a command that runs programs for the phone's processor, given their path: an emulator
    environment  for that command
    stand_in     true: `program` is run in place of the phone's programs, not given their path
    app          how BenchActivity behaves: "measures" (by the program at `runner`), "dies", "is silent", or an error to report
    runner       a program for the phone's processor that the app measures with
    bytes        how much the phone holds
    lost_after   commands to a phone after which it is unplugged
    took         appended: every command to a phone, for tests to look at
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

STATE = Path(os.environ["FAKE_PHONES"])
WRITABLE = ("/data/local/tmp", "/sdcard")
COMM = 15  # characters of a process's name that Linux keeps


def told() -> dict[str, Any]:
    return json.loads(STATE.read_text("utf-8"))


def leave(code: int, words: str = "") -> NoReturn:
    if words:
        print(words, file=sys.stderr)
    sys.exit(code)


def local(path: str) -> Path:
    return Path(told()["root"]) / path.lstrip("/")


def holds() -> int:
    return sum(path.stat().st_size for path in Path(told()["root"]).rglob("*") if path.is_file())


def count(command: list[str]) -> None:
    """Keeps what was asked, and pulls the plug in time."""
    state = told()
    state["took"] = [*state.get("took", []), command]
    lost = "lost_after" in state and len(state["took"]) > state["lost_after"]
    if lost:
        state["phones"] = []
    part = STATE.with_suffix(".part")
    part.write_text(json.dumps(state), "utf-8")
    part.rename(STATE)  # tests look at it meanwhile
    if lost:
        if command[0] == "shell":
            leave(255)
        leave(1, f"adb: error: failed to copy '{command[-2]}' to '{command[-1]}': couldn't read from device")


def devices(long: bool) -> None:
    print("List of devices attached")
    for phone in told()["phones"]:
        more = f" usb:1-1 product:p model:{phone['model']} device:d transport_id:1" if long and phone["state"] == "device" else ""
        print(f"{phone['serial']}{'       ' if long else chr(9)}{phone['state']}{more}")
    print()


def chosen(serial: str | None) -> None:
    phones = told()["phones"]
    if serial is None and not phones:
        leave(1, "adb: no devices/emulators found")
    if serial is None and len(phones) > 1:
        leave(1, "adb: more than one device/emulator")
    phone = next((p for p in phones if serial in (None, p["serial"])), None)
    if phone is None:
        leave(1, f"adb: device '{serial}' not found")
    if phone["state"] == "unauthorized":
        leave(1, "adb: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set")
    if phone["state"] != "device":
        leave(1, f"adb: device {phone['state']}")


# ---- files


def push(source: str, target: str) -> None:
    def refused(why: str) -> NoReturn:
        leave(1, f"adb: error: failed to copy '{source}' to '{target}': remote {why}")

    here, there = Path(source), local(target)
    if not here.exists():
        leave(1, f"adb: error: cannot stat '{source}': No such file or directory")
    if not target.startswith(WRITABLE):
        refused("couldn't create file: Permission denied")
    if there.is_dir():
        there = there / here.name
    elif not there.parent.is_dir() and not here.is_dir():
        there.parent.mkdir(parents=True)  # as adb's sync does
    size = sum(path.stat().st_size for path in here.rglob("*") if path.is_file()) if here.is_dir() else here.stat().st_size
    if holds() + size > told().get("bytes", 1 << 40):
        refused("write failed: No space left on device")
    if here.is_dir():
        shutil.copytree(here, there, symlinks=False)
    else:
        shutil.copyfile(here, there)
        there.chmod(0o644)  # whatever a test's file system says: nobody may count on it
    print(f"{source}: 1 file pushed, 0 skipped.")


def pull(source: str, target: str) -> None:
    there, here = local(source), Path(target)
    if not there.exists():
        leave(1, f"adb: error: failed to stat remote object '{source}': No such file or directory")
    (shutil.copytree if there.is_dir() else shutil.copyfile)(there, here)
    print(f"{source}: 1 file pulled, 0 skipped.")


# ---- the phone's shell


def shell(words: list[str]) -> int:
    """One simple command; its words were joined by the client and are split by the phone's shell."""
    name, *rest = shlex.split(" ".join(words))
    if name.startswith("/"):
        return program(name, rest)
    applet = APPLETS.get(name)
    if applet is None:
        print(f"/system/bin/sh: {name}: inaccessible or not found", file=sys.stderr)
        return 127
    return applet(rest)


def program(name: str, rest: list[str]) -> int:
    path = local(name)
    if not path.is_file():
        print(f"/system/bin/sh: {name}: inaccessible or not found", file=sys.stderr)
        return 127
    if not os.access(path, os.X_OK) or not path.stat().st_mode & 0o111:
        print(f"/system/bin/sh: {name}: can't execute: Permission denied", file=sys.stderr)
        return 126
    return emulate(path, rest).returncode


def emulate(path: Path, rest: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
    state = told()
    command = [*state["program"], *(() if state.get("stand_in") else (str(path),))]
    words = [str(local(word)) if word.startswith(WRITABLE) else word for word in rest]
    return subprocess.run([*command, *words], env={**os.environ, **state.get("environment", {})}, text=True, check=False, **how)


def getprop(rest: list[str]) -> int:
    print(told()["properties"].get(rest[0], ""))
    return 0


def mkdir(rest: list[str]) -> int:
    parents = rest[0] == "-p"
    path = rest[-1]
    if not path.startswith(WRITABLE):
        print(f"mkdir: '{path}': Permission denied", file=sys.stderr)
        return 1
    local(path).mkdir(parents=parents, exist_ok=parents)
    return 0


def rm(rest: list[str]) -> int:
    for path in (local(word) for word in rest if word.startswith("/")):
        if path.is_dir() and "-rf" in rest:
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
    return 0


def chmod(rest: list[str]) -> int:
    local(rest[1]).chmod(int(rest[0], 8))
    return 0


def ls(rest: list[str]) -> int:
    if not local(rest[0]).exists():
        print(f"ls: {rest[0]}: No such file or directory", file=sys.stderr)
        return 1
    print(rest[0])
    return 0


def pm(rest: list[str]) -> int:
    if rest[0] == "path" and rest[1] in told()["apps"]:
        print(f"package:/data/app/{rest[1]}/base.apk")
        return 0
    return 1


def running() -> Path:
    return Path(told()["root"]) / "running"


def pidof(rest: list[str]) -> int:
    if rest[0] in told()["apps"] and running().exists():
        print(4711)
        return 0
    return 1


def pkill(rest: list[str]) -> int:
    """Nothing runs once a command has ended here; what the real one asks is asked all the same."""
    if len(rest[0]) > COMM:
        print(f"pkill: {rest[0]}: longer than a process's name", file=sys.stderr)
    return 1


def input_(rest: list[str]) -> int:
    return 0 if rest == ["keyevent", "KEYCODE_WAKEUP"] else 1


def am(rest: list[str]) -> int:
    if rest[0] == "force-stop":
        running().unlink(missing_ok=True)
        return 0
    component = rest[rest.index("-n") + 1]
    package = component.split("/")[0]
    print(f"Starting: Intent {{ cmp={component} (has extras) }}")
    if package not in told()["apps"]:
        print(f"Error type 3\nError: Activity class {{{component}}} does not exist.")
        return 1
    running().touch()
    subprocess.Popen([sys.executable, __file__, "activity", *rest], start_new_session=True, stdout=subprocess.DEVNULL)
    print("Status: ok\nLaunchState: COLD\nComplete")
    return 0


def activity(rest: list[str]) -> None:
    """BenchActivity, after ``am`` has returned: it measures with mobile_core, and writes its report whole."""
    extras = {rest[i + 1]: rest[i + 2] for i, word in enumerate(rest) if word in ("--es", "--ei")}
    behaves, files = told()["app"], local("/sdcard/Android/data/mfs.demo/files")
    time.sleep(0.3)
    if behaves == "dies":
        running().unlink()
        return
    if behaves == "is silent":
        return
    report = json.dumps({"error": behaves, "status": 3 if "cannot be loaded" in behaves else 4})
    if behaves == "measures":
        report = measured(files, extras)
    (files / "bench").mkdir(parents=True, exist_ok=True)
    part = files / "bench" / f"{extras['report']}.part"
    part.write_text(report, "utf-8")
    part.rename(files / "bench" / extras["report"])


def measured(files: Path, extras: dict[str, str]) -> str:
    from mfs_deploy import reference_file

    bundle, unpacked = files / "bundles" / extras["bundle"], files / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    reference_file.unpack(bundle / reference_file.NAME, unpacked)
    words = ["--bundle", str(bundle), "--reference", str(unpacked), "--backend", extras["backend"]]
    words += ["--dump", str(files / "bench" / extras["dump"])] if "dump" in extras else []
    for name in ("threads", "warmup", "runs", "sustained"):
        words += [f"--{name}", extras[name]]
    done = emulate(Path(told()["runner"]), words, capture_output=True)
    if done.returncode in (0, 7):
        return done.stdout
    return json.dumps({"error": done.stderr.split("\n")[0].removeprefix("error: "), "status": {5: 3}.get(done.returncode, 4)})


APPLETS = {
    **{"getprop": getprop, "mkdir": mkdir, "rm": rm, "chmod": chmod, "ls": ls, "pm": pm, "pidof": pidof, "pkill": pkill},
    **{"input": input_, "am": am},
}


def main(arguments: list[str]) -> int:
    if arguments[0] == "activity":
        activity(arguments[1:])
        return 0
    if arguments[0] == "devices":
        devices("-l" in arguments)
        return 0
    serial = None
    if arguments[0] == "-s":
        serial, arguments = arguments[1], arguments[2:]
    chosen(serial)
    count(arguments)
    verb, *rest = arguments
    if verb == "shell":
        return shell([word for word in rest if word != "-n"])
    assert PurePosixPath(rest[-1 if verb == "push" else 0]).is_absolute()
    {"push": push, "pull": pull}[verb](*rest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
