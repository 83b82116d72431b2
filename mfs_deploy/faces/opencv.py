"""OpenCV, imported at its first use: half of what an install weighs, and a server that stamps identity files needs none of it."""

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
