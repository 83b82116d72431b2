"""Manifests made up from their types."""

from __future__ import annotations

import json
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


def of_schema(value: Any, kind: Any, schema: int) -> Any:
    """A manifest, or a part of one, without the keys that came after ``schema``."""
    if get_origin(kind) is dict:
        return {key: of_schema(item, get_args(kind)[1], schema) for key, item in value.items()}
    if get_origin(kind) is list:
        return [of_schema(item, get_args(kind)[0], schema) for item in value]
    if not isinstance(value, dict):
        return value
    known = next(entries(one) for one in (kind, *get_args(kind)) if is_typeddict(one) and set(value) <= set(entries(one)))
    return {key: of_schema(item, known[key].kind, schema) for key, item in value.items() if known[key].since <= schema}


def make_schema_1(bundle: Path) -> None:
    """The bundle as it was exported before schema 2."""
    said = of_schema(manifest.read(bundle), Manifest, 1)
    for artifact in said["artifacts"].values():
        artifact["outputs"].sort(key=lambda tensor: tensor["name"])
    (bundle / manifest.NAME).write_text(json.dumps(said | {"schema": 1}, indent=2, sort_keys=True))
