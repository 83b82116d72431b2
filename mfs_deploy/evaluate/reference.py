"""``reference.npz``: inputs and expected outputs of a bundle, for ``mfs parity`` and for an app's self-check.

    case            (N,) str              names of the cases
    target_rgb      (N, S, S, 3) uint8    inputs
    swapped, mask   (N, 3 and 1, S, S) float32   what PyTorch makes of them; the mask only where the network gives one
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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.contract import Contract
from mfs_deploy.errors import BundleError
from mfs_deploy.evaluate import parity
from mfs_deploy.faces.paste_back import Ellipse, PasteBack

NAME = "reference.npz"
MAX_BYTES = 200_000_000  # unpacked
MAX_VALUE = 1e5  # of anything that is a float here: colours, masks, pixels
ARRAYS = ("case", "target_rgb", "swapped", "mask", "frame_rgb", "landmarks", "back_matrix", "composite_rgb", "truth_rgb")

Arrays = dict[str, NDArray[Any]]


def write(path: Path, cases: list[parity.Case], reference: parity.Outputs) -> None:
    arrays: Arrays = {
        "case": np.array([case.name for case in cases]),
        "target_rgb": np.stack([case.crop for case in cases]),
        "swapped": reference.swapped,
    }
    if reference.mask is not None:
        arrays["mask"] = reference.mask
    first = cases[0]
    if first.truth is not None:
        arrays["truth_rgb"] = first.truth
    composite = parity.composite(first, reference, 0)
    if first.frame is not None and first.back is not None and composite is not None:
        arrays |= {"frame_rgb": first.frame, "back_matrix": first.back, "composite_rgb": composite}
        if first.landmarks is not None:
            arrays["landmarks"] = first.landmarks
    with open(path, "wb") as f:
        np.savez_compressed(f, **arrays)  # type: ignore[arg-type]


def read(path: Path, contract: Contract, paste: PasteBack | Ellipse) -> tuple[list[parity.Case], parity.Outputs]:
    """What ``write`` wrote for a network of this contract, checked before use.

    Raises:
        BundleError: an array is missing, of another type or shape, not finite, or at odds with the others.
    """
    try:
        arrays = _load(path)
        _check(arrays, contract)
        cases = [parity.Case(str(name), crop) for name, crop in zip(arrays["case"], arrays["target_rgb"], strict=True)]
        outputs = parity.Outputs.of(arrays)
        cases[0] = replace(cases[0], truth=arrays.get("truth_rgb"), paste=paste)
        if "frame_rgb" in arrays:
            cases[0] = replace(cases[0], frame=arrays["frame_rgb"], back=arrays["back_matrix"], landmarks=arrays.get("landmarks"))
            composite = parity.composite(cases[0], outputs, 0)
            if composite is None or np.abs(composite.astype(int) - arrays["composite_rgb"]).max() > 1:
                raise ValueError("composite_rgb is not what paste-back makes of the other arrays")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as exc:
        raise BundleError(f"{path.name}: {exc}", hint="copy or export the bundle again") from exc
    return cases, outputs


def unpack(path: Path, folder: Path) -> None:
    """Write each array as ``<name>.npy`` into an existing folder, for ``mobile_core``, which reads no archives.

    Raises:
        BundleError: the file cannot be read.
    """
    try:
        arrays = _load(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as exc:
        raise BundleError(f"{path.name}: {exc}", hint="copy or export the bundle again") from exc
    for name in ARRAYS:  # a name in the archive may be any path
        if name in arrays:
            np.save(folder / f"{name}.npy", np.ascontiguousarray(arrays[name]), allow_pickle=False)


def _load(path: Path) -> Arrays:
    with zipfile.ZipFile(path) as members:
        unpacked = sum(info.file_size for info in members.infolist())
    if unpacked > MAX_BYTES:
        raise ValueError(f"{unpacked:,} bytes when unpacked; at most {MAX_BYTES:,} make sense")
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _check(arrays: Arrays, contract: Contract) -> None:
    size = contract.size
    n = len(np.atleast_1d(arrays["case"]))
    forms: dict[str, tuple[tuple[int, ...], str]] = {
        "case": ((n,), "str"),
        "target_rgb": ((n, size, size, 3), "uint8"),
        **{spec.name: ((n, *spec.shape[1:]), "float32") for spec in contract.outputs},
    }
    if "frame_rgb" in arrays:
        height, width = (*arrays["frame_rgb"].shape, 0, 0)[:2]
        frame = ((height, width, 3), "uint8")
        forms |= {"frame_rgb": frame, "composite_rgb": frame, "back_matrix": ((2, 3), "float64")}
    if "truth_rgb" in arrays:
        forms["truth_rgb"] = ((size, size, 3), "uint8")
    if "landmarks" in arrays:
        forms["landmarks"] = ((5, 2), "float64")
    for name, (shape, dtype) in forms.items():
        array = arrays[name]
        found = "str" if array.dtype.kind == "U" else str(array.dtype)
        if array.shape != shape or found != dtype or array.size == 0:
            raise ValueError(f"{name} is {found} {array.shape}, expected {dtype} {shape}")
        if dtype.startswith("float") and not (np.abs(array) < MAX_VALUE).all():
            raise ValueError(f"{name} holds values that are not finite, or beyond all reason")
