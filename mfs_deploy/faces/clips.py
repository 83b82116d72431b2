"""Frames of a clip, in order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfs_deploy.errors import PhotoError
from mfs_deploy.faces.opencv import cv2
from mfs_deploy.faces.pixels import Image


@dataclass(frozen=True)
class Clip:
    """An opened clip: ``frames`` gives (height, width, 3) uint8 RGB, once; ``promised``: how many its header states."""

    frames: Iterator[Image]
    promised: int
    fps: float
    width: int
    height: int


@contextmanager
def opened(path: Path) -> Iterator[Clip]:
    """Raises PhotoError, kind "photo-unreadable", where it is not a clip."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # callers check what its warnings are about
    reader = cv2.VideoCapture(str(path))
    try:
        if not path.is_file() or not reader.isOpened():
            raise PhotoError(f"{path} is not a clip that can be read", kind="photo-unreadable", hint="try an .mp4 with H.264")
        yield Clip(
            frames=_frames(reader),
            promised=max(0, int(reader.get(cv2.CAP_PROP_FRAME_COUNT))),
            fps=reader.get(cv2.CAP_PROP_FPS) or 25.0,
            width=int(reader.get(cv2.CAP_PROP_FRAME_WIDTH)),
            height=int(reader.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
    finally:
        reader.release()


def _frames(reader: cv2.VideoCapture) -> Iterator[Image]:
    while True:
        ok, frame = reader.read()
        if not ok:
            return
        yield np.ascontiguousarray(frame[..., ::-1])
