"""Android phones: measured by ``mfs-bench-device``, which adb pushes and runs, or by the demo app's BenchActivity."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.bundle import manifest, reference_file
from mfs_deploy.devices import adb, phone, run_tool
from mfs_deploy.devices.adb import Adb
from mfs_deploy.devices.choose import choose
from mfs_deploy.devices.phone import NoRuntime, PhoneResult, Run
from mfs_deploy.devices.run_tool import Finished
from mfs_deploy.errors import BundleError, DeviceError, UsageError

OLDEST, OLDEST_NAME = 28, "Android 9"  # android_demo's minSdk, and the oldest that mobile_core is built for
ABI = "arm64-v8a"
TEMPORARY = PurePosixPath("/data/local/tmp")
RUNNER = "mfs-bench-device"
LITERT = "libLiteRt.so"

APP = "mfs.demo"
FILES = PurePosixPath(f"/sdcard/Android/data/{APP}/files")
POLL_S = 1.0
FIRST_START_S = 20.0  # for the app's first start

# Exit codes: of mfs-bench-device (this package's), of the phone's shell, and of a program ended by a signal.
UNSUPPORTED, PARITY, BUNDLE, CANNOT_RUN, SIGNALS = 5, 7, 8, (126, 127), range(129, 193)
MFS_ERROR_UNSUPPORTED = 3  # of mobile_core, as the app reports it

PROPERTIES = (
    "ro.build.version.release",
    "ro.build.version.sdk",
    "ro.product.cpu.abilist",
    "ro.product.manufacturer",
    "ro.product.model",
)


@dataclass(frozen=True)
class Found:
    """A phone that answers, is new enough, and has a supported processor."""

    adb: Adb
    name: str


def connect(serial: str | None) -> Found:
    """Find a phone.

    Args:
        serial: None takes adb's own choice, ANDROID_SERIAL, or else the only phone.

    Raises:
        DeviceError: no adb, no phone, several, one that refuses, or one that is too old.
    """
    program = adb.program()
    serial = serial or os.environ.get("ANDROID_SERIAL") or None
    link = Adb(program, choose(adb.listed(program), serial, adb.PLUG_IN).serial)
    properties = dict(re.findall(r"^\[(.*?)\]: \[(.*)\]$", link.call("getprop"), re.MULTILINE))
    release, level, abis, maker, model = (properties.get(name, "") for name in PROPERTIES)
    if not level.isdecimal() or int(level) < OLDEST:
        raise DeviceError(
            f"the phone has Android {release} (API {level}); {OLDEST_NAME} (API {OLDEST}) or newer is needed",
            hint="use a newer phone",
            kind="device-old",
        )
    if ABI not in abis.split(","):
        raise DeviceError(
            f"the phone's processor takes {abis or 'nothing known'}; {ABI} is needed", hint="use another phone", kind="device-old"
        )
    return Found(link, f"{maker} {model}, Android {release}".strip())


def check_runner(path: Path) -> None:
    """Check that a file is a program for 64-bit ARM that a phone can start.

    Raises:
        UsageError: it is not; the message tells what it is.
    """
    hint = "build it as mobile_core/README.md says: -DMFS_STATIC=ON for aarch64, or by the NDK"
    kind, loader = _elf(path, "--runner", hint)
    if kind == LIBRARY and not loader:
        raise UsageError(f"--runner {path} is a library", hint=hint)
    if loader not in ("", "/system/bin/linker64"):
        raise UsageError(f"--runner {path} asks for {loader}, which phones do not have", hint=hint)


def check_litert(path: Path) -> None:
    """Check that a file is a library for 64-bit ARM.  Raises UsageError."""
    hint = "take it from LiteRT's package for Android, arm64-v8a"
    kind, _ = _elf(path, "--litert", hint)
    if kind != LIBRARY:
        raise UsageError(f"--litert {path} is not a library", hint=hint)


LIBRARY = 3  # ET_DYN: a library, or a position-independent program, which has a loader


def _elf(path: Path, option: str, hint: str) -> tuple[int, str]:
    """The type of an ELF file for 64-bit ARM, and its loader's path or "" (System V ABI, chapters 4 and 5)."""
    try:
        with open(path, "rb") as f:
            head = f.read(1 << 16)
    except OSError as exc:
        raise UsageError(f"{option} {path}: {exc.strerror}", hint=hint) from exc
    try:
        if head[:4] != b"\x7fELF" or head[4] != 2:
            raise ValueError("no ELF file of 64 bits")
        kind, machine = struct.unpack_from("<HH", head, 16)
        if machine != 183:
            raise ValueError("another processor's")
        (table,), (size, count) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<HH", head, 54)
        for at in range(table, table + size * count, size or 1):
            (segment,) = struct.unpack_from("<I", head, at)
            if segment == 3:  # PT_INTERP
                (start,), (length,) = struct.unpack_from("<Q", head, at + 8), struct.unpack_from("<Q", head, at + 32)
                return kind, head[start : start + length].rstrip(b"\0").decode("utf-8", "replace")
    except (struct.error, ValueError, IndexError, OverflowError) as exc:
        raise UsageError(f"{option} {path} is not for 64-bit ARM", hint=hint) from exc
    return kind, ""


