"""Templates in a file: safetensors, whose arrays are the artifacts' files as bytes, and whose metadata says what they are.

No pickle, no paths that are followed, nothing unpacked: a reader holds every place and form against what there can be.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.errors import ConversionError, UsageError
from mfs_deploy.stamping.forms import REPRESENTATIONS
from mfs_deploy.stamping.template import DIGEST, Slot, Template

FORMAT = "mfs-template"
VERSION = "1"
MAX_BYTES = 2_000_000_000
MAX_RANK = 4

Array = NDArray[Any]


def pack(templates: Sequence[Template], facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """One file's content; the same templates give the same bytes.

    Args:
        facts: what else is to be known, as JSON.
        arrays: what else is to be carried, by names without "/".
    """
    from safetensors.numpy import save

    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    said = []
    for i, template in enumerate(templates):
        entry = {key: getattr(template, key) for key in ("backend", "arch", "size", "recipe", "info", "versions")}
        said.append({**entry, "slots": [asdict(slot) for slot in template.slots]})
        tensors |= {f"{i}/{name}": np.frombuffer(content, np.uint8) for name, content in template.files.items()}
    header = json.dumps({"templates": said, "facts": facts}, sort_keys=True)
    return save(dict(sorted(tensors.items())), {"format": FORMAT, "version": VERSION, "header": header})


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
            metadata = f.metadata() or {}
            if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
                raise _refused(path, f"is not a template of version {VERSION}")
            tensors = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118 (not a dict)
        header = json.loads(metadata["header"])
        templates = tuple(_template(i, entry, tensors) for i, entry in enumerate(header["templates"]))
        facts = header["facts"]
        if not isinstance(facts, dict):
            raise TypeError("facts are no object")
    except OSError as exc:
        raise _refused(path, f"cannot be read: {exc.strerror or exc}") from exc
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError, UsageError) as exc:
        raise _refused(path, f"is damaged: {exc}") from exc
    return templates, facts, {name: array for name, array in tensors.items() if "/" not in name}


def write(path: Path, content: bytes) -> None:
    """Beside, then renamed: readers see the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name[:80]}.", dir=path.parent)
    try:
        with open(fd, "wb") as f:
            f.write(content)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _template(i: int, said: dict[str, Any], tensors: Mapping[str, Array]) -> Template:
    """Raises ValueError, KeyError or TypeError where something is not as ``pack`` makes it."""
    from mfs_deploy.backends.all import BACKENDS
    from mfs_deploy.quant import recipe as recipes

    backend = BACKENDS[said["backend"]]
    files = {key.partition("/")[2]: array for key, array in tensors.items() if key.partition("/")[0] == str(i)}
    for name, array in files.items():
        if array.dtype != np.uint8 or array.ndim != 1:
            raise ValueError(f"{name} is not bytes")
        parts = name.split("/")
        if parts[0] not in backend.FILES or any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
            raise ValueError(f"{name!r} is no file of {backend.TITLE}")
    if {name.split("/")[0] for name in files} != set(backend.FILES):
        raise ValueError(f"files of {backend.TITLE} are missing")
    if not isinstance(said["arch"], str) or not isinstance(said["size"], int):
        raise TypeError("architecture and size")
    recipes.from_dict(said["recipe"])
    return Template(
        backend=said["backend"],
        arch=said["arch"],
        size=said["size"],
        recipe=dict(said["recipe"]),
        files={name: array.tobytes() for name, array in files.items()},
        slots=tuple(_slot(entry, files) for entry in said["slots"]),
        info=dict(said["info"]),
        versions={str(name): str(version) for name, version in said["versions"].items()},
    )


def _slot(said: dict[str, Any], files: Mapping[str, Array]) -> Slot:
    slot = Slot(**{**said, "axes": tuple(said["axes"])})
    for value in (slot.offset, slot.length, slot.part, *slot.axes):
        if type(value) is not int or value < 0:
            raise ValueError(f"a place or axis is {value!r}")
    if slot.offset + slot.length > len(files[slot.file]):
        raise ValueError(f"{slot.weights} lies outside {slot.file}")
    if slot.weights != DIGEST and slot.representation not in REPRESENTATIONS:
        raise ValueError(f"{slot.representation!r} is no form of weights")
    if sorted(slot.axes) != list(range(len(slot.axes))) or len(slot.axes) > MAX_RANK:
        raise ValueError(f"{slot.axes} is no order of axes")
    return slot


def _refused(path: Path, why: str) -> ConversionError:
    return ConversionError(f"{path.name} {why}", hint="build it again with mfs template build", kind="template")
