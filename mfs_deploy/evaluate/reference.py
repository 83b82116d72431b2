"""PyTorch's outputs on a bundle's crops: computed, and stored in the bundle as ``reference.npz``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mfs_deploy.architectures import INTERFACES
from mfs_deploy.bundle import reference_file
from mfs_deploy.bundle.reference_file import Arrays
from mfs_deploy.contract import Contract
from mfs_deploy.evaluate import parity

if TYPE_CHECKING:
    from torch import Tensor

MAX_VALUE = 1e5  # of any float in the file: colours, masks, pixels


def run_pytorch(net: Callable[[Tensor], tuple[Tensor, ...]], crops: parity.Array) -> parity.Outputs:
    """Run a network on (N, 3, S, S) crops in [0, 1], one at a time as a phone does it."""
    import torch

    with torch.inference_mode():
        outputs = [net(torch.from_numpy(crop[None])) for crop in crops]
    swapped, *masks = (np.concatenate([t.numpy() for t in of_all]) for of_all in zip(*outputs, strict=True))
    return parity.Outputs(swapped, masks[0] if masks else None)


def write_reference(folder: Path, cases: list[parity.Case], reference: parity.Outputs) -> None:
    """Write ``reference.npz`` into a bundle's folder."""
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
    with open(folder / reference_file.NAME, "wb") as f:
        np.savez_compressed(f, **arrays)  # type: ignore[arg-type]


def read_reference(folder: Path, contract: Contract) -> tuple[list[parity.Case], parity.Outputs]:
    """The cases of a bundle and PyTorch's outputs on them, checked before use.

    Raises:
        BundleError: an array is missing, of another type or shape, not finite, or inconsistent with the others.
    """
    path = folder / reference_file.NAME
    arrays = reference_file.load(path)
    try:
        _check(arrays, contract)
        cases = [parity.Case(str(name), crop) for name, crop in zip(arrays["case"], arrays["target_rgb"], strict=True)]
        outputs = parity.Outputs.of(arrays)
        cases[0] = replace(cases[0], truth=arrays.get("truth_rgb"), paste=INTERFACES[contract.arch].paste_back)
        if "frame_rgb" in arrays:
            cases[0] = replace(cases[0], frame=arrays["frame_rgb"], back=arrays["back_matrix"], landmarks=arrays.get("landmarks"))
            composite = parity.composite(cases[0], outputs, 0)
            if composite is None or np.abs(composite.astype(int) - arrays["composite_rgb"]).max() > 1:
                raise ValueError("composite_rgb is not what paste-back makes of the other arrays")
    except (ValueError, KeyError) as exc:
        raise reference_file.damaged(path, exc) from exc
    return cases, outputs


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
            raise ValueError(f"{name} holds values that are not finite, or above {MAX_VALUE:g}")