def clear(link: Adb, places: Sequence[PurePosixPath], *stop: str) -> str:
    """Run the command ``stop`` and delete ``places``.  Returns a hint where something is left, else ""."""
    try:
        link.shell(*stop)
        if link.shell("rm", "-rf", *map(str, places)).code == 0:
            return ""
    except DeviceError:
        pass  # the phone is gone
    return f"what was copied is still on the phone, in {places[0]}, and holds a face: delete it there"


def contents(bundle: Path, target: PurePosixPath) -> dict[PurePosixPath, Path]:
    """The files of a bundle, by their paths below ``target``."""
    return {target / name: bundle / name for name in (manifest.NAME, *manifest.read(bundle)["files"])}


class Runner:
    """Measures with ``mfs-bench-device``: needs no app, leaves nothing behind."""

    way = RUNNER

    def __init__(self, found: Found, runner: Path, litert: Path | None) -> None:
        self.name, self._adb, self._runner, self._litert = found.name, found.adb, runner, litert

    @property
    def runs(self) -> tuple[str, ...]:
        return ("ncnn",) if self._litert is None else ("ncnn", "tflite")

    @contextlib.contextmanager
    def push(self, bundle: Path) -> Iterator[PushedForRunner]:
        root = TEMPORARY / f"mfs-{secrets.token_hex(6)}"
        # After Ctrl-C the program would keep running.  The brackets keep pkill from matching its own shell.
        stop = ("pkill", "-f", f"{root.name}/[m]{RUNNER[1:]}")
        with phone.clearing(lambda: clear(self._adb, (root,), *stop)):
            with tempfile.TemporaryDirectory(prefix=".mfs-") as scratch:
                reference_file.unpack(bundle / reference_file.NAME, Path(scratch))
                files = {root / RUNNER: self._runner, **contents(bundle, root / "bundle")}
                files |= {root / "reference" / array.name: array for array in sorted(Path(scratch).iterdir())}
                files |= {} if self._litert is None else {root / LITERT: self._litert}
                self._adb.push(files)
            self._adb.call("chmod", "755", str(root / RUNNER))
            yield PushedForRunner(self._adb, root, bundle, has_litert=self._litert is not None)


@dataclass(frozen=True)
class PushedForRunner:
    adb: Adb
    root: PurePosixPath
    bundle: Path
    has_litert: bool

    def measure(self, run: Run) -> PhoneResult:
        out = self.root / "out"
        words = [str(self.root / RUNNER), "--bundle", str(self.root / "bundle"), "--backend", run.backend]
        words += ["--reference", str(self.root / "reference"), "--threads", str(run.threads), "--warmup", str(run.warmup)]
        words += ["--runs", str(run.runs), "--sustained", str(run.sustained)]
        words += ["--litert", str(self.root / LITERT)] if self.has_litert else []
        words += ["--dump", str(out)] if run.dump else []
        done = self.adb.shell(*words, timeout_s=run.timeout_s)
        if done.code not in (0, PARITY):
            raise self._failure(run, done)
        report = phone.check(done.out, run, self.bundle)
        return PhoneResult(report, fetch(self.adb, out, self.bundle) if run.dump else {})

    def _failure(self, run: Run, done: Finished) -> DeviceError | BundleError:
        message = next(
            (line.removeprefix("error: ") for line in done.err.splitlines() if line.startswith("error: ")), done.last_words
        )
        words = run_tool.one_line(message)
        if done.code == UNSUPPORTED:
            return NoRuntime(f"{run.backend}: {words}")
        if done.code == BUNDLE:
            return BundleError(f"on the phone: {words}")
        if done.code in CANNOT_RUN:
            return DeviceError(f"the phone cannot start {RUNNER}: {words}")
        if done.code in SIGNALS:
            return DeviceError(f"{RUNNER} was ended on the phone by signal {done.code - 128}", hint="adb logcat says more")
        return DeviceError(f"{RUNNER} failed on the phone with {run.backend}: {words}")


