"""An export's request, in parts that other verbs take too, and the checks that need no file.  No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mfs_deploy import architectures
from mfs_deploy.architectures.base import Interface
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.errors import UsageError
from mfs_deploy.faces.find import DETECT, FaceLocation
from mfs_deploy.quant.recipes import METHODS

# Parity is measured on a real crop and on noise, on the crop alone, or not at all.
PARITIES = ("full", "sample", "off")
COREML_IO = ("image", "tensor")
TFLITE_IO = ("float32", "int8", "uint8")
AUTO = "auto"  # as a recipe: the fastest of each backend
# As checkpoint: weights trained on rendered people; as source: one of them, never seen in training; as calibration photos: others.
DEMO = "demo"


@dataclass(frozen=True)
class Network:
    """A trained network and the size of its crops.

    Attributes:
        checkpoint: a path, or ``DEMO``.
        size: side of the crop in pixels; the architecture's usual one if None.
        encoder: the identity encoder's file, where it lies elsewhere.
        detector: a face detector's file.
    """

    checkpoint: str
    arch: str = "mobilefaceswap"
    size: int | None = None
    encoder: Path | None = None
    detector: Path | None = None

    @property
    def interface(self) -> Interface:
        """Raises UsageError for an unknown architecture."""
        return architectures.interface(self.arch)

    @property
    def side(self) -> int:
        """Side of the crop in pixels."""
        return self.interface.sizes[0] if self.size is None else self.size


@dataclass(frozen=True)
class Person:
    """Whose network to bake: exactly one of a photo (or ``DEMO``) and an identity file."""

    source: str | None = None
    location: FaceLocation = DETECT
    identity: Path | None = None


@dataclass(frozen=True)
class CalibrationOptions:
    """Where ranges come from: measured on ``photos`` (a folder, a clip, a photo, or ``DEMO``), or read from the file ``ranges``.

    Attributes:
        aligned: the photos are aligned crops.
        allow_poor: go on with a set of too few crops, or of crops too much alike.
    """

    photos: str | None = None
    aligned: bool = False
    method: str = "percentile"
    allow_poor: bool = False
    ranges: Path | None = None

    @property
    def is_given(self) -> bool:
        return (self.photos, self.ranges) != (None, None)


NO_CALIBRATION = CalibrationOptions()


@dataclass(frozen=True)
class Formats:
    """Which artifacts to make, and in what number formats.

    Attributes:
        full_conversion: run the converters even where a template could be stamped.
    """

    backends: tuple[str, ...] = tuple(BACKENDS)
    recipe: str = "fp16"
    coreml_io: str = "image"
    tflite_io: str = "float32"
    calibration: CalibrationOptions = NO_CALIBRATION
    full_conversion: bool = False


@dataclass(frozen=True)
class ParityOptions:
    """What artifacts are compared with PyTorch on: ``level`` is one of ``PARITIES``, ``target`` a photo in place of a sample."""

    level: str = "full"
    target: Path | None = None
    location: FaceLocation = DETECT


@dataclass(frozen=True)
class ExportRequest:
    """One person's bundle."""

    network: Network
    person: Person
    out: Path
    formats: Formats = field(default_factory=Formats)
    parity: ParityOptions = field(default_factory=ParityOptions)


def check(request: ExportRequest) -> None:
    """Refuse invalid values, and options that would be ignored, before any file is read.

    Raises:
        UsageError: names the value, and those that are allowed.
    """
    check_network(request.network)
    check_person(request.person)
    check_formats(request.formats)
    parity = request.parity
    _check_choice("parity level", parity.level, PARITIES)
    if parity.level == "off" and (request.formats.full_conversion or request.formats.recipe == AUTO):
        raise UsageError("--parity off is for stamped artifacts, whose bytes are proven; a conversion is not trusted unmeasured")
    if parity.target is None and not parity.location.is_default:
        raise UsageError("--target-landmarks, --target-aligned and --target-face need --target PHOTO")


def check_network(network: Network) -> None:
    """Raises UsageError for an unknown architecture, or a size that it does not support."""
    sizes = network.interface.sizes
    if network.side not in sizes:
        raise UsageError(
            f"--size {network.size} is not possible for {network.arch}", hint=f"choose from: {', '.join(map(str, sizes))}"
        )


def check_person(person: Person) -> None:
    """Raises UsageError unless there is exactly one source, and a face location only for a photo."""
    if (person.source is None) == (person.identity is None):
        raise UsageError("give exactly one of --source and --identity")
    if person.source in (None, DEMO) and not person.location.is_default:
        raise UsageError("--landmarks, --aligned and --face say where the face is in --source PHOTO, and there is no such photo")


def check_formats(formats: Formats) -> None:
    """Raises UsageError for a backend or a number format of inputs that does not exist."""
    if not formats.backends:
        raise UsageError("no backend is named", hint=f"choose from: {', '.join(BACKENDS)}")
    for name in formats.backends:
        _check_choice("backend", name, tuple(BACKENDS))
    _check_choice("Core ML input", formats.coreml_io, COREML_IO)
    _check_choice("TFLite input", formats.tflite_io, TFLITE_IO)
    _check_choice("calibration method", formats.calibration.method, METHODS)


def _check_choice(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"unknown {what} {value!r}", hint=f"choose from: {', '.join(allowed)}")
