"""mobile_core's C API, called as an app calls it, with numpy arrays for frames."""

from __future__ import annotations

import ctypes
import json
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int32, c_int64, c_uint8, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

OK, ARGUMENT, BUNDLE, UNSUPPORTED, RUNTIME, PARITY = range(6)
FORMATS = {name: i for i, name in enumerate(("RGB", "RGBA", "BGRA", "I420", "NV12", "NV21"))}
COLOURS = {name: i for i, name in enumerate(("BT601_FULL", "BT601_VIDEO", "BT709_FULL", "BT709_VIDEO"))}
TYPES = {"uint8": 0, "float32": 1, "float16": 2}


class CFrame(ctypes.Structure):
    _fields_ = (
        *((name, c_int32) for name in ("format", "colour", "width", "height", "rotation")),
        ("planes", c_void_p * 3),
        ("row_stride", c_int32 * 3),
        ("pixel_stride", c_int32 * 3),
    )


class CTensor(ctypes.Structure):
    _fields_ = (
        ("data", c_void_p),
        ("type", c_int32),
        *((name, c_int64) for name in ("channel_stride", "row_stride", "pixel_stride")),
    )


class CLoad(ctypes.Structure):
    _fields_ = (("backend", c_char_p), ("threads", c_int32), ("litert", c_char_p), ("detector", c_char_p))


class CResult(ctypes.Structure):
    _fields_ = (
        ("swapped", c_int32),
        ("landmarks", c_double * 10),
        *((f"{stage}_ms", c_double) for stage in ("detect", "align", "network", "paste", "total")),
    )


class Failed(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def frame(planes: list[np.ndarray], form: str, *, colour: str = "BT601_FULL", rotation: int = 0) -> CFrame:
    """A view of arrays, which it keeps alive: (H, W, C), or Y (H, W) and chroma (H/2, W/2) or (H/2, W/2, 2)."""
    height, width = planes[0].shape[:2]
    out = CFrame(FORMATS[form], COLOURS[colour], width, height, rotation)
    for i, plane in enumerate(planes):
        assert plane.dtype == np.uint8
        out.planes[i] = plane.ctypes.data
        out.row_stride[i] = plane.strides[0]
        out.pixel_stride[i] = plane.strides[1]
    out.planes_kept = planes
    return out


def tensor(array: np.ndarray) -> CTensor:
    """Of (1, C, H, W), however it lies in memory."""
    _, channel, row, pixel = (stride // array.itemsize for stride in array.strides)
    return CTensor(array.ctypes.data, TYPES[str(array.dtype)], channel, row, pixel)


class Library:
    def __init__(self, path: Path) -> None:
        self._dll = ctypes.CDLL(str(path))
        self._dll.mfs_last_error.restype = c_char_p
        self._dll.mfs_version.restype = c_char_p
        self._dll.mfs_bundle_json.restype = c_char_p
        self._dll.mfs_bundle_json.argtypes = (c_void_p,)
        for name in ("mfs_bundle_close", "mfs_session_destroy", "mfs_string_free"):
            getattr(self._dll, name).argtypes = (c_void_p,)
            getattr(self._dll, name).restype = None

    def call(self, name: str, *args: Any) -> None:
        """Raises Failed with the library's own words."""
        status = getattr(self._dll, name)(*args)
        message = self._dll.mfs_last_error().decode()
        assert bool(status) == bool(message)
        if status:
            raise Failed(status, message)

    def open(self, folder: Path) -> Bundle:
        return Bundle(self, folder)

    def session(self) -> Session:
        return Session(self)

    def text(self, name: str, *args: Any) -> dict[str, Any]:
        """JSON that a call hands over."""
        out = c_void_p()
        try:
            self.call(name, *args, byref(out))
        finally:
            content = ctypes.string_at(out.value) if out.value else b"{}"
            self._dll.mfs_string_free(out)
        return json.loads(content)

    def convert(self, source: CFrame, target: CFrame, *, mirrored: bool = False) -> None:
        self.call("mfs_frame_convert", byref(source), int(mirrored), byref(target))


class Bundle:
    def __init__(self, library: Library, folder: Path) -> None:
        self._library, self._handle = library, c_void_p()
        library.call("mfs_bundle_open", str(folder).encode(), byref(self._handle))
        self.size = library._dll.mfs_bundle_size(self._handle)
        self.has_mask = bool(library._dll.mfs_bundle_has_mask(self._handle))
        self.json = json.loads(library._dll.mfs_bundle_json(self._handle))

    def __del__(self) -> None:
        self._library._dll.mfs_bundle_close(self._handle)

    def align(self, source: CFrame, landmarks: np.ndarray, form: str = "RGB") -> tuple[np.ndarray, np.ndarray]:
        """The crop (S, S, 3 or 4), and the (2, 3) affine back."""
        crop = np.zeros((self.size, self.size, 3 if form == "RGB" else 4), np.uint8)
        back = np.zeros((2, 3))
        points = np.ascontiguousarray(landmarks, np.float64).ctypes.data_as(POINTER(c_double))
        self._library.call(
            "mfs_align", self._handle, byref(source), points, byref(frame([crop], form)), back.ctypes.data_as(POINTER(c_double))
        )
        return crop, back

    def paste(self, target: CFrame, swapped: np.ndarray, mask: np.ndarray | None, back: np.ndarray) -> None:
        """In place; arrays (1, C, S, S)."""
        given = None if mask is None else byref(tensor(mask))
        numbers = np.ascontiguousarray(back, np.float64).ctypes.data_as(POINTER(c_double))
        self._library.call("mfs_paste", self._handle, byref(target), byref(tensor(swapped)), given, numbers)


class Session:
    def __init__(self, library: Library) -> None:
        self._library, self._handle = library, c_void_p()
        library.call("mfs_session_create", byref(self._handle))

    def __del__(self) -> None:
        self._library._dll.mfs_session_destroy(self._handle)

    def load(self, folder: Path, backend: str, *, litert: Path | None = None, detector: Path | None = None) -> None:
        encoded = [None if path is None else str(path).encode() for path in (litert, detector)]
        self._library.call("mfs_session_load", self._handle, str(folder).encode(), byref(CLoad(backend.encode(), 1, *encoded)))

    def run(self, crop: np.ndarray, *, has_mask: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """(S, S, 3) uint8 to (1, 3, S, S) and (1, 1, S, S)."""
        size = len(crop)
        swapped, mask = np.zeros((1, 3, size, size), np.float32), np.zeros((1, 1, size, size), np.float32)
        floats = [array.ctypes.data_as(POINTER(c_float)) for array in (swapped, mask)]
        pixels = np.ascontiguousarray(crop).ctypes.data_as(POINTER(c_uint8))
        self._library.call("mfs_session_run", self._handle, pixels, size, floats[0], floats[1] if has_mask else None)
        return swapped, mask

    def swap(self, target: CFrame, landmarks: np.ndarray | None, seconds: float = 0) -> CResult:
        """In place."""
        result = CResult()
        points = None if landmarks is None else np.ascontiguousarray(landmarks, np.float64).ctypes.data_as(POINTER(c_double))
        self._library.call("mfs_session_swap", self._handle, byref(target), points, c_double(seconds), byref(result))
        return result

    def json(self) -> dict[str, Any]:
        return self._library.text("mfs_session_json", self._handle)

    def self_check(self, reference: Path, dump: Path | None = None) -> dict[str, Any]:
        folder = None if dump is None else str(dump).encode()
        return self._library.text("mfs_session_self_check", self._handle, str(reference).encode(), folder)
