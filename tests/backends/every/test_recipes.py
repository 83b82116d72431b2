"""A recipe goes only to backends that have every format it names."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest

from mfs_deploy.backends.base import Conversion
from mfs_deploy.backends.registry import BACKENDS, check_recipe
from mfs_deploy.errors import UsageError
from mfs_deploy.quant.recipes import (
    ACTIVATIONS,
    WEIGHTS,
    Format,
    Recipe,
)

LACKING = {
    "onnx": [("palette6", "float32"), ("float32", "int8"), ("float16", "float32")],
    "tflite": [("palette6", "float32"), ("float32", "int8"), ("float32", "float16")],
    "ncnn": [("int8", "float32"), ("int8", "float16"), ("int8", "int16"), ("float16", "int8"), ("palette4", "float16")],
    "coreml": [("int8", "int16"), ("float16", "int8"), ("palette4", "int8"), ("float16", "float32")],
}


def recipes_with(wanted: Format) -> list[Recipe]:
    """One that names a format for all, for a kind, and for a layer; else float32."""
    plain: dict[str, Any] = {"name": "mine", "weights": "float32", "activations": "float32", "description": ""}
    return [
        Recipe(**plain | {"weights": wanted.weights, "activations": wanted.activations}),
        Recipe(**plain, operations={"conv": wanted}),
        Recipe(**plain, layers={"decoder_0_0": wanted}),
    ]


def test_a_layer_that_the_network_lacks_is_refused_before_anything_is_converted(graph, contract):
    recipe = Recipe("mine", "float32", "float32", "", layers={"encoder_9": Format("float32", "float32")})
    with pytest.raises(UsageError, match="no layer encoder_9"):
        Conversion(graph, contract, recipe)


def test_what_a_backend_lacks_is_refused_wherever_a_recipe_names_it_and_the_rest_passes(name, backend):
    assert not {Format(*pair) for pair in LACKING[name]} & set(backend.FORMATS)
    for wanted in (Format(*pair) for pair in product(WEIGHTS, ACTIVATIONS)):
        for recipe in recipes_with(wanted):
            if wanted in backend.FORMATS:
                check_recipe(name, recipe)
                continue
            with pytest.raises(UsageError, match=f"^{re.escape(backend.TITLE)} does not have the recipe mine: {wanted}$") as caught:
                check_recipe(name, recipe)
            assert f"for {name} choose from: " in caught.value.hint
            others = [other for other in BACKENDS if wanted in BACKENDS[other].FORMATS]
            assert ("--backends " + ",".join(others) in caught.value.hint) == bool(others)
