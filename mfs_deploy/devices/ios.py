"""iPhones: measured by the demo app, which Core ML needs; files go through the app's own Documents folder."""

from __future__ import annotations

import contextlib
import json
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mfs_deploy import manifest, reference_file
from mfs_deploy.devices import devicectl, phone
from mfs_deploy.devices.choose import choose
from mfs_deploy.devices.devicectl import Container
from mfs_deploy.devices.phone import Measured, Run
from mfs_deploy.errors import DeviceError

APP = "MfsDemo"  # the name it shows; its identifier is the developer's own
OLDEST = 16  # ios_demo's deployment target
DOCUMENTS = PurePosixPath("Documents")
REPORTS = DOCUMENTS / "reports"


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
        major = found.system.split(".")[0]
        if not major.isdecimal() or int(major) < OLDEST:
            raise DeviceError(f"the phone has iOS {found.system or 'unknown'}; iOS {OLDEST} or newer is needed", kind="device-old")
        app = devicectl.apps(found.serial).get(APP)
        if app is None:
            raise DeviceError(f"the app {APP} is not on {self.name}", hint="install ios_demo from Xcode", kind="device-app")
        self._container = Container(found.serial, app)

    @contextlib.contextmanager
    def place(self, bundle: Path) -> Iterator[PlacedForApp]:
        name = f"mfs-{secrets.token_hex(6)}"
        folder = DOCUMENTS / name
        placed = PlacedForApp(self._container, name, bundle)
        try:
            for file in (manifest.NAME, *manifest.read(bundle)["files"]):
                self._container.push(bundle / file, folder / file)
            with tempfile.TemporaryDirectory(prefix=".mfs-") as scratch:
                reference_file.unpack(bundle / reference_file.NAME, Path(scratch))
                for array in sorted(Path(scratch).iterdir()):
                    self._container.push(array, folder / "reference" / array.name)
            yield placed
        finally:
            with contextlib.suppress(DeviceError):
                self._container.start("--forget", name, timeout_s=devicectl.ANSWER_S)


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
            _raise_error(text)
            found = phone.check(text, run, self.bundle)
            if not run.dump:
                return Measured(found, {})
            for spec in manifest.read(self.bundle)["contract"]["outputs"]:
                file = f"{spec['name']}.npy"
                self.container.pull(REPORTS / self.name / file, Path(scratch, file))
            return Measured(found, phone.read_outputs(Path(scratch), self.bundle))


def _raise_error(text: str) -> None:
    """What went wrong in the app, which it reports in place of figures."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return  # phone.check says what is wrong
    if isinstance(said, dict) and "error" in said:
        raise DeviceError(f"coreml: {str(said['error'])[:300]}", kind="device-app")
