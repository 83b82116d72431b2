"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mfs_deploy.contract import BACKENDS

if TYPE_CHECKING:
    from mfs_deploy.devices.phone import Phone
    from mfs_deploy.exporter.request import CalibrationOptions, Network, Person
    from mfs_deploy.faces.find import FaceLocation

MACHINES = ("host", "arm64", "android", "ios")
PHONES = ("android", "ios")
PATH = click.Path(path_type=Path)
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Renamed(click.Option):
    """An option that still takes its former name, which help and messages do not show."""

    def __init__(self, names: Sequence[str], *, former: str, **kwargs: Any) -> None:
        super().__init__([*names, former], **kwargs)
        self.former = former

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        with self._as_now():
            return super().get_help_record(ctx)

    def get_error_hint(self, ctx: click.Context | None) -> str:
        with self._as_now():
            return super().get_error_hint(ctx)

    @contextmanager
    def _as_now(self) -> Iterator[None]:
        every, self.opts = self.opts, [name for name in self.opts if name != self.former]
        try:
            yield
        finally:
            self.opts = every


def renamed(*names: str, former: str, **kwargs: Any) -> Decorator:
    return click.option(*names, cls=Renamed, former=former, **kwargs)


checkpoint = click.option(
    "--checkpoint",
    required=True,
    metavar="PATH",
    help="checkpoints.tar, a folder with its files, or one .pdparams/.pth/.safetensors file; 'demo' for weights that know rendered "
    "faces.",
)
encoder = click.option("--identity-encoder", "encoder", type=PATH, help="The identity encoder's file, where it lies elsewhere.")
detector = click.option("--detector", type=PATH, help="A face detector with five landmarks, as ONNX: SCRFD or YuNet.")
backends = renamed(
    "--backends", former="--targets", default=",".join(BACKENDS), show_default=True, help="What to export to, separated by commas."
)
size = click.option("--size", type=int, help="Side of the crop in pixels: 224 (unless said) or 256; of MobileFSGAN 256.")
kit_recipe = click.option("--recipe", default="fp16", show_default=True, help="One of those that the kit holds.")
cpu = click.option(
    "--cpu", default="cortex-a76", show_default=True, help="The emulated processor: cortex-a76 has float16, cortex-a72 has not."
)
arch = click.option("--arch", default="mobilefaceswap", show_default=True, help="The network's architecture; or mobilefsgan.")


PHONE = (
    click.option(
        "--on",
        "machine",
        type=click.Choice(MACHINES),
        help="host (unless said), arm64: an emulated phone processor, or a connected phone: android by adb, ios from a Mac.",
    ),
    click.option("--device", type=click.Choice(PHONES), hidden=True),  # the former name of --on android and --on ios
    click.option("--serial", metavar="ID", help="With --on android or ios: which phone of several."),
    click.option(
        "--runner",
        type=PATH,
        metavar="PATH",
        help="With --on android: mfs-bench-device for arm64, which needs no app on the phone; else the demo app measures.",
    ),
    click.option("--litert", type=PATH, metavar="PATH", help="With --runner built by the NDK: libLiteRt.so, to run TFLite too."),
)


def phone(command: Callable[..., Any]) -> Callable[..., Any]:
    """--on, and the options that it takes."""
    for option in reversed(PHONE):
        command = option(command)
    return command


def machine_of(machine: str | None, device: str | None) -> str:
    """The value of --on, or of its former name.  Raises UsageError where both are given and differ."""
    from mfs_deploy.errors import UsageError

    if machine is not None and device is not None and machine != device:
        raise UsageError(f"--on {machine} and --device {device} exclude each other", hint=f"give --on {machine} or --on {device}")
    return machine or device or "host"


def make_phone(machine: str, serial: str | None, runner: Path | None, litert: Path | None) -> Phone | None:
    """The connected phone that --on names; None where it names no phone.

    Raises:
        UsageError: options that exclude each other, or a runner that no phone can run.
        DeviceError: the phone cannot be used.
    """
    from mfs_deploy.errors import UsageError

    if machine not in PHONES and serial is not None:
        raise UsageError("--serial needs a phone", hint="add --on android or --on ios")
    if machine != "android" and (runner is not None or litert is not None):
        raise UsageError("--runner and --litert are for Android phones", hint="add --on android")
    if runner is None and litert is not None:
        raise UsageError("--litert needs --runner; the app brings its own LiteRT", hint="add --runner")
    if machine == "android":
        from mfs_deploy.devices import android

        if runner is not None:
            android.check_runner(runner)
        if litert is not None:
            android.check_litert(litert)
        found = android.connect(serial)
        return android.App(found) if runner is None else android.Runner(found, runner, litert)
    if machine == "ios":
        from mfs_deploy.devices import ios

        return ios.App(serial)
    return None


