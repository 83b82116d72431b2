"""An artifact's inputs and outputs as a manifest lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mfs_deploy.bundle.manifest_types import SpecEntry, TensorEntry


def tensor_entry(info: Mapping[str, Any], spec: SpecEntry) -> TensorEntry:
    """An input or output, ``TensorInfo`` as a dict, with the stored numbers that the contract's range stands for."""
    low, high = (bound / info["scale"] + info["zero_point"] for bound in (spec["low"], spec["high"]))
    is_float = info["element"].startswith("float")
    return {
        "name": info["name"],
        "shape": list(info["shape"]),
        "dtype": info["dtype"],
        "kind": info["kind"],
        "element": info["element"],
        "colour": spec["colour"],
        "scale": info["scale"],
        "zero_point": info["zero_point"],
        "low": low if is_float else round(low),
        "high": high if is_float else round(high),
    }
