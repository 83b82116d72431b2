"""Manifests made up from their types."""

from __future__ import annotations

from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, is_typeddict

from mfs_deploy.bundle import manifest
from mfs_deploy.bundle.manifest_types import Manifest
from mfs_deploy.bundle.schema import entries


def example(kind: Any, schema: int = manifest.SCHEMA) -> Any:
    """The least value of a type of a file of ``schema``."""
    if is_typeddict(kind):
        if not kind.__total__:
            return {}
        return {key: example(one.kind, schema) for key, one in entries(kind).items() if one.required and one.since <= schema}
    if get_origin(kind) in (dict, list):
        return get_origin(kind)()
    kinds = [one for one in get_args(kind) if one is not NoneType]
    return example(kinds[0], schema) if kinds else {str: "x", int: 1, float: 1.0, bool: True}[kind]


def write(folder: Path) -> None:
    """A manifest of the files in ``folder``, and of nothing else."""
    whole: Manifest = example(Manifest)
    manifest.write(folder, {**whole, "schema": manifest.SCHEMA, "files": manifest.list_files(folder)})
