"""``manifest.json``: what a bundle holds, said so that an app needs nothing else.  Schema 1.

Nothing in it names a person, a path, a host or a time, and the same inputs give the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mfs_deploy.errors import BundleError
from mfs_deploy.files import sha256

SCHEMA = 1
NAME = "manifest.json"
MAX_BYTES = 10_000_000

LARGEST = 1e15  # of any number in a file

Text = str
Number = (int, float)
# The form of each entry: a type, a one-entry dict for "any name to this form", a dict of names, a list of one form, or a form and
# None where null may stand for it.
CASE: dict[str, Any] = {
    "case": Text,
    **{"swapped_psnr_db": Number, "swapped_max": Number},
    **dict.fromkeys(("mask_mean", "composite_psnr_db", "identity_cosine"), (Number, None)),
    "quality": ({"psnr_db": Number, "reference_psnr_db": Number}, None),
}
FORM: dict[str, Any] = {
    "schema": int,
    "tool": Text,
    "architecture": Text,
    "contract": {"arch": Text, "size": int, "input": dict, "outputs": [dict]},
    "recipes": {
        ...: {
            **{"weights": Text, "activations": Text, "description": Text},
            **{key: {...: {"weights": Text, "activations": Text}} for key in ("operations", "layers")},
            "gate": {...: Number},
        },
    },
    "calibration": dict,  # empty where no recipe needs one
    "alignment": dict,
    "paste_back": dict,
    "artifacts": {
        ...: {
            "files": [Text],
            "bytes": int,
            "sha256": {...: Text},
            "layout": Text,
            "recipe": Text,
            "format": Text,
            "inputs": [dict],
            "outputs": [dict],
            "parameters": {...: int},
            "macs": int,
            "float32_layers": [Text],
            "parity": {"runtime": Text, "cases": [CASE]},  # no cases where it was not measured
        }
    },
    "reference": {...: Text},  # empty where parity was not measured, and so too the next two
    "stages": {...: Number},
    "float16": dict,
    "checkpoint": [{"role": Text, "name": Text, "bytes": int, "sha256": Text, "recognised": Text}],
    "weights": {"sha256": Text},
    "versions": {...: Text},
    "licences": {...: Text},
    "synthetic_media": {...: Text},
    "files": {...: {"bytes": int, "sha256": Text}},
}

DISCLOSURE = {
    "label": "AI-generated",
    "disclosure": "Pictures made with this model are AI-generated: a face was replaced. Label them so wherever they are shown.",
    "digital_source_type": "compositeWithTrainedAlgorithmicMedia",  # IPTC's term, as used by C2PA
    "consent": "Use only with the consent of the person whose face the weights carry.",
}


def write(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / NAME).write_bytes(encode(manifest))


def encode(manifest: dict[str, Any]) -> bytes:
    """The file's content.  Raises ValueError where ``read`` would refuse it."""
    text = json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    content = text.encode("utf-8")
    problem = misfit(json.loads(text), FORM, "manifest")
    if problem is None and manifest["schema"] != SCHEMA:
        problem = f"manifest has schema {manifest['schema']}"
    if problem is None and len(content) > MAX_BYTES:
        problem = f"manifest has {len(content):,} bytes"
    if problem is not None:
        raise ValueError(problem)
    return content


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle, every entry of the form that ``FORM`` says.

    Raises:
        BundleError: there is none, it is not one, or it is of another schema.
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
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise BundleError(f"{path} has schema {found!r}, this version reads {SCHEMA}", hint="export the bundle again")
    problem = misfit(manifest, FORM, "manifest")
    if problem is not None:
        raise BundleError(f"{path}: {problem}", hint="export the bundle again")
    return manifest


def network(manifest: dict[str, Any]) -> dict[str, Any]:
    """Which network a bundle holds: what results measured on it carry, so that they can be told from another's."""
    return {
        "architecture": manifest["architecture"],
        "size": manifest["contract"]["size"],
        "weights_sha256": manifest["weights"]["sha256"],
    }


def parse(text: str) -> Any:
    """JSON as a stranger may write it, its numbers finite and of a size that can be printed.

    Raises:
        ValueError: it is no JSON, or holds another number.
        RecursionError: it is nested too deeply.
    """

    def number(kind: type[int] | type[float]) -> Any:
        def read(digits: str) -> int | float:
            value = kind(digits)
            if not abs(value) <= LARGEST:  # so also for NaN
                raise ValueError(f"{digits[:20]} is no number that makes sense")
            return value

        return read

    return json.loads(text, parse_int=number(int), parse_float=number(float), parse_constant=number(float))


def misfit(value: object, form: Any, where: str) -> str | None:
    """What does not have its form (see ``FORM``), in words that name it, or None."""
    if isinstance(form, tuple) and None in form:
        return None if value is None else misfit(value, form[0], where)
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return f"{where} is no object"
        if ... not in form and set(value) != set(form):
            return f"{where} lacks or adds {sorted(map(repr, set(value) ^ set(form)))[:3]}"
        parts = ((f"{where}.{key!r}"[:120], item, form.get(..., form.get(key))) for key, item in value.items())
    elif isinstance(form, list):
        if not isinstance(value, list):
            return f"{where} is no list"
        parts = ((f"{where}[{i}]", item, form[0]) for i, item in enumerate(value))
    else:
        fits = isinstance(value, form) and not isinstance(value, bool)
        return None if fits else f"{where} is of type {type(value).__name__}"
    return next((problem for part in parts if (problem := misfit(part[1], part[2], part[0])) is not None), None)


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
    here = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()}
    here.pop(NAME, None)
    for name, want in manifest["files"].items():
        path = here.pop(name, None)  # only what is in the folder is looked at, so no name can lead out of it
        if path is None:
            problems.append(f"{name!r} is missing")
        elif path.is_symlink() or not path.is_file():
            problems.append(f"{name!r} is not a regular file")
        elif path.stat().st_size != want["bytes"]:
            problems.append(f"{name!r} has {path.stat().st_size} bytes, the manifest says {want['bytes']}")
        elif sha256(path) != want["sha256"]:
            problems.append(f"{name!r} has changed: its SHA-256 is not the manifest's")
    return problems + [f"{name!r} is not in the manifest" for name in sorted(here)]
