"""The crops that ranges are measured on: read from a folder, a clip or a photo, checked for variety, and hashed.

Ranges of too few crops, or of crops too much alike, would clip values of other pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.errors import CalibrationError, MfsError, PhotoError, UsageError
from mfs_deploy.faces import align, clips, find, landmarks, photos, pixels
from mfs_deploy.faces.detectors import Detector
from mfs_deploy.faces.opencv import cv2
from mfs_deploy.progress import SILENT, Progress

MAX_CROPS = 128  # of more, evenly spaced ones are taken
MIN_CROPS = 16  # that differ
THUMBNAIL_PX = 16  # two crops are the same picture if their thumbnails differ by less than ...
SAME_PICTURE_LEVELS = 3.0  # ... so many of 255 levels on average
MIN_BRIGHTNESS_SPREAD_LEVELS = 10.0  # of 255, between the means of the darkest and the brightest crop
CLIP_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")


@dataclass(frozen=True)
class Skipped:
    """A file, or a frame of a clip, that gave no crop, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Coverage:
    """The variety of a set of crops.  Brightness and contrast are mean and deviation of a crop's grey levels, 0 to 255.

    Attributes:
        different: crops that are not nearly the same as an earlier one.
        turned: lowest and highest offset of the nose tip from between the eyes, in eye distances; None for aligned crops.  0 is a
            face from the front.
    """

    crops: int
    different: int
    brightness: tuple[float, float]
    contrast: tuple[float, float]
    turned: tuple[float, float] | None

    def error(self) -> CalibrationError | None:
        """Why ranges of such a set would not hold, or None."""
        hint = "give photos of many people in different light, or --allow-poor-calibration to go on all the same"
        if self.crops < MIN_CROPS:
            return CalibrationError(f"{self.crops} crops, at least {MIN_CROPS} are needed", hint=hint, kind="calibration-too-few")
        if self.different < MIN_CROPS:
            message = f"of {self.crops} crops only {self.different} differ, at least {MIN_CROPS} must"
            return CalibrationError(message, hint=hint, kind="calibration-too-alike")
        low, high = self.brightness
        if high - low < MIN_BRIGHTNESS_SPREAD_LEVELS:
            needed = f"{MIN_BRIGHTNESS_SPREAD_LEVELS:.0f} levels must lie between"
            message = f"all crops are equally bright ({low:.0f} to {high:.0f} of 255); {needed}"
            return CalibrationError(message, hint=hint, kind="calibration-too-alike")
        return None


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """``crops``: (N, S, S, 3) uint8 RGB.  ``sha256`` is of those, so it tells sets apart and says nothing of files."""

    crops: pixels.Image
    coverage: Coverage
    skipped: tuple[Skipped, ...]
    sha256: str

    def tensor(self) -> NDArray[np.float32]:
        """(N, 3, S, S) RGB in [0, 1]."""
        return np.concatenate([pixels.to_tensor(crop) for crop in self.crops])


def read(
    path: Path,
    size: int,
    detector: Detector | None,
    template: align.AlignmentTemplate = align.ALIGNMENT,
    *,
    aligned: bool = False,
    allow_poor: bool = False,
    progress: Progress = SILENT,
) -> CalibrationSet:
    """Read a folder of photos, a clip, or one photo; with ``aligned``, of crops.

    Raises:
        CalibrationError: no face that can be used, or too few, or crops too much alike (unless ``allow_poor``).
        UsageError: there is no detector, and the photos are not aligned.
    """
    crops, turned, skipped = [], [], []
    for name, photo in _photos(path):
        try:
            if isinstance(photo, PhotoError):
                raise photo
            face = _align(photo, size, aligned, detector, template)
        except PhotoError as exc:
            skipped.append(Skipped(name, exc.message))
            continue
        crops.append(face.crop)
        if face.landmarks is not None:
            turned.append(_turned(face.landmarks))
        progress.note(f"{len(crops)} faces")
    if not crops:
        why = f"; {skipped[0].name}: {skipped[0].why}" if skipped else ""
        raise CalibrationError(f"{path} holds no face that can be used{why}", hint="give a folder of photos, a clip, or one photo")
    calibration_set = from_crops(np.stack(crops), turned, tuple(skipped))
    error = calibration_set.coverage.error()
    if error is not None and not allow_poor:
        if skipped:
            error.message += f"; {len(skipped)} could not be used, the first {skipped[0].name}: {skipped[0].why}"
        raise error
    return calibration_set


