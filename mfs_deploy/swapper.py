"""Swaps faces in photos and clips with a bundle on this machine: find the face, align, run an artifact, paste back."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

from mfs_deploy import files
from mfs_deploy.architectures import INTERFACES
from mfs_deploy.architectures.base import Interface
from mfs_deploy.backends.base import Runner
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import manifest
from mfs_deploy.errors import (
    BundleError,
    MissingExtra,
    OutputError,
    PhotoError,
    UsageError,
)
from mfs_deploy.evaluate.verify import verify_bundle
from mfs_deploy.faces import align, clips, detectors, find, landmarks, paste_back, pixels
from mfs_deploy.faces.detectors import Detector
from mfs_deploy.faces.opencv import cv2
from mfs_deploy.progress import Progress

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
CLIP_SUFFIXES = (".mp4",)


@dataclass(frozen=True, eq=False)
class Swapper:
    """An opened bundle, and how faces are found."""

    backend: str
    runtime: str
    runner: Runner
    interface: Interface
    size: int
    location: find.FaceLocation
    detector: Detector | None


@dataclass(frozen=True)
class Counts:
    frames: int
    swapped: int


def check_place(bundle: Path, source: Path, out: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse an output of another kind, or one that would overwrite an input.

    Raises:
        UsageError: another kind of file, the input itself, or a place inside the bundle.
    """
    if out.suffix.lower() not in suffixes:
        raise UsageError(f"--out {out.name}: this is written as {', '.join(suffixes)}")
    if out.resolve() == source.resolve():
        raise UsageError(f"--out {out} is the input itself")
    if out.resolve().is_relative_to(bundle.resolve()):
        raise UsageError(f"--out {out} lies in the bundle, which holds only what its manifest lists")


def open_swapper(bundle: Path, backend: str | None, detector: Path | None, location: find.FaceLocation) -> Swapper:
    entries = manifest.read(bundle)
    contract = verify_bundle(bundle, entries)
    names = [backend] if backend is not None else [name for name in BACKENDS if name in entries["artifacts"]]
    if backend is not None and backend not in entries["artifacts"]:
        raise UsageError(f"the bundle has no {backend} artifact", hint=f"choose from: {', '.join(entries['artifacts'])}")
    missing: MissingExtra | None = None
    for name in names:
        try:
            runner = BACKENDS[name].open(bundle / BACKENDS[name].FILES[0], contract)
        except MissingExtra as exc:
            missing = missing or exc
            continue
        opened = None if detector is None else detectors.open_detector(detector)
        return Swapper(name, runner.runtime, runner, INTERFACES[contract.arch], contract.size, location, opened)
    raise missing or BundleError(f"{bundle} has no artifacts")


def swap_frame(swapper: Swapper, face: find.AlignedFace) -> pixels.Image:
    swapped, *mask = swapper.runner.run(pixels.to_tensor(face.crop))
    return paste_back.paste_back(face.photo, swapped, mask[0] if mask else None, face.back, swapper.interface.paste_back)


def swap_image(swapper: Swapper, photo: Path, out: Path) -> None:
    face = find.read_face(photo, swapper.size, swapper.location, swapper.detector, swapper.interface.alignment)
    picture = PillowImage.fromarray(swap_frame(swapper, face))
    disclosure = manifest.DISCLOSURE["disclosure"]
    info = PngInfo()
    info.add_text("Comment", disclosure)
    with files.replacing(out) as temporary:
        if out.suffix.lower() == ".png":
            picture.save(temporary, "PNG", pnginfo=info)
        else:
            picture.save(temporary, "JPEG", quality=95, comment=disclosure)


def swap_video(swapper: Swapper, clip: Path, out: Path, progress: Progress) -> Counts:
    """Swap every frame with a face; the others are copied, as in the original.

    Raises:
        PhotoError: the clip cannot be read, is shorter than it says, or has a face in no frame.
        OutputError: the new clip could not be written whole.
    """
    frames = swapped = 0
    with clips.opened(clip) as opened, files.replacing(out) as temporary:
        progress.start(opened.promised)
        size = (opened.width, opened.height)
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), opened.fps, size)
        if not writer.isOpened():
            raise OutputError(f"{out} cannot be written as MPEG-4 here")
        try:
            for frame in opened.frames:
                face = _find(swapper, frame)
                result = frame if face is None else swap_frame(swapper, face)
                writer.write(np.ascontiguousarray(result[..., ::-1]))
                frames, swapped = frames + 1, swapped + (face is not None)
                progress.step(f"frame {frames}")
        finally:
            writer.release()
        _check_clip(clip, temporary, Counts(frames, swapped), opened.promised)
    return Counts(frames, swapped)


def _check_clip(clip: Path, written: Path, counts: Counts, promised: int) -> None:
    """Check for a clip that ends early and for a failed write, neither of which OpenCV reports."""
    if counts.frames == 0 or counts.frames < promised * 0.9 - 2:  # containers estimate their own count, and edit lists cut it
        raise PhotoError(
            f"{clip} holds {counts.frames} frames that can be read, and says it has {promised}", kind="photo-unreadable"
        )
    if counts.swapped == 0:
        raise PhotoError(f"{clip}: a face is in none of its {counts.frames} frames", kind="no-face")
    found = 0
    with contextlib.suppress(PhotoError), clips.opened(written) as opened:
        found = sum(1 for _ in opened.frames)
    if found != counts.frames:
        raise OutputError(f"of {counts.frames} frames only {found} were written; is the disk full?", hint="make room")


def _find(swapper: Swapper, frame: pixels.Image) -> find.AlignedFace | None:
    """The face with the best score, as in the original; None for a frame without a face."""
    if swapper.detector is None or swapper.location.landmarks is not None or swapper.location.aligned:
        return find.align_face(frame, swapper.size, swapper.location, swapper.detector, swapper.interface.alignment)
    best = landmarks.best(swapper.detector.detect(frame))
    if best is None:
        return None
    try:
        crop, back = align.align(frame, best.landmarks, swapper.size, swapper.interface.alignment)
    except PhotoError:  # a detection whose landmarks lie on one line is no face
        return None
    return find.AlignedFace(frame, crop, back, best.landmarks)