class App:
    """Measures with the demo app and the runtimes inside it."""

    way = "app"
    runs = ("ncnn", "tflite")

    def __init__(self, found: Found) -> None:
        self.name, self._adb = found.name, found.adb
        if found.adb.shell("pm", "path", APP).code != 0:
            raise DeviceError(
                f"the app {APP} is not on {found.name}",
                hint="install android_demo, or give --runner mfs-bench-device (mobile_core/README.md)",
                kind="device-app",
            )

    @contextlib.contextmanager
    def push(self, bundle: Path) -> Iterator[PushedForApp]:
        """Push to a temporary folder and copy from there: on some phones adb cannot write into an app's folder."""
        name = f"mfs-{secrets.token_hex(6)}"
        copied, inside, report = TEMPORARY / name, FILES / "bundles" / name, FILES / "bench" / name
        places = (inside, copied, report, report.with_suffix(".json"))
        with phone.clearing(lambda: clear(self._adb, places, "am", "force-stop", APP)):
            self._make_folder()
            self._adb.push(contents(bundle, copied))
            self._adb.call("mkdir", "-p", str(inside.parent))
            self._adb.call("cp", "-r", str(copied), str(inside))
            self._adb.call("rm", "-rf", str(copied))
            yield PushedForApp(self._adb, name, bundle)

    def _make_folder(self) -> None:
        """Start the app until it has made its folder: it cannot read a folder that the shell made."""
        end = time.monotonic() + FIRST_START_S
        while self._adb.shell("ls", str(FILES)).code != 0:
            if time.monotonic() > end:
                raise DeviceError(
                    f"the app has not made its folder {FILES}", hint="open the app once on the phone", kind="device-app"
                )
            start(self._adb)
            time.sleep(POLL_S)


def start(link: Adb, *extras: str) -> None:
    """Start BenchActivity and stop a running one.  Raises DeviceError where Android refuses."""
    done = link.shell("am", "start", "-S", "-W", "-n", f"{APP}/.BenchActivity", *extras)
    wrong = [line for line in (done.out + "\n" + done.err).splitlines() if "Error" in line or "Exception" in line]
    if wrong or done.code != 0:
        words = run_tool.one_line(wrong[-1] if wrong else done.last_words)
        raise DeviceError(f"the app cannot be started: {words}", hint="install android_demo again", kind="device-app")


@dataclass(frozen=True)
class PushedForApp:
    adb: Adb
    name: str  # of the bundle on the phone, the report and the folder with outputs
    bundle: Path

    def measure(self, run: Run) -> PhoneResult:
        report, out = FILES / "bench" / f"{self.name}.json", FILES / "bench" / self.name
        self.adb.call("rm", "-f", str(report))
        extras = ["--es", "bundle", self.name, "--es", "backend", run.backend, "--es", "report", report.name]
        extras += ["--es", "dump", self.name] if run.dump else []
        for key in ("threads", "warmup", "runs", "sustained"):
            extras += ["--ei", key, str(getattr(run, key))]
        start(self.adb, *extras)
        self._wait(report, run.timeout_s)
        with tempfile.TemporaryDirectory(prefix=".mfs-") as scratch:
            local = Path(scratch, "report.json")
            self.adb.pull(report, local)
            text = local.read_text("utf-8", errors="replace")
        error = phone.app_error(text)
        if error is not None:
            words = f"{run.backend}: {error.words}"
            raise NoRuntime(words) if error.status == MFS_ERROR_UNSUPPORTED else DeviceError(words, kind="device-app")
        found = phone.check(text, run, self.bundle)
        return PhoneResult(found, fetch(self.adb, out, self.bundle) if run.dump else {})

    def _wait(self, report: PurePosixPath, timeout_s: float) -> None:
        """Wait for the report.  The app writes it whole in any case, unless it crashes."""
        end = time.monotonic() + timeout_s
        while self.adb.shell("ls", str(report)).code != 0:
            if self.adb.shell("pidof", APP).code != 0 and self.adb.shell("ls", str(report)).code != 0:
                raise DeviceError(
                    "the app stopped before its report was written",
                    hint="adb logcat -s mfs-bench AndroidRuntime",
                    kind="device-app",
                )
            if time.monotonic() > end:
                raise DeviceError(
                    f"the app has written no report for {timeout_s:.0f} s",
                    hint="unlock the phone and leave the app in front",
                    kind="device-silent",
                )
            time.sleep(POLL_S)


def fetch(link: Adb, folder: PurePosixPath, bundle: Path) -> dict[str, NDArray[np.float32]]:
    """Fetch the outputs and delete them on the phone."""
    with tempfile.TemporaryDirectory(prefix=".mfs-") as scratch:
        for name in phone.output_names(bundle):
            link.pull(folder / f"{name}.npy", Path(scratch, f"{name}.npy"))
        link.call("rm", "-rf", str(folder))
        return phone.read_outputs(Path(scratch), bundle)
