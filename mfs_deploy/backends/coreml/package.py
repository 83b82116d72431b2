"""A ``.mlpackage`` on disk: written so that the same model gives the same bytes, read without leaving the folder.

Layout::

    Manifest.json                              items by identifier; which of them is the model
    Data/com.apple.CoreML/model.mlmodel        the specification, a protobuf
    Data/com.apple.CoreML/weights/weight.bin   see blob.py
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mfs_deploy.backends.quiet import quiet as unlogged
from mfs_deploy.errors import BundleError, MissingExtra

AUTHOR = "com.apple.CoreML"  # names the folder too
MODEL = f"{AUTHOR}/model.mlmodel"
WEIGHTS = f"{AUTHOR}/weights"
# Core ML only asks that the identifiers differ; coremltools draws them at random.
IDENTIFIERS = {name: str(uuid.uuid5(uuid.NAMESPACE_URL, f"mfs-deploy/{name}")) for name in (MODEL, WEIGHTS)}


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Keep coremltools' progress bars, warnings and log lines off the terminal; what it printed is in the yielded buffer."""
    printed = io.StringIO()
    with unlogged(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield printed


def coremltools() -> Any:
    """coremltools, imported quietly.  Raises MissingExtra."""
    with quiet():
        try:
            import coremltools as ct
        except ModuleNotFoundError as exc:
            raise MissingExtra("coreml", "coremltools", "Core ML export") from exc
    return ct


def write(package: Path, spec: Any, weights: Path) -> None:
    """Write a specification and the folder of its weights as a package.  ``package`` must not exist."""
    data = package / "Data"
    (data / WEIGHTS).mkdir(parents=True)
    # Map fields have no order of their own: deterministic=True sorts them by key.
    (data / MODEL).write_bytes(spec.SerializeToString(deterministic=True))
    shutil.copyfile(weights / "weight.bin", data / WEIGHTS / "weight.bin")
    items = {
        IDENTIFIERS[MODEL]: {"description": "CoreML Model Specification", "name": "model.mlmodel", "path": MODEL},
        IDENTIFIERS[WEIGHTS]: {"description": "CoreML Model Weights", "name": "weights", "path": WEIGHTS},
    }
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {key: {"author": AUTHOR, **item} for key, item in items.items()},
        "rootModelIdentifier": IDENTIFIERS[MODEL],
    }
    (package / "Manifest.json").write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n", "utf-8")


def read(package: Path) -> tuple[Any, Path]:
    """The specification (a protobuf ``Model``) and the folder that ``@model_path`` stands for.

    Raises:
        BundleError: not a package, its manifest names no model, or the model is not a Core ML program.
    """
    path = inside(package, Path("Data") / _root_path(package))
    coremltools()
    from coremltools.proto import Model_pb2
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

    spec = Model_pb2.Model()
    try:
        spec.ParseFromString(path.read_bytes())
    except DecodeError as exc:
        raise BundleError(f"{package.name}: {path.name} is damaged: {exc}") from exc
    if spec.WhichOneof("Type") != "mlProgram":
        raise BundleError(f"{package.name}: {path.name} holds {spec.WhichOneof('Type') or 'no model'}, must be an mlProgram")
    return spec, path.parent


def inside(package: Path, relative: Path | str) -> Path:
    """An existing file of the package.  Raises BundleError where it is missing or lies elsewhere."""
    path = (package / relative).resolve()
    if not path.is_relative_to(package.resolve()):
        raise BundleError(f"{package.name} names {str(relative)!r}, which is outside the package")
    if not path.is_file():
        raise BundleError(f"{package.name} is incomplete: {relative} is missing")
    return path


def _root_path(package: Path) -> str:
    """The path of the model file in the manifest, relative to ``Data``."""
    try:
        manifest = json.loads(inside(package, "Manifest.json").read_text("utf-8"))
        path = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    except (ValueError, KeyError, TypeError) as exc:
        raise BundleError(f"{package.name}: Manifest.json is damaged or names no model: {exc!r}") from exc
    if not isinstance(path, str):
        raise BundleError(f"{package.name}: Manifest.json names {path!r} as the model, must be a path")
    return path
