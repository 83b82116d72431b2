"""Ranges in a JSON file, for reuse with another identity, and the check that they do not clip its values.

    {"schema": 1, "architecture": "mobilefaceswap", "size": 224, "method": "minmax", "calibration_sha256": "...",
     "ranges": {"target": [0.0, 1.0], "encoder_0_0": [-1.2, 0.9], ...}}

Ranges depend on the identity, because its weights do.  The file does not identify the person.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfs_deploy.errors import CalibrationError
from mfs_deploy.quant.recipes import METHODS, Range

if TYPE_CHECKING:
    from torch import fx

    from mfs_deploy.quant.ranges import Crops

NAME = "ranges.json"  # in a bundle
SCHEMA = 1
MAX_BYTES = 1_000_000
KEYS = {"schema", "architecture", "size", "method", "calibration_sha256", "ranges"}
LARGEST = float(np.finfo(np.float32).max)  # values and scales are float32
MAX_OUTSIDE = 0.01  # share of a node's values that may lie outside ranges of another identity
RECALIBRATE = "calibrate this identity with --calibration, or make the file again"


@dataclass(frozen=True)
class StoredRanges:
    """Ranges by name of node, and what they were measured on."""

    architecture: str
    size: int
    method: str
    calibration_sha256: str
    ranges: Mapping[str, Range]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranges for an export, and their origin.

    Attributes:
        outside: of ranges from a file, the largest share of any node's values that they clip; None for measured ranges.
        coverage: of the calibration set; None for ranges from a file.
        skipped: files or frames of the set that could not be used.
        crops: the set, (N, 3, S, S) in [0, 1]; None for ranges from a file.
    """

    stored: StoredRanges
    outside: float | None = None
    coverage: dict[str, Any] | None = None
    skipped: int = 0
    crops: Crops | None = None

    def as_dict(self) -> dict[str, Any]:
        facts = {"method": self.stored.method, "sha256": self.stored.calibration_sha256}
        if self.outside is not None:
            return {**facts, "reused": True, "largest_share_outside": self.outside}
        return {**facts, "reused": False, "coverage": self.coverage, "skipped": self.skipped}


def text(stored: StoredRanges) -> str:
    """The file's content."""
    ranges = {name: [r.low, r.high] for name, r in sorted(stored.ranges.items())}
    facts = {
        "schema": SCHEMA,
        "architecture": stored.architecture,
        "size": stored.size,
        "method": stored.method,
        "calibration_sha256": stored.calibration_sha256,
        "ranges": ranges,
    }
    return json.dumps(facts, indent=1, allow_nan=False) + "\n"


def read(path: Path, architecture: str, size: int, names: Collection[str]) -> StoredRanges:
    """Read ranges for a network of this architecture and size, with nodes of these names.

    Raises:
        CalibrationError: unreadable, of another form, or for another network.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _refused(path, f"has {path.stat().st_size:,} bytes, at most {MAX_BYTES:,} make sense")
        content = json.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise _refused(path, f"cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise _refused(path, "is not JSON") from exc
    if not isinstance(content, dict) or set(content) != KEYS or content["schema"] != SCHEMA:
        raise _refused(path, f"is not a file of ranges of schema {SCHEMA}")
    if (content["architecture"], content["size"]) != (architecture, size):
        raise _refused(path, f"is for {content['architecture']} at {content['size']}, not for {architecture} at {size}")
    if content["method"] not in METHODS or not isinstance(content["calibration_sha256"], str):
        raise _refused(path, f"says it was made by {content['method']!r}, which is none of {', '.join(METHODS)}")
    ranges = content["ranges"]
    if not isinstance(ranges, dict) or set(ranges) != set(names):
        raise _refused(path, "does not name the values of this network")
    parsed = {name: _range(path, name, pair) for name, pair in ranges.items()}
    return StoredRanges(architecture, size, content["method"], content["calibration_sha256"], parsed)


def _range(path: Path, name: str, pair: Any) -> Range:
    numbers = isinstance(pair, list) and len(pair) == 2 and all(type(x) in (int, float) and abs(x) <= LARGEST for x in pair)
    if not numbers or pair[0] > pair[1]:
        raise _refused(path, f"gives {name} the range {pair!r}; a lower and an upper number are needed")
    return Range(float(pair[0]), float(pair[1]))


def _refused(path: Path, why: str) -> CalibrationError:
    return CalibrationError(f"{path.name} {why}", hint=RECALIBRATE)


def check_transfer(graph: fx.GraphModule, crops: Crops, ranges: Mapping[str, Range]) -> float:
    """Check that ranges of another identity hold this one's values on (N, 3, S, S) crops.

    Returns:
        the largest share of any node's values that they clip.

    Raises:
        CalibrationError: kind calibration-saturated, more than ``MAX_OUTSIDE`` of a node's values are clipped; names the node.
    """
    from mfs_deploy.quant.ranges import saturation

    shares = saturation(graph, crops, ranges)
    worst = max(shares, key=shares.__getitem__)
    if not shares[worst] <= MAX_OUTSIDE:
        raise CalibrationError(
            f"the given ranges clip {shares[worst]:.1%} of the values of {worst}, at most {MAX_OUTSIDE:.0%} are allowed",
            hint="they belong to another identity and do not hold this one's: calibrate it with --calibration",
            kind="calibration-saturated",
        )
    return shares[worst]
