"""A recipe says what it says: overrides in the right order, and nothing unknown is let through."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mfs_deploy.errors import UsageError
from mfs_deploy.graph.operation_kinds import kinds
from mfs_deploy.quant import recipes
from mfs_deploy.quant.recipes import Format

TEXT = """
description = "for a test"
weights = "int8"
activations = "int8"
[gate]
swapped_psnr_db = 36
swapped_max = 0.3
mask_mean = 0.01
composite_psnr_db = 36
identity_cosine = 0.98
[operations.conv]
weights = "int8"
activations = "int16"
[layers.encoder_0_0]
weights = "float32"
activations = "float32"
"""


def test_a_layers_own_format_goes_before_its_kinds_and_that_before_the_default(graph):
    recipe = recipes.parse("mine", TEXT)
    formats = recipe.formats(kinds(graph))
    assert formats["encoder_0_0"] == Format("float32", "float32")
    assert formats["encoder_0_1"] == Format("int8", "int16")
    assert formats["leaky_relu"] == Format("int8", "int8")
    assert recipe.is_static
    assert not recipe.is_float16


def test_a_recipe_written_to_a_file_is_read_back_the_same(tmp_path):
    recipe = recipes.parse("mine", TEXT)
    (tmp_path / "mine.toml").write_text(recipes.to_toml(recipe))
    assert recipes.load(str(tmp_path / "mine.toml")) == recipe
    with pytest.raises(UsageError, match="cannot be read"):
        recipes.load(str(tmp_path / "other.toml"))


def test_every_recipe_that_is_shipped_can_be_read():
    for name in recipes.names():
        assert recipes.load(name).description


@pytest.mark.parametrize("description", ["\N{GRINNING FACE}", "caf\xe9", 'a "b" \\ \n\x7f'])
def test_a_recipe_written_with_any_description_can_be_read(description):
    recipe = replace(recipes.parse("mine", TEXT), description=description)
    assert recipes.parse("mine", recipes.to_toml(recipe)) == recipe


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("weights = ", "is not TOML"),
        (TEXT + '[layers.x]\nweights = "int8"', "layers.x: activations missing"),
        (TEXT.replace("for a test", "").replace('description = ""\n', ""), "description missing"),
        ("bits = 8\n" + TEXT, "bits not known"),
        (TEXT.replace("operations.conv", "operations.convolution"), "convolution not known"),
        (TEXT.replace('"int16"', '"int4"'), "operations.conv.activations = 'int4'"),
        (TEXT.replace('weights = "int8"\nactivations = "int8"', 'weights = 8\nactivations = "int8"'), "weights = 8"),
        ("layers = 3\n" + TEXT.split("[layers")[0], "layers must hold tables"),
        (TEXT.replace("swapped_max = 0.3", ""), "gate: swapped_max missing"),
        (TEXT.replace("swapped_max = 0.3", "swapped_max = nan"), "gate.swapped_max = nan"),
        (TEXT.replace("swapped_max = 0.3", f"swapped_max = {10**400}"), "gate.swapped_max = 1000"),
        (f"long = {'9' * 5000}", "is not TOML"),
        (f"deep = {'[' * 100_000}", "is not TOML"),
    ],
)
def test_what_a_recipe_must_not_hold_is_named(text, said):
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        recipes.parse("mine", text)


def test_a_layer_that_the_network_lacks_is_named_with_those_it_has(graph):
    recipe = recipes.parse("mine", TEXT.replace("encoder_0_0", "encoder_9"))
    with pytest.raises(UsageError, match="no layer encoder_9") as caught:
        recipe.formats(kinds(graph))
    assert "encoder_0_1" in caught.value.hint
