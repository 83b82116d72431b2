"""The Python API: what ``import mfs_deploy`` offers.

Paths may be ``str`` or ``Path``.  Values are checked as on the command line, before anything is read, and refused by the same
errors; heavy libraries are imported when they are needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, overload

from mfs_deploy.contract import BACKENDS
from mfs_deploy.errors import UsageError
from mfs_deploy.progress import OnProgress, by_function

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mfs_deploy.architectures.base import Identity
    from mfs_deploy.backends.base import Runner
    from mfs_deploy.bundle.manifest_types import ArtifactEntry, Manifest
    from mfs_deploy.evaluate.result_types import TimesResult
    from mfs_deploy.faces.find import FaceLocation

    Landmarks = Sequence[Sequence[float]] | NDArray[np.float64]

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True)
class ArtifactParity:
    """How near one artifact is to PyTorch on the bundle's reference crop.

    Attributes:
        psnr_db: of the swapped crop, peak 1; infinite where all bits agree.
        max_error: largest error of the swapped crop, of values in [0, 1].
        mask_mean_error: mean error of the blend mask, of values in [0, 1]; None where the network gives none.
        composite_psnr_db: of the photo after paste-back, peak 255; None where it was not measured.
        runtime: what ran the artifact.
    """

    recipe: str
    runtime: str
    psnr_db: float
    max_error: float
    mask_mean_error: float | None
    composite_psnr_db: float | None


@dataclass(frozen=True, eq=False)
class Bundle:
    """One person's exported network: a folder with an artifact for each backend, and its manifest (docs/bundle-format.md)."""

    path: Path
    manifest: Manifest
    _runners: dict[str, Runner] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> int:
        """Side of the crops in pixels."""
        return self.manifest["contract"]["size"]

    @property
    def backends(self) -> tuple[str, ...]:
        return tuple(self.manifest["artifacts"])

    def parity(self, *, progress: OnProgress | None = None) -> dict[str, ArtifactParity]:
        """Verify checksums, run every artifact here and compare it with the reference tensors, by backend.

        Raises:
            BundleError: a file is missing or changed, or the bundle has no reference tensors.
            ParityError: an artifact is outside its recipe's tolerance.
        """
        from mfs_deploy.evaluate import bundle_parity

        checked = bundle_parity.check_bundle(self.path, by_function(progress))
        return {name: _artifact_parity(entry) for name, entry in checked.manifest["artifacts"].items()}

    def bench(self, *, runs: int = 200, threads: int = 1, progress: OnProgress | None = None) -> TimesResult:
        """Time every artifact whose runtime is for this machine, in a process of its own; as ``mfs bench --json``.

        Args:
            runs: frames to time, 100 or more.

        Raises:
            BundleError: the bundle is damaged, has no reference tensors, or no artifact that runs here.
        """
        from mfs_deploy.evaluate import bench

        if runs < 100 or not 1 <= threads <= 16:
            raise UsageError(f"runs={runs}, threads={threads}", hint="runs is 100 or more, threads 1 to 16")
        return bench.on_host(self.path, runs=runs, threads=threads, progress=by_function(progress))

    def run(self, backend: str, crop: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Swap one aligned crop in this process; the artifact stays open for the next.

        Args:
            backend: one of ``backends``.
            crop: (S, S, 3) uint8 RGB, S = ``size``.

        Returns:
            swapped (S, S, 3) uint8 RGB, and mask (S, S) float32 in [0, 1] (all ones where the network gives no mask).

        Raises:
            UsageError: no such artifact, or a crop of another shape or type.
            MissingExtra: its runtime is not installed.
            BundleError: the bundle is damaged.
        """
        import numpy as np

        from mfs_deploy.faces import pixels

        if not isinstance(crop, np.ndarray) or crop.shape != (self.size, self.size, 3) or crop.dtype != np.uint8:
            seen = f"{crop.dtype} {crop.shape}" if isinstance(crop, np.ndarray) else type(crop).__name__
            raise UsageError(f"the crop is {seen}", hint=f"give a NumPy array ({self.size}, {self.size}, 3) of uint8, RGB")
        swapped, *mask = self._runner(backend).run(pixels.to_tensor(crop))
        ones = np.ones((self.size, self.size), np.float32)
        return pixels.to_image(swapped), mask[0][0, 0] if mask else ones

    def _runner(self, backend: str) -> Runner:
        from mfs_deploy import swapper
        from mfs_deploy.faces.find import DETECT

        if backend not in self._runners:
            self._runners[backend] = swapper.open_swapper(self.path, backend, None, DETECT).runner
        return self._runners[backend]


def export(
    checkpoint: AnyPath,
    source: AnyPath | None = None,
    out: AnyPath | None = None,
    *,
    identity: AnyPath | None = None,
    backends: Sequence[str] | str = BACKENDS,
    recipe: str = "fp16",
    arch: str = "mobilefaceswap",
    size: int | None = None,
    encoder: AnyPath | None = None,
    detector: AnyPath | None = None,
    landmarks: Landmarks | None = None,
    aligned: bool = False,
    face: int | None = None,
    target: AnyPath | None = None,
    target_landmarks: Landmarks | None = None,
    calibration: AnyPath | None = None,
    calibration_ranges: AnyPath | None = None,
    coreml_io: str = "image",
    tflite_io: str = "float32",
    parity: str = "full",
    full_conversion: bool = False,
    progress: OnProgress | None = None,
) -> Bundle:
    """Export one person's bundle, as ``mfs export`` does.

    Args:
        checkpoint: the published archive, a folder with its files, one weights file, or "demo".
        source: a photo of the person, or "demo"; or else ``identity``, a file that ``mfs identity`` wrote.
        out: the bundle's folder; a bundle that is there is replaced.
        backends: of "onnx", "tflite", "ncnn", "coreml", and those installed as entry points.
        recipe: a number format by name, a .toml file, or "auto".
        size: side of the crops in pixels; None for the architecture's own.
        landmarks: (5, 2) eyes, nose tip and mouth corners in the source photo, pixels; or ``aligned``, or ``face``, as there.
        target: a photo to measure parity on, with ``target_landmarks``; None for a sample.
        parity: "full", "sample" or "off".
        progress: called with steps done, steps in all and a label.

    Raises:
        MfsError: of the kind of what went wrong; then there is no new bundle, and an old one is as it was.
    """
    from mfs_deploy.exporter.request import CalibrationOptions, ExportRequest, Formats, Network, ParityOptions, Person, check

    if out is None:
        raise UsageError("out is missing", hint='name a folder for the bundle: out="bundles/face01"')
    request = ExportRequest(
        network=Network(_text(checkpoint), arch, size, _path(encoder), _path(detector)),
        person=Person(_text(source), _location(landmarks, aligned, face), _path(identity)),
        out=Path(out),
        formats=Formats(
            backends=tuple(backends.split(",") if isinstance(backends, str) else backends),
            recipe=_text(recipe),
            coreml_io=coreml_io,
            tflite_io=tflite_io,
            calibration=CalibrationOptions(photos=_text(calibration), ranges=_path(calibration_ranges)),
            full_conversion=full_conversion,
        ),
        parity=ParityOptions(parity, _path(target), _location(target_landmarks, False, None, "target-")),
    )
    check(request)  # before PyTorch is imported, which takes a second

    from mfs_deploy.exporter import pipeline

    exported = pipeline.export(request, by_function(progress))
    return Bundle(exported.path, exported.manifest)


def open_bundle(path: AnyPath) -> Bundle:
    """A bundle that was exported before.

    Raises:
        BundleError: there is none, or its manifest is damaged or of a schema that this version does not know.
    """
    from mfs_deploy.bundle import manifest

    return Bundle(Path(path), manifest.read(Path(path)))


def swap(
    bundle: Bundle | AnyPath,
    image: AnyPath,
    out: AnyPath,
    *,
    backend: str | None = None,
    detector: AnyPath | None = None,
    landmarks: Landmarks | None = None,
    aligned: bool = False,
    face: int | None = None,
) -> Path:
    """Put the bundle's face into a photo: find the face, align, run an artifact, paste back; ``out`` is .png or .jpg.

    Args:
        backend: None for the bundle's first that runs here.
        landmarks: (5, 2) eyes, nose tip and mouth corners in the photo, pixels; or ``aligned``, or ``face``.

    Returns:
        the path of the new photo.

    Raises:
        PhotoError: the photo cannot be read, or no face in it can be used.
        UsageError: options that exclude each other, or ``out`` cannot be written as that.
    """
    from mfs_deploy import swapper

    folder, photo, place = bundle.path if isinstance(bundle, Bundle) else Path(bundle), Path(image), Path(out)
    swapper.check_place(folder, photo, place, swapper.IMAGE_SUFFIXES)
    opened = swapper.open_swapper(folder, backend, _path(detector), _location(landmarks, aligned, face))
    swapper.swap_image(opened, photo, place)
    return place


def embed(
    photo: AnyPath,
    checkpoint: AnyPath,
    *,
    arch: str = "mobilefaceswap",
    encoder: AnyPath | None = None,
    detector: AnyPath | None = None,
    landmarks: Landmarks | None = None,
    aligned: bool = False,
    face: int | None = None,
) -> Identity:
    """Read a person's identity off a photo: ``embedding`` (1, 512) float32, L2-normalised, and the encoder's ``feature_map``.

    It is biometric data: keep it encrypted, and delete it when the person asks.

    Raises:
        PhotoError: the photo cannot be read, or no face in it can be used.
        CheckpointError: the weights cannot be trusted or do not fit.
    """
    from mfs_deploy.exporter import prepare
    from mfs_deploy.exporter.request import Network, Person, check_network, check_person

    network = Network(_text(checkpoint), arch, None, _path(encoder), _path(detector))
    person = Person(_text(photo), _location(landmarks, aligned, face))
    check_network(network)
    check_person(person)
    return prepare.find_person(person, prepare.open_models(network)).identity


def _artifact_parity(entry: ArtifactEntry) -> ArtifactParity:
    first = entry["parity"]["cases"][0]
    return ArtifactParity(
        recipe=entry["recipe"],
        runtime=entry["parity"]["runtime"],
        psnr_db=float("inf") if first["swapped_psnr_db"] is None else first["swapped_psnr_db"],
        max_error=first["swapped_max"],
        mask_mean_error=first["mask_mean"],
        composite_psnr_db=first["composite_psnr_db"],
    )


@overload
def _text(value: AnyPath) -> str: ...
@overload
def _text(value: None) -> None: ...
def _text(value: AnyPath | None) -> str | None:
    return None if value is None else os.fspath(value)


def _path(value: AnyPath | None) -> Path | None:
    return None if value is None else Path(value)


def _location(landmarks: Landmarks | None, aligned: bool, face: int | None, prefix: str = "") -> FaceLocation:
    """Raises UsageError where landmarks are not (5, 2) finite numbers, or two of the three are given."""
    import numpy as np

    from mfs_deploy.faces.find import FaceLocation

    if landmarks is not None and (aligned or face is not None):
        raise UsageError("landmarks are given, so aligned and face exclude them", hint="give one of them")
    if face is not None and (type(face) is not int or face < 1):
        raise UsageError(f"face={face!r}", hint="faces are counted from 1, left to right")
    if landmarks is None:
        return FaceLocation(None, aligned, face, prefix)
    try:
        points = np.asarray(landmarks, np.float64)
    except (TypeError, ValueError) as exc:
        raise UsageError("landmarks are not numbers", hint="give five pairs of x and y, in pixels") from exc
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise UsageError(f"landmarks of shape {points.shape}", hint="give five pairs of finite x and y, in pixels")
    return FaceLocation(points, False, None, prefix)