def location(prefix: str = "", whose: str = "the photo") -> Decorator:
    """--[prefix]landmarks, --[prefix]aligned and --[prefix]face: where the face is in a photo."""
    dash = f"{prefix}-" if prefix else ""
    parts = (
        click.option(f"--{dash}landmarks", metavar="x1,y1,...,x5,y5", help=f"Eyes, nose tip, mouth corners in {whose}, pixels."),
        click.option(f"--{dash}aligned", is_flag=True, help=f"{whose.capitalize()} is an aligned crop already."),
        click.option(
            f"--{dash}face", type=click.IntRange(1), metavar="N", help=f"Which face of several in {whose}, left to right."
        ),
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for part in reversed(parts):
            command = part(command)
        return command

    return decorate


def person(command: Callable[..., Any]) -> Callable[..., Any]:
    """The checkpoint and the person: the options of every verb that bakes."""
    parts = (
        checkpoint,
        encoder,
        click.option("--source", metavar="PHOTO", help="A photo of the person; 'demo' for a rendered person."),
        click.option("--identity", type=PATH, help="Instead of --source: a file that 'mfs identity' wrote."),
        location(whose="the source photo"),
        detector,
    )
    for part in reversed(parts):
        command = part(command)
    return command


def pop_location(kwargs: dict[str, Any], prefix: str = "") -> FaceLocation:
    """The options of ``location`` out of a verb's.  Raises UsageError where they exclude each other."""
    from mfs_deploy.errors import UsageError
    from mfs_deploy.faces.find import FaceLocation
    from mfs_deploy.faces.landmarks import parse

    name, dash = (f"{prefix}_", f"{prefix}-") if prefix else ("", "")
    landmarks, aligned, face = (kwargs.pop(name + option) for option in ("landmarks", "aligned", "face"))
    if landmarks is not None and (aligned or face is not None):
        raise UsageError(f"--{dash}landmarks excludes --{dash}aligned and --{dash}face", hint="give one of them")
    return FaceLocation(None if landmarks is None else parse(landmarks, dash), aligned, face, dash)


def pop_network(kwargs: dict[str, Any]) -> Network:
    from mfs_deploy.exporter.request import Network

    return Network(**{name: kwargs.pop(name) for name in ("checkpoint", "arch", "size", "encoder", "detector") if name in kwargs})


def pop_person(kwargs: dict[str, Any]) -> Person:
    from mfs_deploy.exporter.request import Person

    return Person(source=kwargs.pop("source"), location=pop_location(kwargs), identity=kwargs.pop("identity"))


CALIBRATION = (
    click.option(
        "--calibration", metavar="PATH", help="Photos or a clip to measure the ranges of integers on; 'demo' for rendered people."
    ),
    click.option("--calibration-aligned", is_flag=True, help="The photos of --calibration are aligned crops already."),
    click.option(
        "--calibration-method",
        type=click.Choice(["minmax", "percentile", "kl"]),
        default="percentile",
        show_default=True,
        help="How wide a range is made.",
    ),
    renamed(
        "--allow-poor-calibration",
        former="--accept-calibration",
        is_flag=True,
        help="Go on with a set that has too few crops, or crops too much alike.",
    ),
    click.option("--calibration-ranges", type=PATH, help="Instead of --calibration: the ranges.json of another bundle."),
)


def calibration(command: Callable[..., Any]) -> Callable[..., Any]:
    """--calibration and the options that it takes, or --calibration-ranges."""
    for option in reversed(CALIBRATION):
        command = option(command)
    return command


def pop_calibration(kwargs: dict[str, Any]) -> CalibrationOptions:
    """The options of ``calibration`` out of a verb's."""
    from mfs_deploy.exporter.request import CalibrationOptions

    return CalibrationOptions(
        photos=kwargs.pop("calibration"),
        aligned=kwargs.pop("calibration_aligned"),
        method=kwargs.pop("calibration_method"),
        allow_poor=kwargs.pop("allow_poor_calibration"),
        ranges=kwargs.pop("calibration_ranges"),
    )


def parse_backends(text: str) -> tuple[str, ...]:
    from mfs_deploy.errors import UsageError

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown, known = [name for name in names if name not in BACKENDS], list(BACKENDS)
    if unknown:
        from mfs_deploy.backends import registry  # those of installed packages too

        unknown, known = [name for name in unknown if name not in registry.BACKENDS], list(registry.BACKENDS)
    if unknown or not names:
        problem = f"has no backend {', '.join(unknown)}" if unknown else "names no backend"
        raise UsageError(f"--backends {text!r} {problem}", hint=f"choose from: {', '.join(known)}")
    return names
