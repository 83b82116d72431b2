"""Android phones: measured by ``mfs-bench-device``, pushed to where adb may run programs, or by the demo app's BenchActivity."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import struct
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mfs_deploy import reference_file
from mfs_deploy.devices import adb, phone
from mfs_deploy.devices.adb import Adb
from mfs_deploy.devices.choose import choose
from mfs_deploy.devices.phone import Measured, Refused, Run
from mfs_deploy.devices.tool import Finished
from mfs_deploy.errors import BundleError, DeviceError, UsageError

OLDEST, OLDEST_NAME = 28, "Android 9"  # android_demo's minSdk, and the oldest that mobile_core is built for
ABI = "arm64-v8a"
TEMPORARY = PurePosixPath("/data/local/tmp")
RUNNER = "mfs-bench-device"
LITERT = "libLiteRt.so"

APP = "mfs.demo"
FILES = PurePosixPath(f"/sdcard/Android/data/{APP}/files")
POLL_S = 1.0

# Exit codes of mfs-bench-device, which are this package's, and of the phone's shell.
UNSUPPORTED, PARITY, BUNDLE, CANNOT_RUN = 5, 7, 8, (126, 127)
MFS_ERROR_UNSUPPORTED = 3  # of mobile_core, as the app reports it


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
    release, level, abis, maker, model = (
        link.call("getprop", name)
        for name in (
            "ro.build.version.release",
            "ro.build.version.sdk",
            "ro.product.cpu.abilist",
            "ro.product.manufacturer",
            "ro.product.model",
        )
    )
    if not level.isdecimal() or int(level) < OLDEST:
        raise DeviceError(
            f"the phone has Android {release} (API {level}); {OLDEST_NAME} (API {OLDEST}) or newer is needed", kind="device-old"
        )
    if ABI not in abis.split(","):
        raise DeviceError(f"the phone's processor takes {abis or 'nothing known'}; {ABI} is needed", kind="device-old")
    return Found(link, f"{maker} {model}, Android {release}".strip())


def check_runner(path: Path) -> None:
    """That a file is a program for 64-bit ARM that a phone can start.

    Raises:
        UsageError: it is not; says what it is.
    """
    hint = "build it as mobile_core/README.md says: -DMFS_STATIC=ON for aarch64, or by the NDK"
    try:
        with open(path, "rb") as f:
            head = f.read(1 << 16)
    except OSError as exc:
        raise UsageError(f"--runner {path}: {exc.strerror}", hint=hint) from exc
    try:
        magic, wide, (machine,) = head[:4], head[4], struct.unpack_from("<H", head, 18)
        if magic != b"\x7fELF" or wide != 2 or machine != 183:
            raise UsageError(f"--runner {path} is not a program for 64-bit ARM", hint=hint)
        (table,), (size, count) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<HH", head, 54)
        for i in range(count):
            (kind,), (at,), (length,) = (
                struct.unpack_from(form, head, table + i * size + offset) for form, offset in (("<I", 0), ("<Q", 8), ("<Q", 32))
            )
            loader = head[at : at + length].rstrip(b"\0").decode("utf-8", "replace")
            if kind == 3 and loader != "/system/bin/linker64":  # PT_INTERP
                raise UsageError(f"--runner {path} asks for {loader}, which phones do not have", hint=hint)
    except (struct.error, IndexError, OverflowError) as exc:
        raise UsageError(f"--runner {path} is not a program for 64-bit ARM", hint=hint) from exc


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
        try:
            self._adb.call("mkdir", str(root))
            self._adb.push(self._runner, root / RUNNER)
            self._adb.call("chmod", "755", str(root / RUNNER))
            if self._litert is not None:
                self._adb.push(self._litert, root / LITERT)
            self._adb.push(bundle, root / "bundle")
            with tempfile.TemporaryDirectory(prefix=".mfs-") as scratch:
                reference = Path(scratch, "reference")
                reference.mkdir()
                reference_file.unpack(bundle / reference_file.NAME, reference)
                self._adb.push(reference, root / "reference")
            yield PlacedForRunner(self._adb, root, bundle, has_litert=self._litert is not None)
        finally:
            with contextlib.suppress(DeviceError):  # the phone may be gone
                self._adb.shell("pkill", RUNNER[:15])  # after Ctrl-C it would go on
                self._adb.shell("rm", "-rf", str(root))


@dataclass(frozen=True)
class PlacedForRunner:
    adb: Adb
    root: PurePosixPath
    bundle: Path
    has_litert: bool

    def measure(self, run: Run) -> Measured:
        words = [str(self.root / RUNNER), "--bundle", str(self.root / "bundle"), "--backend", run.backend]
        words += ["--reference", str(self.root / "reference"), "--threads", str(run.threads), "--warmup", str(run.warmup)]
        words += ["--runs", str(run.runs), "--sustained", str(run.sustained)]
        words += ["--litert", str(self.root / LITERT)] if self.has_litert else []
        words += ["--dump", str(self.root / "out")] if run.dump else []
        done = self.adb.shell(*words, timeout_s=run.patience_s)
        if done.code not in (0, PARITY):
            raise self._failure(run, done)
        report = phone.check(done.out, run, self.bundle)
        if not run.dump:
            return Measured(report, {})
        with tempfile.TemporaryDirectory(prefix=".mfs-") as scratch:
            self.adb.pull(self.root / "out", Path(scratch, "out"))
            self.adb.call("rm", "-rf", str(self.root / "out"))
            return Measured(report, phone.read_outputs(Path(scratch, "out"), self.bundle))

    def _failure(self, run: Run, done: Finished) -> DeviceError | BundleError:
        said = done.err.split("\n")[0].removeprefix("error: ") if done.err.startswith("error: ") else done.last_words
        if done.code == UNSUPPORTED:
            return Refused(f"{run.backend}: {said}")
        if done.code == BUNDLE:
            return BundleError(f"on the phone: {said}")
        if done.code in CANNOT_RUN:
            return DeviceError(f"the phone cannot start {RUNNER}: {said}")
        if done.code > 128 and self.adb.is_there():
            return DeviceError(f"{RUNNER} was ended on the phone by signal {done.code - 128}", hint="adb logcat says more")
        return self.adb.failure(f"measuring {run.backend}", done)


class App:
    """By the demo app: as apps run it, and with what is inside the app."""

    way = "app"
    runs = ("ncnn", "tflite")

    def __init__(self, found: Found) -> None:
        self.name, self._adb = found.name, found.adb
        if found.adb.shell("pm", "path", APP).code != 0:
            if not found.adb.is_there():
                raise found.adb.failure("looking for the app", Finished(1, "", ""))
            raise DeviceError(
                f"the app {APP} is not on {found.name}",
                hint="install android_demo, or give --runner mfs-bench-device (mobile_core/README.md)",
                kind="device-app",
            )

    @contextlib.contextmanager
    def place(self, bundle: Path) -> Iterator[PlacedForApp]:
        name = f"mfs-{secrets.token_hex(6)}"
        try:
            self._adb.call("mkdir", "-p", str(FILES / "bundles"))
            self._adb.push(bundle, FILES / "bundles" / name)
            self._adb.shell("input", "keyevent", "KEYCODE_WAKEUP")  # a dark screen's app is slowed down
            yield PlacedForApp(self._adb, name, bundle)
        finally:
            with contextlib.suppress(DeviceError):
                self._adb.shell("am", "force-stop", APP)
                for place in (FILES / "bundles" / name, FILES / "bench" / name, FILES / "bench" / f"{name}.json"):
                    self._adb.shell("rm", "-rf", str(place))


@dataclass(frozen=True)
class PlacedForApp:
    adb: Adb
    name: str  # of the bundle on the phone, of the report and of the folder with outputs
    bundle: Path

    def measure(self, run: Run) -> Measured:
        report, dumped = FILES / "bench" / f"{self.name}.json", FILES / "bench" / self.name
        self.adb.call("rm", "-f", str(report))
        words = [
            "am",
            "start",
            "-S",
            "-W",
            "-n",
            f"{APP}/.BenchActivity",
            "--es",
            "bundle",
            self.name,
            "--es",
            "backend",
            run.backend,
        ]
        words += ["--es", "report", report.name, *(("--es", "dump", self.name) if run.dump else ())]
        for key in ("threads", "warmup", "runs", "sustained"):
            words += ["--ei", key, str(getattr(run, key))]
        started = self.adb.call(*words)
        if "Error" in started:
            last = started.splitlines()[-1].strip()
            raise DeviceError(f"the app cannot be started: {last}", hint="install android_demo again", kind="device-app")
        self._wait(report, run.patience_s)
        with tempfile.TemporaryDirectory(prefix=".mfs-") as scratch:
            local = Path(scratch, "report.json")
            self.adb.pull(report, local)
            text = local.read_text("utf-8", errors="replace")
            self._raise_error(text, run)
            found = phone.check(text, run, self.bundle)
            if not run.dump:
                return Measured(found, {})
            self.adb.pull(dumped, Path(scratch, "out"))
            self.adb.call("rm", "-rf", str(dumped))
            return Measured(found, phone.read_outputs(Path(scratch, "out"), self.bundle))

    def _wait(self, report: PurePosixPath, patience_s: float) -> None:
        """Until the report is there: the app writes it whole, whatever happens, unless it dies."""
        end = time.monotonic() + patience_s
        while self.adb.shell("ls", str(report)).code != 0:
            if self.adb.shell("pidof", APP).code != 0 and self.adb.shell("ls", str(report)).code != 0:
                if not self.adb.is_there():
                    raise self.adb.failure("measuring", Finished(1, "", ""))
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

    def _raise_error(self, text: str, run: Run) -> None:
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            return  # phone.check says what is wrong
        if not isinstance(said, dict) or "error" not in said:
            return
        words = f"{run.backend}: {str(said['error'])[:300]}"
        raise Refused(words) if said.get("status") == MFS_ERROR_UNSUPPORTED else DeviceError(words, kind="device-app")
