"""``manifest.json``: all that an app needs to know of a bundle.  ``docs/bundle-format.md`` explains every key.

Nothing in it names a person, a path, a host or a time, and the same inputs give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from mfs_deploy.bundle.manifest_types import SCHEMA as SCHEMA
from mfs_deploy.bundle.manifest_types import FileEntry, Manifest, NetworkEntry, SyntheticMediaEntry
from mfs_deploy.bundle.schema import parse, schema_error
from mfs_deploy.errors import BundleError
from mfs_deploy.files import sha256

NAME = "manifest.json"
MAX_BYTES = 10_000_000

DISCLOSURE: SyntheticMediaEntry = {
    "label": "AI-generated",
    "disclosure": "Pictures made with this model are AI-generated: a face was replaced. Label them so wherever they are shown.",
    "digital_source_type": "compositeWithTrainedAlgorithmicMedia",  # IPTC's term, as used by C2PA
    "consent": "Use only with the consent of the person whose face the weights carry.",
}


def write(folder: Path, manifest: Manifest) -> None:
    (folder / NAME).write_bytes(to_json(manifest))


def to_json(manifest: Mapping[str, Any]) -> bytes:
    """The file's content.  Raises ValueError if ``read`` would refuse it, or for an earlier schema."""
    text = json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    content = text.encode("utf-8")
    problem = schema_error(json.loads(text), Manifest, "manifest", schema=SCHEMA)
    if problem is None and manifest["schema"] != SCHEMA:
        problem = f"manifest has schema {manifest['schema']}"
    if problem is None and len(content) > MAX_BYTES:
        problem = f"manifest has {len(content):,} bytes"
    if problem is not None:
        raise ValueError(problem)
    return content


def read(folder: Path) -> Manifest:
    """The manifest of a bundle, with the type of every entry checked.

    Raises:
        BundleError: there is none, it is not one, or it is of a later schema.
    """
    path = folder / NAME
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise BundleError(f"{path} has {size:,} bytes; at most {MAX_BYTES:,} make sense")
        manifest = parse(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise BundleError(f"{folder} has no {NAME}, so it is not a bundle") from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise BundleError(f"{path} cannot be read: {exc}") from exc
    schema = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        raise BundleError(f"{path} has schema {schema!r}, this version reads 1 to {SCHEMA}", hint="export the bundle again")
    problem = schema_error(manifest, Manifest, "manifest", schema=schema)
    if problem is not None:
        raise BundleError(f"{path}: {problem}", hint="export the bundle again")
    return cast(Manifest, manifest)


def network(manifest: Manifest) -> NetworkEntry:
    """The network of a bundle, as results measured on it record it."""
    return {
        "architecture": manifest["architecture"],
        "size": manifest["contract"]["size"],
        "weights_sha256": manifest["weights"]["sha256"],
    }


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Relative POSIX path to bytes and sha256, for every file in ``folder`` but the manifest itself."""
    found: dict[str, FileEntry] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / NAME:
            found[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    return found


def verify(folder: Path, manifest: Manifest) -> list[str]:
    """The differences between a bundle's files and its manifest, one line each."""
    problems = []
    here = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()}
    here.pop(NAME, None)
    for name, want in manifest["files"].items():
        path = here.pop(name, None)  # only files of the folder are opened, so no name can lead out of it
        if path is None:
            problems.append(f"{name!r} is missing")
        elif path.is_symlink() or not path.is_file():
            problems.append(f"{name!r} is not a regular file")
        elif path.stat().st_size != want["bytes"]:
            problems.append(f"{name!r} has {path.stat().st_size} bytes, the manifest says {want['bytes']}")
        elif sha256(path) != want["sha256"]:
            problems.append(f"{name!r} has changed: its SHA-256 is not the manifest's")
    return problems + [f"{name!r} is not in the manifest" for name in sorted(here)]
