"""OpenCV, imported at its first use: it is half of an install's size, and a server that stamps identity files does not need it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mfs_deploy.errors import MissingExtra

if TYPE_CHECKING:
    import cv2 as cv2
else:

    class _AtFirstUse:
        def __getattr__(self, name: str) -> Any:
            try:
                import cv2 as module
            except ImportError as exc:
                raise MissingExtra("photos", "opencv-python-headless", "work on photos") from exc
            return getattr(module, name)

    cv2 = _AtFirstUse()
