"""Android phones: measured by ``mfs-bench-device``, pushed to where adb may run programs, or by the demo app's BenchActivity."""

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
from mfs_deploy.devices.phone import Measured, Refused, Run
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
FIRST_S = 20.0  # that the app's first start may take

# Exit codes of mfs-bench-device, which are this package's; of the phone's shell; and of a program that a signal ended.
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
    """A phone that has answered, is new enough, and has the right processor."""

    adb: Adb
    name: str


def connect(serial: str | None) -> Found:
    """
    Args:
        serial: None takes adb's own choice, ANDROID_SERIAL, or else the only phone there is.

    Raises:
        DeviceError: no adb, no phone, several, one that refuses, or one that is too old.
    """
    program = adb.program()
    serial = serial or os.environ.get("ANDROID_SERIAL") or None
    link = Adb(program, choose(adb.listed(program), serial, adb.PLUG_IN).serial)
    said = dict(re.findall(r"^\[(.*?)\]: \[(.*)\]$", link.call("getprop"), re.MULTILINE))
    release, level, abis, maker, model = (said.get(name, "") for name in PROPERTIES)
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
    """That a file is a program for 64-bit ARM that a phone can start.

    Raises:
        UsageError: it is not; says what it is.
    """
    hint = "build it as mobile_core/README.md says: -DMFS_STATIC=ON for aarch64, or by the NDK"
    kind, loader = _elf(path, "--runner", hint)
    if kind == LIBRARY and not loader:
        raise UsageError(f"--runner {path} is a library", hint=hint)
    if loader not in ("", "/system/bin/linker64"):
        raise UsageError(f"--runner {path} asks for {loader}, which phones do not have", hint=hint)


def check_litert(path: Path) -> None:
    """That a file is a library for 64-bit ARM.  Raises UsageError."""
    hint = "take it from LiteRT's package for Android, arm64-v8a"
    kind, _ = _elf(path, "--litert", hint)
    if kind != LIBRARY:
        raise UsageError(f"--litert {path} is no library", hint=hint)


LIBRARY = 3  # ET_DYN, which programs that may lie anywhere in memory are too, with a loader


def _elf(path: Path, option: str, hint: str) -> tuple[int, str]:
    """The kind of an ELF file for 64-bit ARM, and the loader that it asks for or "" (System V ABI, chapters 4 and 5)."""
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
    """Stop what measures by the command ``stop`` and delete the places.  What is left, and where, or ""."""
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
    """By ``mfs-bench-device``: needs no app, leaves nothing behind."""

    way = RUNNER

    def __init__(self, found: Found, runner: Path, litert: Path | None) -> None:
        self.name, self._adb, self._runner, self._litert = found.name, found.adb, runner, litert

    @property
    def runs(self) -> tuple[str, ...]:
        return ("ncnn",) if self._litert is None else ("ncnn", "tflite")

    @contextlib.contextmanager
    def place(self, bundle: Path) -> Iterator[PlacedForRunner]:
        root = TEMPORARY / f"mfs-{secrets.token_hex(6)}"
        # After Ctrl-C the program would go on.  The brackets keep the pattern from finding the shell that asks.
        stop = ("pkill", "-f", f"{root.name}/[m]{RUNNER[1:]}")
        with phone.clearing(lambda: clear(self._adb, (root,), *stop)):
            with tempfile.TemporaryDirectory(prefix=".mfs-") as scratch:
                reference_file.unpack(bundle / reference_file.NAME, Path(scratch))
                files = {root / RUNNER: self._runner, **contents(bundle, root / "bundle")}
                files |= {root / "reference" / array.name: array for array in sorted(Path(scratch).iterdir())}
                files |= {} if self._litert is None else {root / LITERT: self._litert}
                self._adb.push(files)
            self._adb.call("chmod", "755", str(root / RUNNER))
            yield PlacedForRunner(self._adb, root, bundle, has_litert=self._litert is not None)


@dataclass(frozen=True)
class PlacedForRunner:
    adb: Adb
    root: PurePosixPath
    bundle: Path
    has_litert: bool

    def measure(self, run: Run) -> Measured:
        out = self.root / "out"
        words = [str(self.root / RUNNER), "--bundle", str(self.root / "bundle"), "--backend", run.backend]
        words += ["--reference", str(self.root / "reference"), "--threads", str(run.threads), "--warmup", str(run.warmup)]
        words += ["--runs", str(run.runs), "--sustained", str(run.sustained)]
        words += ["--litert", str(self.root / LITERT)] if self.has_litert else []
        words += ["--dump", str(out)] if run.dump else []
        done = self.adb.shell(*words, timeout_s=run.patience_s)
        if done.code not in (0, PARITY):
            raise self._failure(run, done)
        report = phone.check(done.out, run, self.bundle)
        return Measured(report, fetch(self.adb, out, self.bundle) if run.dump else {})

    def _failure(self, run: Run, done: Finished) -> DeviceError | BundleError:
        said = next((line.removeprefix("error: ") for line in done.err.splitlines() if line.startswith("error: ")), done.last_words)
        words = run_tool.one_line(said)
        if done.code == UNSUPPORTED:
            return Refused(f"{run.backend}: {words}")
        if done.code == BUNDLE:
            return BundleError(f"on the phone: {words}")
        if done.code in CANNOT_RUN:
            return DeviceError(f"the phone cannot start {RUNNER}: {words}")
        if done.code in SIGNALS:
            return DeviceError(f"{RUNNER} was ended on the phone by signal {done.code - 128}", hint="adb logcat says more")
        return DeviceError(f"{RUNNER} failed on the phone with {run.backend}: {words}")


