"""From a photo to an aligned face: find the landmarks, choose a face, align it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.errors import PhotoError, UsageError
from mfs_deploy.faces import align, landmarks, photos, pixels

if TYPE_CHECKING:
    from mfs_deploy.faces.detectors import Detector


@dataclass(frozen=True, eq=False)
class FaceLocation:
    """Where the face of a photo is: at given landmarks, where a detector finds it, or the photo is an aligned crop.

    Attributes:
        landmarks: (5, 2) x, y in pixels of the photo, or None.
        aligned: the photo is an aligned crop.
        face: which of several detected faces, counted from 1, left to right.
        option_prefix: of the options that set this location, for messages: "" for ``--landmarks``, "target-" for
            ``--target-landmarks``.
    """

    landmarks: pixels.Landmarks | None = None
    aligned: bool = False
    face: int | None = None
    option_prefix: str = ""

    @property
    def is_default(self) -> bool:
        """Nothing is given: a detector finds the one face."""
        return self.landmarks is None and not self.aligned and self.face is None


DETECT = FaceLocation()


@dataclass(frozen=True)
class AlignedFace:
    """A photo (H, W, 3), its aligned crop (S, S, 3), the (2, 3) affine from crop to photo, and the landmarks used."""

    photo: pixels.Image
    crop: pixels.Image
    back: NDArray[np.float64]
    landmarks: pixels.Landmarks | None


def read_face(
    path: Path, size: int, location: FaceLocation, detector: Detector | None, template: align.AlignmentTemplate = align.ALIGNMENT
) -> AlignedFace:
    """Read a photo and align its face.

    Raises:
        PhotoError: unreadable, no face, several faces, or a face that cannot be trusted.
        UsageError: nothing says where the face is.
    """
    return align_face(photos.read(path), size, location, detector, template)


def align_face(
    photo: pixels.Image,
    size: int,
    location: FaceLocation,
    detector: Detector | None,
    template: align.AlignmentTemplate = align.ALIGNMENT,
) -> AlignedFace:
    """Cut a face out of a photo (H, W, 3) as a crop (size, size, 3).  Raises as ``read_face``."""
    if location.aligned:
        return _aligned(photo, size, location.option_prefix)
    points = find_landmarks(photo, location, detector)
    crop, back = align.align(photo, points, size, template)
    return AlignedFace(photo, crop, back, points)


def find_landmarks(photo: pixels.Image, location: FaceLocation, detector: Detector | None) -> pixels.Landmarks:
    """The landmarks given, or those of the face that a detector finds.  Raises as ``read_face``."""
    prefix = location.option_prefix
    if location.landmarks is not None:
        landmarks.check_inside(location.landmarks, photo)
        return location.landmarks
    if detector is None:
        raise UsageError(
            "nothing says where the face is: there is no detector, and no landmarks were given",
            hint=f"pass --detector scrfd_10g_bnkps.onnx (or YuNet), --{prefix}landmarks x1,y1,...,x5,y5, or --{prefix}aligned",
        )
    return landmarks.choose(detector.detect(photo), photo.shape, location.face, prefix).landmarks


def _aligned(photo: pixels.Image, size: int, option_prefix: str = "") -> AlignedFace:
    height, width = photo.shape[:2]
    if height != width:
        raise PhotoError(
            f"an aligned crop is square, this one is {width}x{height}",
            hint=f"leave out --{option_prefix}aligned to have it aligned",
        )
    crop = photo if height == size else pixels.resize(photo, size)
    scale = width / size
    return AlignedFace(photo, crop, np.array([[scale, 0, 0], [0, scale, 0]], np.float64), None)


def shrink(face: AlignedFace, longest: int, size: int, template: align.AlignmentTemplate = align.ALIGNMENT) -> AlignedFace:
    """The same face in a photo of at most ``longest`` pixels a side; ``size`` is the crop's."""
    height, width = face.photo.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return face
    photo = pixels.shrink(face.photo, round(width * scale), round(height * scale))
    if face.landmarks is None:
        return _aligned(photo, size)
    points = face.landmarks * np.array([photo.shape[1] / width, photo.shape[0] / height])
    return AlignedFace(photo, *align.align(photo, points, size, template), points)
