"""``reference.npz``: inputs and expected outputs of a bundle, for ``mfs parity`` and for an app's self-check.

    case            (N,) str              names of the cases
    target_rgb      (N, S, S, 3) uint8    inputs
    swapped, mask   (N, 3 and 1, S, S) float32   PyTorch's outputs; the mask only if the network gives one
and the whole way of a photo, for the first case where it was cut from one:
    frame_rgb       (H, W, 3) uint8       the photo
    landmarks       (5, 2) float64        where its face is; absent where the photo was an aligned crop
    back_matrix     (2, 3) float64        affine from the crop to the photo
    composite_rgb   (H, W, 3) uint8       the finished photo
    truth_rgb       (S, S, 3) uint8       what a perfect swap gives; only where that is known
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.errors import BundleError

NAME = "reference.npz"
MAX_BYTES = 200_000_000  # unpacked
ARRAYS = ("case", "target_rgb", "swapped", "mask", "frame_rgb", "landmarks", "back_matrix", "composite_rgb", "truth_rgb")

Arrays = dict[str, NDArray[Any]]


def load(path: Path) -> Arrays:
    """Every array by name, unchecked.

    Raises:
        BundleError: the file cannot be read, or is too large when unpacked.
    """
    try:
        with zipfile.ZipFile(path) as members:
            unpacked = sum(info.file_size for info in members.infolist())
        if unpacked > MAX_BYTES:
            raise ValueError(f"{unpacked:,} bytes when unpacked; at most {MAX_BYTES:,} make sense")
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as exc:
        raise damaged(path, exc) from exc


def unpack(path: Path, folder: Path) -> None:
    """Write each array as ``<name>.npy`` into an existing folder, for ``mobile_core``, which reads no archives.

    Raises:
        BundleError: as ``load``.
    """
    arrays = load(path)
    for name in ARRAYS:  # a name in the archive may be any path
        if name in arrays:
            np.save(folder / f"{name}.npy", np.ascontiguousarray(arrays[name]), allow_pickle=False)


def damaged(path: Path, why: Exception) -> BundleError:
    return BundleError(f"{path.name}: {why}", hint="copy or export the bundle again")