def from_crops(crops: pixels.Image, turned: list[float] | None = None, skipped: tuple[Skipped, ...] = ()) -> CalibrationSet:
    """A set of crops at hand, (N, S, S, 3) uint8."""
    digest = hashlib.sha256(np.array(crops.shape, np.int64).tobytes() + np.ascontiguousarray(crops).tobytes()).hexdigest()
    return CalibrationSet(crops, _coverage(crops, turned or []), skipped, digest)


def _photos(path: Path) -> Iterator[tuple[str, pixels.Image | PhotoError]]:
    """Names and pictures, evenly spaced if there are more than ``MAX_CROPS``; the error in place of one that cannot be read."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        pictures = [file for file in files if photos.is_photo(file)]
        left_out = set(pictures) - {pictures[i] for i in _evenly(len(pictures))}
        for file in files:  # other files do not count, and are reported as skipped
            if file not in left_out:
                yield file.name, _read(file)
    elif path.suffix.lower() in CLIP_SUFFIXES:
        yield from _clip(path)
    else:
        yield path.name, photos.read(path)


def _read(file: Path) -> pixels.Image | PhotoError:
    try:
        return photos.read(file)
    except PhotoError as exc:
        return exc
    except MfsError as exc:  # HEIC without its package
        return PhotoError(exc.message, hint=exc.hint)


def _clip(path: Path) -> Iterator[tuple[str, pixels.Image | PhotoError]]:
    with clips.opened(path) as clip:
        chosen = set(_evenly(clip.promised)) if clip.promised else None
        for i, frame in enumerate(clip.frames):
            if chosen is None or i in chosen:
                yield f"frame {i + 1}", frame
            if chosen is None and i + 1 == MAX_CROPS:
                break


def _evenly(n: int) -> list[int]:
    return [i * n // min(n, MAX_CROPS) for i in range(min(n, MAX_CROPS))]


def _align(
    photo: pixels.Image, size: int, aligned: bool, detector: Detector | None, template: align.AlignmentTemplate
) -> find.AlignedFace:
    """Align the face with the best score, as in a clip."""
    if aligned:
        return find.align_face(photo, size, find.FaceLocation(aligned=True, option_prefix="calibration-"), None, template)
    if detector is None:
        raise UsageError(
            "nothing says where the faces for calibration are: there is no detector",
            hint="pass --detector scrfd_10g_bnkps.onnx (or YuNet), or --calibration-aligned",
        )
    face = landmarks.best(detector.detect(photo))
    if face is None:
        raise PhotoError(f"no face found with a score of at least {landmarks.THRESHOLD}", kind="no-face")
    return find.AlignedFace(photo, *align.align(photo, face.landmarks, size, template), face.landmarks)


def _turned(points: pixels.Landmarks) -> float:
    eyes = points[1] - points[0]
    return float(np.dot(points[2] - (points[0] + points[1]) / 2, eyes) / np.dot(eyes, eyes))


def _coverage(crops: pixels.Image, turned: list[float]) -> Coverage:
    grey = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]
    small = np.stack([cv2.resize(g, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA) for g in grey]).astype(np.float32)
    means, deviations = [float(g.mean()) for g in grey], [float(g.std()) for g in grey]
    levels = [np.abs(small[:i] - small[i]).mean(axis=(1, 2)) for i in range(len(small))]  # to each earlier crop
    different = sum(1 for distances in levels if not (distances < SAME_PICTURE_LEVELS).any())
    return Coverage(
        crops=len(crops),
        different=different,
        brightness=(min(means), max(means)),
        contrast=(min(deviations), max(deviations)),
        turned=(min(turned), max(turned)) if turned else None,
    )
