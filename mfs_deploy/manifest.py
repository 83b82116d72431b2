"""``manifest.json``: what a bundle holds, said so that an app needs nothing else.  Schema 1.

Nothing in it names a person, a path, a host or a time, and the same inputs give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mfs_deploy.errors import BundleError

SCHEMA = 1
NAME = "manifest.json"
KEYS = {
    "schema",
    "tool",
    "architecture",
    "contract",
    "recipe",
    "alignment",
    "paste_back",
    "artifacts",
    "reference",
    "stages",
    "float16",
    "checkpoint",
    "weights",
    "versions",
    "licences",
    "synthetic_media",
    "files",
}

DISCLOSURE = {
    "label": "AI-generated",
    "disclosure": "Pictures made with this model are AI-generated: a face was replaced. Label them so wherever they are shown.",
    "digital_source_type": "compositeWithTrainedAlgorithmicMedia",  # IPTC's term, as used by C2PA
    "consent": "Use only with the consent of the person whose face the weights carry.",
}


def write(folder: Path, manifest: dict[str, Any]) -> None:
    assert set(manifest) == KEYS, set(manifest) ^ KEYS
    text = json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    (folder / NAME).write_text(text + "\n", "utf-8")


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle.

    Raises:
        BundleError: there is none, it is not one, or it is of another schema.
    """
    path = folder / NAME
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as exc:
        raise BundleError(f"{folder} has no {NAME}, so it is not a bundle") from exc
    except (OSError, ValueError) as exc:
        raise BundleError(f"{path} cannot be read: {exc}") from exc
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise BundleError(f"{path} has schema {found!r}, this version reads {SCHEMA}", hint="export the bundle again")
    if set(manifest) != KEYS:
        raise BundleError(f"{path} lacks or adds keys: {sorted(set(manifest) ^ KEYS)}", hint="export the bundle again")
    return manifest


def sha256(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def list_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Relative POSIX path to bytes and sha256, for every file in ``folder`` but the manifest itself."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / NAME:
            found[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    return found


def verify(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """What is wrong with the files of a bundle, one line each; empty when every byte is as it was written."""
    problems = []
    root = folder.resolve()
    for name, want in manifest["files"].items():
        path = (folder / name).resolve()
        if not path.is_relative_to(root):
            problems.append(f"{name} points outside the bundle")
        elif not path.is_file():
            problems.append(f"{name} is missing")
        elif path.stat().st_size != want["bytes"]:
            problems.append(f"{name} has {path.stat().st_size} bytes, the manifest says {want['bytes']}")
        elif sha256(path) != want["sha256"]:
            problems.append(f"{name} has changed: its SHA-256 is not the manifest's")
    extra = sorted(set(list_files(folder)) - set(manifest["files"]))
    problems += [f"{name} is not in the manifest" for name in extra]
    return problems
