"""The backends, by the name used in ``--backends``.

Adding one here: a folder with a module that satisfies ``base.Backend``, and a line.  Or in a package of your own: an entry point of
the group ``mfs_deploy.backends`` (see ``installed`` and docs/adding-a-backend.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mfs_deploy.backends.base import Backend, Layered
from mfs_deploy.backends.coreml import backend as coreml
from mfs_deploy.backends.installed import Backends
from mfs_deploy.backends.machine import Machine
from mfs_deploy.backends.ncnn import backend as ncnn
from mfs_deploy.backends.ncnn import layers as ncnn_layers
from mfs_deploy.backends.onnx import backend as onnx
from mfs_deploy.backends.onnx import layers as onnx_layers
from mfs_deploy.backends.tflite import backend as tflite
from mfs_deploy.backends.tflite import layers as tflite_layers
from mfs_deploy.backends.tflite import runner as tflite_runner
from mfs_deploy.errors import UsageError
from mfs_deploy.quant import recipes
from mfs_deploy.quant.recipes import Recipe

OURS: dict[str, Backend] = {"onnx": onnx, "tflite": tflite, "ncnn": ncnn, "coreml": coreml}
BACKENDS: Mapping[str, Backend] = Backends(OURS)
LAYERED: dict[str, Layered] = {"onnx": onnx_layers, "tflite": tflite_layers, "ncnn": ncnn_layers}
# Another runtime for a backend's artifacts, or None where it is not installed.  Its outputs are shown and not judged.
OPINIONS: dict[str, Callable[[], Machine | None]] = {"tflite": tflite_runner.tensorflow_machine}


def has(name: str, recipe: Recipe) -> bool:
    """Whether a backend has every number format of a recipe."""
    return all(wanted in BACKENDS[name].FORMATS for wanted in recipe.all_formats())


def check_recipe(name: str, recipe: Recipe) -> None:
    """Raises UsageError where a backend does not have a recipe, with those it has."""
    if has(name, recipe):
        return
    missing = next(wanted for wanted in recipe.all_formats() if wanted not in BACKENDS[name].FORMATS)
    own = [other for other in recipes.names() if has(name, recipes.load(other))]
    others = [other for other in BACKENDS if has(other, recipe)]
    raise UsageError(
        f"{BACKENDS[name].TITLE} does not have the recipe {recipe.name}: {missing}",
        hint=f"for {name} choose from: {', '.join(own)}" + (f"; or --backends {','.join(others)}" if others else ""),
    )
