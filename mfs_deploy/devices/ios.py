"""iPhones: measured by the demo app, since Core ML runs only in apps; files go through its Documents folder."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mfs_deploy.bundle import reference_file
from mfs_deploy.devices import devicectl, phone
from mfs_deploy.devices.choose import choose
from mfs_deploy.devices.devicectl import Container
from mfs_deploy.devices.phone import PhoneResult, Run
from mfs_deploy.errors import DeviceError

APP = "MfsDemo"  # its display name; its identifier is the developer's own
DOCUMENTS = PurePosixPath("Documents")
REPORTS = DOCUMENTS / "reports"


def stage(bundle: Path, copy: Path) -> None:
    """Copy a bundle for the app, with reference.npz also unpacked: the app reads no archives.

    Raises:
        BundleError: the reference tensors cannot be read.
    """
    shutil.copytree(bundle, copy, symlinks=True)  # every file: mobile_core checks all that the manifest names
    if (bundle / reference_file.NAME).is_file():
        (copy / "reference").mkdir()
        reference_file.unpack(bundle / reference_file.NAME, copy / "reference")


class App:
    """Measures with the demo app.  The app also deletes the copy: devicectl cannot."""

    way = "app"
    runs = ("coreml",)

    def __init__(self, serial: str | None) -> None:
        """Find a phone with the app.

        Raises:
            DeviceError: no devicectl, no phone, several, one that refuses or is too old, or one without the app.
        """
        found = choose(devicectl.listed(), serial, devicectl.PLUG_IN)
        self.name = f"{found.name}, iOS {found.system}"
        app = devicectl.apps(found.serial).get(APP)
        if app is None:
            raise DeviceError(f"the app {APP} is not on {self.name}", hint="install ios_demo from Xcode", kind="device-app")
        self._container = Container(found.serial, app)

    @contextlib.contextmanager
    def push(self, bundle: Path) -> Iterator[PushedForApp]:
        name = f"mfs-{secrets.token_hex(6)}"
        with phone.clearing(lambda: self._clear(name)):
            with tempfile.TemporaryDirectory(prefix=".mfs-") as scratch:
                staged = Path(scratch, name)
                stage(bundle, staged)
                self._container.push(staged, DOCUMENTS / name)
            yield PushedForApp(self._container, name, bundle)

    def _clear(self, name: str) -> str:
        """Have the app delete the copy.  Returns a hint where that failed, else ""."""
        try:
            self._container.start("--forget", name, timeout_s=devicectl.ANSWER_S)
        except DeviceError:
            return (
                f"what was copied may still be on the phone and holds a face: delete {name} in the Files app, On My iPhone, {APP}"
            )
        return ""


@dataclass(frozen=True)
class PushedForApp:
    container: Container
    name: str  # of the bundle on the phone, the report and the folder with outputs
    bundle: Path

    def measure(self, run: Run) -> PhoneResult:
        report = f"{self.name}.json"
        arguments = ["--bench", self.name, "--report", report, "--warmup", str(run.warmup), "--runs", str(run.runs)]
        arguments += ["--sustained", str(run.sustained), *(("--dump", self.name) if run.dump else ())]
        ended: DeviceError | None = None
        try:
            self.container.start(*arguments, timeout_s=run.timeout_s)
        except DeviceError as exc:  # also raised where the app ends with an exit code; then its report tells more
            ended = exc
        with tempfile.TemporaryDirectory(prefix=".mfs-") as scratch:
            local = Path(scratch, report)
            try:
                self.container.pull(REPORTS / report, local)
            except DeviceError as exc:
                raise ended or exc from exc
            text = local.read_text("utf-8", errors="replace")
            if (error := phone.app_error(text)) is not None:
                raise DeviceError(f"coreml: {error.words}", kind="device-app")
            found = phone.check(text, run, self.bundle)
            if not run.dump:
                return PhoneResult(found, {})
            for name in phone.output_names(self.bundle):
                self.container.pull(REPORTS / self.name / f"{name}.npy", Path(scratch, f"{name}.npy"))
            return PhoneResult(found, phone.read_outputs(Path(scratch), self.bundle))
