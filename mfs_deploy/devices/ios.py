"""iPhones: measured by the demo app, which Core ML needs; files go through the app's own Documents folder."""

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
from mfs_deploy.devices.phone import Measured, Run
from mfs_deploy.errors import DeviceError

APP = "MfsDemo"  # the name it shows; its identifier is the developer's own
DOCUMENTS = PurePosixPath("Documents")
REPORTS = DOCUMENTS / "reports"


def stage(bundle: Path, copy: Path) -> None:
    """Copy a bundle as the app takes it: reference.npz, where there is one, also unpacked, since the app reads no archives.

    Raises:
        BundleError: the reference tensors cannot be read.
    """
    shutil.copytree(bundle, copy, symlinks=True)  # all of it: mobile_core checks every file that the manifest names
    if (bundle / reference_file.NAME).is_file():
        (copy / "reference").mkdir()
        reference_file.unpack(bundle / reference_file.NAME, copy / "reference")


class App:
    """By the demo app, which is also asked to delete what was copied: devicectl cannot."""

    way = "app"
    runs = ("coreml",)

    def __init__(self, serial: str | None) -> None:
        """
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
    def place(self, bundle: Path) -> Iterator[PlacedForApp]:
        name = f"mfs-{secrets.token_hex(6)}"
        with phone.clearing(lambda: self._clear(name)):
            with tempfile.TemporaryDirectory(prefix=".mfs-") as scratch:
                staged = Path(scratch, name)
                stage(bundle, staged)
                self._container.push(staged, DOCUMENTS / name)
            yield PlacedForApp(self._container, name, bundle)

    def _clear(self, name: str) -> str:
        """What to do where the app cannot be had to delete the copy, or ""."""
        try:
            self._container.start("--forget", name, timeout_s=devicectl.ANSWER_S)
        except DeviceError:
            return (
                f"what was copied may still be on the phone and holds a face: delete {name} in the Files app, On My iPhone, {APP}"
            )
        return ""


@dataclass(frozen=True)
class PlacedForApp:
    container: Container
    name: str  # of the bundle on the phone, of the report and of the folder with outputs
    bundle: Path

    def measure(self, run: Run) -> Measured:
        report = f"{self.name}.json"
        arguments = ["--bench", self.name, "--report", report, "--warmup", str(run.warmup), "--runs", str(run.runs)]
        arguments += ["--sustained", str(run.sustained), *(("--dump", self.name) if run.dump else ())]
        ended: DeviceError | None = None
        try:
            self.container.start(*arguments, timeout_s=run.patience_s)
        except DeviceError as exc:  # an app that ends with an exit code of its own is one of these, and its report says more
            ended = exc
        with tempfile.TemporaryDirectory(prefix=".mfs-") as scratch:
            local = Path(scratch, report)
            try:
                self.container.pull(REPORTS / report, local)
            except DeviceError as exc:
                raise ended or exc from exc
            text = local.read_text("utf-8", errors="replace")
            if (said := phone.error(text)) is not None:
                raise DeviceError(f"coreml: {said.words}", kind="device-app")
            found = phone.check(text, run, self.bundle)
            if not run.dump:
                return Measured(found, {})
            for name in phone.output_names(self.bundle):
                self.container.pull(REPORTS / self.name / f"{name}.npy", Path(scratch, f"{name}.npy"))
            return Measured(found, phone.read_outputs(Path(scratch), self.bundle))
