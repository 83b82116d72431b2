"""Template and kit files: safetensors, with the artifacts' files as byte arrays and a JSON description in the metadata.

No pickle, no path is followed, nothing is unpacked: the reader checks every place and encoding before use.  The checksum finds
damage; it is not a signature.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.errors import ConversionError, MfsError
from mfs_deploy.stamping.encodings import BIASES, REPRESENTATIONS, parts
from mfs_deploy.stamping.template import DIGEST, Template, WeightPlace

FORMAT = "mfs-template"
VERSION = "2"
MAX_BYTES = 2_000_000_000
MAX_RANK = 4
LARGEST = float(np.finfo(np.float32).max)
MAX_EXPONENT = 32  # of a factor, which is a power of two
MAX_NAME = 200  # of a recipe, from which names of folders are made

Array = NDArray[Any]


def pack(templates: Sequence[Template], facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """One file's content; the same templates give the same bytes.

    Args:
        facts: further values, as JSON.
        arrays: further arrays, by names without "/".
    """
    from safetensors.numpy import save

    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    entries = []
    for i, template in enumerate(templates):
        entry = {key: getattr(template, key) for key in ("backend", "arch", "size", "recipe", "info", "versions")}
        entries.append({**entry, "slots": [asdict(place) for place in template.places]})
        tensors |= {f"{i}/{name}": np.frombuffer(content, np.uint8) for name, content in template.files.items()}
    header = json.dumps({"templates": entries, "facts": facts}, sort_keys=True)
    # One entry: safetensors writes several in random order (https://github.com/safetensors/safetensors/issues/584).
    return save(dict(sorted(tensors.items())), {FORMAT: f"{VERSION} {_checksum(header, tensors)} {header}"})


def unpack(path: Path) -> tuple[tuple[Template, ...], dict[str, Any], dict[str, Array]]:
    """What ``pack`` was given.

    Raises:
        ConversionError: kind template: unreadable, of another version, or not as ``pack`` makes it.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if path.stat().st_size > MAX_BYTES:
            raise _refused(path, f"has {path.stat().st_size:,} bytes, at most {MAX_BYTES:,} make sense")
        with safe_open(path, framework="np") as f:
            version, _, content = (f.metadata() or {}).get(FORMAT, "").partition(" ")
            if version != VERSION:
                raise _refused(path, f"is not a template of version {VERSION}")
            tensors = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118 (not a dict)
        checksum, _, text = content.partition(" ")
        if checksum != _checksum(text, tensors):
            raise ValueError("checksum mismatch")
        header = json.loads(text)
        templates = tuple(_template(i, entry, tensors) for i, entry in enumerate(header["templates"]))
        facts = header["facts"]
        if not isinstance(facts, dict):
            raise TypeError("facts are not a JSON object")
    except OSError as exc:
        raise _refused(path, f"cannot be read: {exc.strerror or exc}") from exc
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError, MfsError) as exc:
        raise _refused(path, f"is damaged: {exc}") from exc
    return templates, facts, {name: array for name, array in tensors.items() if "/" not in name}


def _checksum(header: str, tensors: Mapping[str, Array]) -> str:
    found = hashlib.sha256(header.encode())
    for name, array in sorted(tensors.items()):
        found.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _template(i: int, entry: dict[str, Any], tensors: Mapping[str, Array]) -> Template:
    """Raises ValueError, KeyError or TypeError where something differs from what ``pack`` writes."""
    from mfs_deploy.backends.base import ArtifactInfo
    from mfs_deploy.backends.registry import BACKENDS
    from mfs_deploy.quant import recipes

    backend = BACKENDS[entry["backend"]]
    files = {key.partition("/")[2]: array for key, array in tensors.items() if key.partition("/")[0] == str(i)}
    for name, array in files.items():
        if array.dtype != np.uint8 or array.ndim != 1:
            raise ValueError(f"{name!r} is not bytes")
        if name.split("/")[0] not in backend.FILES or not all(_is_plain(part) for part in name.split("/")):
            raise ValueError(f"{name!r} is not a file of {backend.TITLE}")
        if any(other.startswith(f"{name}/") for other in files):
            raise ValueError(f"{name} is both a file and a folder")
    if {name.split("/")[0] for name in files} != set(backend.FILES):
        raise ValueError(f"files of {backend.TITLE} are missing")
    recipe, info, versions = (dict(_typed(entry[key], dict)) for key in ("recipe", "info", "versions"))
    ArtifactInfo(**info)  # refuses other names
    try:
        name = recipes.from_dict(recipe).name
    except MfsError as exc:
        raise ValueError(exc.message) from exc
    if not _is_plain(_typed(name, str)) or len(name) > MAX_NAME:
        raise ValueError(f"{name!r} is not a recipe's name")
    return Template(
        backend=entry["backend"],
        arch=_typed(entry["arch"], str),
        size=_typed(entry["size"], int),
        recipe=recipe,
        files={name: array.tobytes() for name, array in files.items()},
        places=tuple(_place(place, files) for place in _typed(entry["slots"], list)),
        info=info,
        versions={name: _typed(version, str) for name, version in versions.items()},
    )


def _place(entry: dict[str, Any], files: Mapping[str, Array]) -> WeightPlace:
    place = WeightPlace(**{**entry, "axes": tuple(_typed(entry["axes"], list))})
    for value in (place.offset, place.length, place.part, *place.axes):
        if _typed(value, int) < 0:
            raise ValueError(f"a place or axis is {value!r}")
    if not _is_plain(_typed(place.weights, str)) or (_typed(place.counted_by, str) and not _is_plain(place.counted_by)):
        raise ValueError(f"{place.weights!r} or {place.counted_by!r} is not a weight's name")
    if place.offset + place.length > len(files[place.file]):
        raise ValueError(f"{place.weights} lies outside {place.file}")
    if place.counted_by:
        if place.representation not in BIASES or place.times is None or place.weights == DIGEST:
            raise ValueError(f"{place.weights} is quantized by {place.counted_by} and lacks its type or steps")
    elif place.weights != DIGEST and (place.representation not in REPRESENTATIONS or place.part >= parts(place.representation)):
        raise ValueError(f"{place.representation!r} has no part {place.part}")
    if sorted(place.axes) != list(range(len(place.axes))) or len(place.axes) > MAX_RANK:
        raise ValueError(f"{place.axes} is not an order of axes")
    mantissa, exponent = math.frexp(_typed(place.factor, float))
    if mantissa != 0.5 or abs(exponent) > MAX_EXPONENT:
        raise ValueError(f"a factor is {place.factor!r}")
    if place.times is not None and not 0 < _typed(place.times, float) <= LARGEST:
        raise ValueError(f"steps are multiplied by {place.times!r}")
    return place


def _typed(value: Any, kind: type) -> Any:
    """``value``, which must have exactly this type: True is not an int here, nor 1.0."""
    if type(value) is not kind:
        raise TypeError(f"{value!r} is not of type {kind.__name__}")
    return value


def _is_plain(name: str) -> bool:
    """Whether it is one file's or folder's name on every system."""
    return name not in ("", ".", "..") and name.isprintable() and not set(name) & set("/\\:")


def _refused(path: Path, why: str) -> ConversionError:
    return ConversionError(f"{path.name} {why}", hint="build it again with mfs kit build", kind="template")