class App:
    """By the demo app: as apps run it, and with what is inside the app."""

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
    def place(self, bundle: Path) -> Iterator[PlacedForApp]:
        """adb's own writing into an app's folder fails on some phones, so the phone copies from where it never does."""
        name = f"mfs-{secrets.token_hex(6)}"
        copied, inside, report = TEMPORARY / name, FILES / "bundles" / name, FILES / "bench" / name
        places = (inside, copied, report, report.with_suffix(".json"))
        with phone.clearing(lambda: clear(self._adb, places, "am", "force-stop", APP)):
            self._make_folder()
            self._adb.push(contents(bundle, copied))
            self._adb.call("mkdir", "-p", str(inside.parent))
            self._adb.call("cp", "-r", str(copied), str(inside))
            self._adb.call("rm", "-rf", str(copied))
            yield PlacedForApp(self._adb, name, bundle)

    def _make_folder(self) -> None:
        """By starting the app: in a folder that the shell made, the app could not read."""
        end = time.monotonic() + FIRST_S
        while self._adb.shell("ls", str(FILES)).code != 0:
            if time.monotonic() > end:
                raise DeviceError(
                    f"the app has not made its folder {FILES}", hint="open the app once on the phone", kind="device-app"
                )
            start(self._adb)
            time.sleep(POLL_S)


def start(link: Adb, *extras: str) -> None:
    """Start BenchActivity, in place of one that runs.  Raises DeviceError where Android refuses."""
    done = link.shell("am", "start", "-S", "-W", "-n", f"{APP}/.BenchActivity", *extras)
    wrong = [line for line in (done.out + "\n" + done.err).splitlines() if "Error" in line or "Exception" in line]
    if wrong or done.code != 0:
        words = run_tool.one_line(wrong[-1] if wrong else done.last_words)
        raise DeviceError(f"the app cannot be started: {words}", hint="install android_demo again", kind="device-app")


@dataclass(frozen=True)
class PlacedForApp:
    adb: Adb
    name: str  # of the bundle on the phone, of the report and of the folder with outputs
    bundle: Path

    def measure(self, run: Run) -> Measured:
        report, out = FILES / "bench" / f"{self.name}.json", FILES / "bench" / self.name
        self.adb.call("rm", "-f", str(report))
        extras = ["--es", "bundle", self.name, "--es", "backend", run.backend, "--es", "report", report.name]
        extras += ["--es", "dump", self.name] if run.dump else []
        for key in ("threads", "warmup", "runs", "sustained"):
            extras += ["--ei", key, str(getattr(run, key))]
        start(self.adb, *extras)
        self._wait(report, run.patience_s)
        with tempfile.TemporaryDirectory(prefix=".mfs-") as scratch:
            local = Path(scratch, "report.json")
            self.adb.pull(report, local)
            text = local.read_text("utf-8", errors="replace")
        said = phone.error(text)
        if said is not None:
            words = f"{run.backend}: {said.words}"
            raise Refused(words) if said.status == MFS_ERROR_UNSUPPORTED else DeviceError(words, kind="device-app")
        found = phone.check(text, run, self.bundle)
        return Measured(found, fetch(self.adb, out, self.bundle) if run.dump else {})

    def _wait(self, report: PurePosixPath, patience_s: float) -> None:
        """Until the report is there: the app writes it whole, whatever happens, unless it dies."""
        end = time.monotonic() + patience_s
        while self.adb.shell("ls", str(report)).code != 0:
            if self.adb.shell("pidof", APP).code != 0 and self.adb.shell("ls", str(report)).code != 0:
                raise DeviceError(
                    "the app stopped before its report was written",
                    hint="adb logcat -s mfs-bench AndroidRuntime",
                    kind="device-app",
                )
            if time.monotonic() > end:
                raise DeviceError(
                    f"the app has written no report for {patience_s:.0f} s",
                    hint="unlock the phone and leave the app in front",
                    kind="device-silent",
                )
            time.sleep(POLL_S)


def fetch(link: Adb, folder: PurePosixPath, bundle: Path) -> dict[str, NDArray[np.float32]]:
    """Outputs that were written on a phone, which are deleted there."""
    with tempfile.TemporaryDirectory(prefix=".mfs-") as scratch:
        for name in phone.output_names(bundle):
            link.pull(folder / f"{name}.npy", Path(scratch, f"{name}.npy"))
        link.call("rm", "-rf", str(folder))
        return phone.read_outputs(Path(scratch), bundle)
