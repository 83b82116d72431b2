"""The face that an identity is read from: aligned as the architecture aligns sources, and refused where it cannot be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mfs_deploy.faces import find, photos, quality
from mfs_deploy.faces.find import AlignedFace, FaceLocation

if TYPE_CHECKING:
    from mfs_deploy.architectures.base import Interface
    from mfs_deploy.faces.detectors import Detector


def read(path: Path, location: FaceLocation, detector: Detector | None, interface: Interface) -> AlignedFace:
    """Read a person's photo and align its face.

    Raises:
        PhotoError: unreadable, no face, several faces, or a face too small, too blurred or with impossible landmarks.
        UsageError: nothing says where the face is.
    """
    photo = photos.read(path)
    # An aligned crop goes to the encoder as it is: shrinking it twice would give other numbers than the original's.
    size = max(photo.shape[:2]) if location.aligned else interface.source_size
    face = find.align_face(photo, size, location, detector, interface.alignment)
    first, last = (at * size // interface.source_size for at in interface.source_seen)
    quality.check(face.landmarks, face.crop[first:last, first:last])
    return face
