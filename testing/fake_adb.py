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
    am           what `am start` says: "" where all is well, and its exit code at `am_code`
    runner       a program for the phone's processor that the app measures with
    bytes        how much the phone holds
    lost_after   commands to a phone after which it is unplugged, in the middle of the next
    keeps        a word: `rm` refuses what has it in its path
    hangs        a word: a command with it never ends
    took         appended: every command to a phone, for tests to look at
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

STATE = Path(os.environ["FAKE_PHONES"])
WRITABLE = ("/data/local/tmp", "/sdcard")


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
            print("half of")  # what had come; adb says nothing, and ends with 0
            sys.exit(0)
        leave(1, f"adb: error: failed to copy '{command[-2]}' to '{command[-1]}': couldn't read from device")


def devices(long: bool) -> None:
    print("List of devices attached")
    for phone in told()["phones"]:
        more = f" usb:1-1 product:p model:{phone['model']} device:d transport_id:1" if long and phone["state"] == "device" else ""
        print(f"{phone['serial']}{'       ' if long else chr(9)}{phone['state']}{more}")
    print()


def chosen(serial: str) -> None:
    phones = told()["phones"]
    phone = next((p for p in phones if p["serial"] == serial), None)
    if phone is None:
        leave(1, f"adb: device '{serial}' not found")
    if phone["state"] == "unauthorized":
        leave(1, "adb: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set")
    if phone["state"] != "device":
        leave(1, f"adb: device {phone['state']}")


# ---- files


def push(source: str, target: str) -> None:
    """A file, which is all that is asked for.  Folders are not made, as some phones refuse it."""

    def refused(why: str) -> NoReturn:
        leave(1, f"adb: error: failed to copy '{source}' to '{target}': remote {why}")

    here, there = Path(source), local(target)
    if not here.is_file():
        leave(1, f"adb: error: cannot stat '{source}': No such file or directory")
    if not target.startswith("/data/local/tmp/"):
        refused("fchown failed: Operation not permitted")  # what Android 11 says of apps' folders
    if not there.parent.is_dir():
        refused("secure_mkdirs failed: Operation not permitted")
    if holds() + here.stat().st_size > told().get("bytes", 1 << 40):
        refused("write failed: No space left on device")
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
    """A simple command, and behind it one that tells its exit code; joined by the client, split by the phone's shell."""
    line = " ".join(words)
    ended = re.fullmatch(r"(.*); e=\$\?; echo; echo (\S+) \$e", line)
    code = simple(shlex.split(line if ended is None else ended[1]))
    sys.stdout.flush()
    if ended is None:
        return code
    print(f"\n{ended[2]} {code}")
    return 0


def simple(words: list[str]) -> int:
    name, *rest = words
    if "hangs" in told() and told()["hangs"] in words:
        time.sleep(3600)
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
    with emulate(path, rest) as process:
        pids = Path(told()["root"]).parent / "pids"
        pids.mkdir(exist_ok=True)
        (pids / str(process.pid)).write_text(f"{name} {' '.join(rest)}", "utf-8")
        code = process.wait()
        (pids / str(process.pid)).unlink()
    return code if code >= 0 else 128 - code


def emulate(path: Path, rest: list[str], **how: Any) -> subprocess.Popen[str]:
    state = told()
    command = [*state["program"], *(() if state.get("stand_in") else (str(path),))]
    words = [str(local(word)) if word.startswith(WRITABLE) else word for word in rest]
    return subprocess.Popen([*command, *words], env={**os.environ, **state.get("environment", {})}, text=True, **how)


def getprop(rest: list[str]) -> int:
    assert rest == []
    for name, value in told()["properties"].items():
        print(f"[{name}]: [{value}]")
    return 0


def mkdir(rest: list[str]) -> int:
    assert rest[0] == "-p"
    for path in rest[1:]:
        if not path.startswith(WRITABLE):
            print(f"mkdir: '{path}': Permission denied", file=sys.stderr)
            return 1
        local(path).mkdir(parents=True, exist_ok=True)
    return 0


def cp(rest: list[str]) -> int:
    """Within what apps can read, a folder that the shell made is none."""
    assert rest[0] == "-r"
    source, target = map(local, rest[1:])
    if holds() + sum(path.stat().st_size for path in source.rglob("*") if path.is_file()) > told().get("bytes", 1 << 40):
        print(f"cp: {rest[2]}: No space left on device", file=sys.stderr)
        return 1
    shutil.copytree(source, target)
    return 0


def rm(rest: list[str]) -> int:
    for word in (word for word in rest if word.startswith("/")):
        if "keeps" in told() and told()["keeps"] in word:
            print(f"rm: {word}: Permission denied", file=sys.stderr)
            return 1
        path = local(word)
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
    """By the whole command line, as toybox's with -f; one that finds the shell that asked would end that too."""
    assert rest[0] == "-f"
    assert re.search(rest[1], f"pkill -f {rest[1]}") is None
    found = 1
    for path in (Path(told()["root"]).parent / "pids").glob("*"):
        if re.search(rest[1], path.read_text("utf-8")):
            os.kill(int(path.name), signal.SIGTERM)
            found = 0
    return found


def am(rest: list[str]) -> int:
    if rest[0] == "force-stop":
        running().unlink(missing_ok=True)
        return 0
    component = rest[rest.index("-n") + 1]
    package = component.split("/")[0]
    print(f"Starting: Intent {{ cmp={component} (has extras) }}")
    if told().get("am"):
        print(told()["am"], file=sys.stderr)
        return told()["am_code"]
    if package not in told()["apps"]:
        print(f"Error type 3\nError: Activity class {{{component}}} does not exist.")
        return 1
    local("/sdcard/Android/data/mfs.demo/files").mkdir(parents=True, exist_ok=True)  # by the system, for the app
    if "bundle" not in rest:
        return 0
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
    from mfs_deploy.bundle import reference_file

    bundle, unpacked = files / "bundles" / extras["bundle"], files / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    reference_file.unpack(bundle / reference_file.NAME, unpacked)
    words = ["--bundle", str(bundle), "--reference", str(unpacked), "--backend", extras["backend"]]
    words += ["--dump", str(files / "bench" / extras["dump"])] if "dump" in extras else []
    for name in ("threads", "warmup", "runs", "sustained"):
        words += [f"--{name}", extras[name]]
    with emulate(Path(told()["runner"]), words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate()
    shutil.rmtree(unpacked)
    if process.returncode in (0, 7):
        return out
    return json.dumps({"error": err.split("\n")[0].removeprefix("error: "), "status": {5: 3}.get(process.returncode, 4)})


APPLETS = {
    **{"getprop": getprop, "mkdir": mkdir, "cp": cp, "rm": rm, "chmod": chmod, "ls": ls, "pm": pm, "am": am},
    **{"pidof": pidof, "pkill": pkill},
}


def main(arguments: list[str]) -> int:
    if arguments[0] == "activity":
        activity(arguments[1:])
        return 0
    if arguments[0] == "devices":
        devices("-l" in arguments)
        return 0
    option, serial, verb, *rest = arguments
    assert option == "-s"
    chosen(serial)
    count([verb, *rest])
    if verb == "shell":
        return shell([word for word in rest if word != "-n"])
    {"push": push, "pull": pull}[verb](*rest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
