"""What the app would get from each kind of package, against PyTorch, and what the package says of itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from mfs_deploy import metrics
from mfs_deploy.backends.coreml import backend as coreml
from mfs_deploy.backends.coreml import program as mil
from mfs_deploy.errors import UsageError

# Measured, less a margin: swapped PSNR and largest error, mask PSNR and largest error.  A mask that leaves as an image of 16-bit
# floats is rounded to them, by at most 2^-12, in the float32 recipe too.
BOUNDS = {"fp32": (135, 4e-6, 76, 2.0**-12 + 4e-6), "fp16": (71, 4e-3, 67, 6e-3)}
STORED = {"fp32": "float32", "fp16": "float16"}


@pytest.mark.parametrize("recipe", BOUNDS)
def test_package_with_images_agrees_with_torch(package_of, contract, crop, expected, recipe):
    results = coreml.open(package_of(recipe, "image"), contract).run(crop)
    bounds = BOUNDS[recipe]
    for got, want, least_psnr, most in zip(results, expected, bounds[0::2], bounds[1::2], strict=True):
        assert got.dtype == np.float32
        assert metrics.psnr_db(got, want, peak=1.0) > least_psnr
        assert metrics.max_error(got, want) < most


@pytest.mark.parametrize("io", ["image", "tensor"])
@pytest.mark.parametrize("recipe", STORED)
def test_weights_and_arithmetic_have_the_precision_of_the_recipe(package_of, recipe, io):
    """A float32 package under a float16 name, or the reverse, would pass every loose parity gate."""
    assert coreml.describe(package_of(recipe, io)).parameters == {STORED[recipe]: 495972}
    _, program = mil.load(package_of(recipe, io))
    computed = {program.types[op.outputs[0]].kind.name for op in program.operations if op.kind == "conv"}
    assert computed == {recipe}


def test_describe_names_the_images(package_of):
    info = coreml.describe(package_of("fp16", "image"))
    assert [(i.name, i.shape, i.dtype) for i in (*info.inputs, *info.outputs)] == [
        ("target", (1, 3, 224, 224), "RGB image 224x224"),
        ("swapped", (1, 3, 224, 224), "RGB image 224x224"),
        ("mask", (1, 1, 224, 224), "GRAYSCALE_FLOAT16 image 224x224"),
    ]
    assert info.macs == 296_088_576
    assert info.metadata == {"version": "1.2.3", "recipe": "as asked", "identity": "Zoë"}


def test_images_go_in_as_bytes(package_of, contract, crop):
    """A target between two byte values gives what the nearer byte gives."""
    runner = coreml.open(package_of("fp32", "image"), contract)
    between = (crop * 255 * np.float32(0.99) + np.float32(0.2)) / np.float32(255)
    rounded = np.rint(between * 255).astype(np.float32) / np.float32(255)
    assert np.abs(between - rounded).max() > 1e-3
    for a, b in zip(runner.run(between), runner.run(rounded), strict=True):
        np.testing.assert_array_equal(a, b)


def test_conversion_to_images_leaves_the_graph_alone(convert, graph, crop, expected):
    import torch

    convert(graph, "fp16")
    with torch.inference_mode():
        swapped, _ = graph(torch.from_numpy(crop))
    assert metrics.max_error(swapped.numpy(), expected[0]) < 1e-5


def test_unknown_io_is_refused(graph, contract, tmp_path):
    from mfs_deploy.backends.base import Conversion
    from mfs_deploy.quant import recipes

    with pytest.raises(UsageError, match="pixels") as caught:
        coreml.convert(Conversion(graph, contract, recipes.load("fp32"), coreml_io="pixels"), tmp_path)
    assert "image, tensor" in caught.value.hint


def test_a_failure_carries_the_converter_s_words(graph, contract, tmp_path):
    """An operation that coremltools cannot convert."""
    import copy

    import torch

    from mfs_deploy.backends.base import Conversion
    from mfs_deploy.errors import ConversionError
    from mfs_deploy.quant import recipes

    broken = copy.deepcopy(graph)
    node = next(node for node in broken.graph.nodes if node.name == "sigmoid")
    with broken.graph.inserting_after(node):
        odd = broken.graph.call_function(torch.special.i1e, (node,))
    node.replace_all_uses_with(odd, delete_user_cb=lambda user: user is not odd)
    broken.recompile()
    with pytest.raises(ConversionError, match=r"coremltools failed: .*special_i1e") as caught:
        coreml.convert(Conversion(broken, contract, recipes.load("fp32"), coreml_io="tensor"), tmp_path)
    assert "\n" not in caught.value.message
    assert list(tmp_path.iterdir()) == []


class PixelModel:
    """What Core ML's own model object takes and gives with images: PIL in mode RGB, and F for 16-bit greys."""

    def predict(self, inputs):
        image = inputs["target"]
        assert image.mode == "RGB"
        assert image.size == (224, 224)
        pixels = np.asarray(image)
        swapped = Image.fromarray(pixels[::-1].copy()).convert("RGBA")
        return {"swapped": swapped, "mask": Image.fromarray(pixels[..., 0].astype(np.float32) / 510)}


def test_core_ml_runner_turns_arrays_into_images_and_back(crop, contract):
    swapped, mask = coreml.CoreMLRunner(PixelModel(), contract, "9.0", image=True).run(crop)
    assert swapped.shape == (1, 3, 224, 224)
    assert mask.shape == (1, 1, 224, 224)
    np.testing.assert_allclose(swapped, crop[:, :, ::-1], atol=1e-6)
    np.testing.assert_allclose(mask, crop[:, :1] / 2, atol=1e-6)


def test_runtime_names_what_ran(package_of, contract):
    assert coreml.open(package_of("fp16", "tensor"), contract).runtime == "MIL evaluator (coremltools 9.0 spec)"
    assert coreml.CoreMLRunner(PixelModel(), contract, "9.0", image=True).runtime.startswith("Core ML 9.0 (macOS")


def test_xcode_shows_what_each_feature_is(package_of):
    spec, _ = mil.load(package_of("fp16", "image"))
    assert [f.shortDescription for f in spec.description.input] == ["aligned crop of the target face"]
    assert all(f.shortDescription for f in spec.description.output)
    assert spec.description.metadata.versionString == "1.2.3"


def test_manifest_is_what_core_ml_expects(package_of):
    package = package_of("fp16", "image")
    manifest = json.loads((package / "Manifest.json").read_text())
    root = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
    assert (package / "Data" / root["path"]).is_file()
    assert {item["path"] for item in manifest["itemInfoEntries"].values()} == {
        "com.apple.CoreML/model.mlmodel",
        "com.apple.CoreML/weights",
    }
    files = sorted(str(p.relative_to(package)) for p in package.rglob("*") if p.is_file())
    assert files == [
        "Data/com.apple.CoreML/model.mlmodel",
        "Data/com.apple.CoreML/weights/weight.bin",
        "Manifest.json",
    ]


def test_coremltools_own_reader_takes_the_package(package_of):
    """Its C++ library reads the manifest; ours wrote it."""
    from mfs_deploy.backends.coreml import package as mil_package

    ct = mil_package.coremltools()
    model = ct.models.MLModel(str(package_of("fp16", "image")), skip_model_load=True)
    assert [f.name for f in model.get_spec().description.output] == ["swapped", "mask"]
    assert model.weights_dir.endswith("weights")
