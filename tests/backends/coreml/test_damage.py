"""Damaged, incomplete or foreign packages: refused before they run, with the name of what is wrong."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from mfs_deploy import architectures
from mfs_deploy.backends.coreml import backend as coreml
from mfs_deploy.backends.coreml import program as mil
from mfs_deploy.backends.coreml.blob import ELEMENT_TYPES, BlobFile
from mfs_deploy.errors import BundleError, ConversionError

MODEL = Path("Data/com.apple.CoreML/model.mlmodel")
WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")


def test_the_copy_opens_before_it_is_damaged(package, contract, crop):
    swapped, _ = coreml.open(package, contract).run(crop)
    assert np.isfinite(swapped).all()


# Field of the first blob's metadata at offset 64: struct format, offset, value, what the message must say.
FIELDS = [
    pytest.param("<I", 0, 0xDEADBEEE, "sentinel is 0xdeadbeee", id="sentinel"),
    pytest.param("<I", 4, 2, "data type 2, but the program says fp16", id="type"),
    pytest.param("<Q", 8, 94, "94 bytes, but 48 values of fp16 take 96", id="size"),
    pytest.param("<Q", 8, 2**63, f"{2**63} bytes", id="huge size"),
    pytest.param("<Q", 16, 2**40, f"data at {2**40}", id="offset beyond the end"),
    pytest.param("<Q", 16, 2**64 - 64, f"data at {2**64 - 64}", id="offset that would wrap"),
    pytest.param("<Q", 16, 130, "data at 130", id="unaligned offset"),
    pytest.param("<Q", 16, 0, "data at 0", id="offset into the header"),
]


@pytest.mark.parametrize(("form", "at", "value", "says"), FIELDS)
def test_corrupt_blob_metadata(package, contract, form, at, value, says):
    data = bytearray((package / WEIGHTS).read_bytes())
    struct.pack_into(form, data, 64 + at, value)
    (package / WEIGHTS).write_bytes(data)
    with pytest.raises(BundleError, match=says) as caught:
        coreml.open(package, contract)
    assert "p_encoder_0_0_weight" in caught.value.message


def test_an_unknown_version_of_the_weight_file_is_refused(package, contract):
    data = bytearray((package / WEIGHTS).read_bytes())
    struct.pack_into("<I", data, 4, 1)
    (package / WEIGHTS).write_bytes(data)
    with pytest.raises(BundleError, match="version 1"):
        coreml.open(package, contract)


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[]",
        "{}",
        '{"rootModelIdentifier": "a", "itemInfoEntries": {"b": {"path": "x"}}}',
        '{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": 3}}}',
        '{"rootModelIdentifier": ["a"], "itemInfoEntries": {}}',
    ],
)
def test_damaged_manifest(package, contract, manifest):
    (package / "Manifest.json").write_text(manifest)
    with pytest.raises(BundleError, match=r"Manifest\.json"):
        coreml.open(package, contract)


@pytest.mark.parametrize("target", ["../../outside.mlmodel", "/etc/passwd"])
def test_manifest_cannot_point_outside(package, contract, target):
    (package.parent / "outside.mlmodel").write_bytes((package / MODEL).read_bytes())
    manifest = json.loads((package / "Manifest.json").read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = target
    (package / "Manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="outside the package"):
        coreml.open(package, contract)


def test_a_link_cannot_lead_outside(package, contract):
    outside = package.parent / "weight.bin"
    outside.write_bytes((package / WEIGHTS).read_bytes())
    (package / WEIGHTS).unlink()
    (package / WEIGHTS).symlink_to(outside)
    with pytest.raises(BundleError, match="outside the package"):
        coreml.open(package, contract)


@pytest.mark.parametrize("name", ["@model_path/../../../../weight.bin", "/etc/passwd", "weights/weight.bin"])
def test_weights_cannot_lie_outside(package, contract, edit, name):
    def change(spec):
        for op in operations(spec):
            value = op.attributes["val"] if op.type == "const" else None
            if value is not None and value.WhichOneof("value") == "blobFileValue":
                value.blobFileValue.fileName = name

    (package.parent / "weight.bin").write_bytes((package / WEIGHTS).read_bytes())
    edit(package, change)
    with pytest.raises(BundleError, match=r"outside the package|must be below @model_path"):
        coreml.open(package, contract)


# ---- another interface than the contract's ----


def test_a_package_of_another_input_size_is_refused(package_of):
    with pytest.raises(BundleError, match=r"target: found RGB image 224x224, must be RGB image 256x256"):
        coreml.open(package_of("fp16", "image"), architectures.interface("mobilefaceswap").contract(256))


def rename_input(spec):
    spec.description.input[0].name = "image"


def rename_output(spec):
    spec.description.output[1].name = "alpha"


def lose_output(spec):
    del spec.description.output[1]


def swap_colours(spec):
    spec.description.input[0].type.imageType.colorSpace = 30  # BGR


def unknown_colours(spec):
    spec.description.output[0].type.imageType.colorSpace = 77


def eight_bit_mask(spec):
    spec.description.output[1].type.imageType.colorSpace = 10  # GRAYSCALE


def array_output(spec):
    spec.description.output[0].type.multiArrayType.shape.extend([1, 3, 224, 224])


def swap_outputs(spec):
    """The mask under the name of the picture."""
    first, second = spec.description.output
    first.name, second.name = second.name, first.name


INTERFACES = [
    (rename_input, "inputs: found .*image"),
    (rename_output, "outputs: found .*alpha"),
    (lose_output, "outputs: found"),
    (swap_colours, "target: found BGR image"),
    (unknown_colours, "swapped: found unknown kind 77 image"),
    (eight_bit_mask, "mask: found GRAYSCALE image"),
    (array_output, "swapped: found .* array"),
    (swap_outputs, "swapped: found GRAYSCALE_FLOAT16"),
]


@pytest.mark.parametrize(("change", "says"), INTERFACES, ids=[change.__name__ for change, _ in INTERFACES])
def test_a_package_with_other_inputs_or_outputs_is_refused(package, contract, edit, change, says):
    edit(package, change)
    with pytest.raises(BundleError, match=says):
        coreml.open(package, contract)


def test_a_neural_network_is_not_a_program(package, contract, edit):
    edit(package, lambda spec: spec.neuralNetwork.SetInParent())
    with pytest.raises(BundleError, match="holds neuralNetwork, must be an mlProgram"):
        coreml.open(package, contract)


# ---- programs that the evaluator must not guess about ----


def operations(spec):
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset].operations


def first(spec, kind: str):
    return next(op for op in operations(spec) if op.type == kind)


def constant(spec, name: str):
    return next(op for op in operations(spec) if op.type == "const" and op.outputs[0].name == name)


def unknown_operation(spec):
    first(spec, "leaky_relu").type = "leaky_relu_squared"


def unknown_parameter(spec):
    op = first(spec, "leaky_relu")
    op.inputs["beta"].CopyFrom(op.inputs["alpha"])


def missing_parameter(spec):
    del first(spec, "leaky_relu").inputs["alpha"]


def unknown_attribute(spec):
    op = first(spec, "leaky_relu")
    op.attributes["mode"].CopyFrom(op.attributes["name"])


def unknown_pad_type(spec):
    constant(spec, "conv2d_pad_type_0").attributes["val"].immediateValue.tensor.strings.values[0] = "circular"


def unknown_opset(spec):
    spec.mlProgram.functions["main"].opset = "CoreML42"


def second_function(spec):
    spec.mlProgram.functions["other"].CopyFrom(spec.mlProgram.functions["main"])


def undefined_value(spec):
    first(spec, "leaky_relu").inputs["x"].arguments[0].name = "nobody"


def defined_twice(spec):
    ops = [op for op in operations(spec) if op.type == "leaky_relu"]
    ops[1].outputs[0].name = ops[0].outputs[0].name


def wrong_shape(spec):
    first(spec, "leaky_relu").outputs[0].type.tensorType.dimensions[2].constant.size = 111


def wrong_type(spec):
    first(spec, "leaky_relu").outputs[0].type.tensorType.dataType = 11  # float32


def unknown_type(spec):
    first(spec, "leaky_relu").outputs[0].type.tensorType.dataType = 12  # float64


def flexible_shape(spec):
    first(spec, "leaky_relu").outputs[0].type.tensorType.dimensions[0].unknown.variadic = False


def enormous_shape(spec):
    first(spec, "leaky_relu").outputs[0].type.tensorType.dimensions[0].constant.size = 2**40


def mixed_types(spec):
    """The float32 input into a float16 operation."""
    first(spec, "sub").inputs["x"].arguments[0].name = "target"


def text_as_data(spec):
    first(spec, "leaky_relu").inputs["x"].arguments[0].name = "conv2d_pad_type_0"


def short_constant(spec):
    del constant(spec, "conv2d_pad_0").attributes["val"].immediateValue.tensor.ints.values[-1]


def two_values_for_one(spec):
    first(spec, "leaky_relu").inputs["x"].arguments.add().name = "target"


def control_flow(spec):
    first(spec, "leaky_relu").blocks.add()


PROGRAMS = [
    (unknown_operation, r"operation \d+ 'leaky_relu_squared' \(leaky_relu_cast_fp16\): the operation is not known"),
    (unknown_parameter, r"'leaky_relu' .*'beta'"),
    (missing_parameter, r"'leaky_relu' .*'alpha'"),
    (unknown_attribute, r"'leaky_relu' .*attribute 'mode' is not known"),
    (unknown_pad_type, r"operation \d+ 'conv' .*pad_type 'circular' is not known"),
    (unknown_opset, r"opset 'CoreML42'"),
    (second_function, r"functions \['main', 'other'\]"),
    (undefined_value, r"'leaky_relu' .*'nobody' is used before it is defined"),
    (defined_twice, r"'leaky_relu_cast_fp16' is empty or already defined"),
    (wrong_shape, r"'leaky_relu' .*declared fp16\[1, 32, 111, 112\], but it is float16\[1, 32, 112, 112\]"),
    (wrong_type, r"'leaky_relu' .*declared fp32.*but it is float16"),
    (unknown_type, r"'leaky_relu' .*data type 12 is not known"),
    (flexible_shape, r"'leaky_relu' .*a dimension of unknown size"),
    (enormous_shape, r"'leaky_relu' .*at most"),
    (mixed_types, r"'sub' .*must be one type"),
    (text_as_data, r"'leaky_relu' "),
    (short_constant, r"'const' \(conv2d_pad_0\)"),
    (two_values_for_one, r"'leaky_relu' .*x has 2 values"),
    (control_flow, r"'leaky_relu' .*control flow"),
]


@pytest.mark.parametrize(("change", "says"), PROGRAMS, ids=[change.__name__ for change, _ in PROGRAMS])
def test_a_malformed_program_is_refused_and_the_fault_named(package, contract, crop, edit, change, says):
    edit(package, change)
    with pytest.raises(ConversionError, match=says) as caught:
        coreml.open(package, contract).run(crop)
    assert "\n" not in caught.value.message


def test_blob_reader_unpacks_small_types(tmp_path):
    """Against a file written here from the format's description: five 3-bit values and five signed 4-bit ones."""
    three, four = [5, 0, 7, 2, 6], [-8, 7, -1, 0, 3]
    blobs = []
    for values, bits, code in ((three, 3, 12), (four, 4, 8)):
        packed = sum((v & (1 << bits) - 1) << bits * i for i, v in enumerate(values))
        data = packed.to_bytes(-(-len(values) * bits // 8), "little")
        blobs.append((code, data))
    content = struct.pack("<II56x", len(blobs), 2)
    for code, data in blobs:
        start = len(content) + 64
        content += struct.pack("<IIQQQ32x", 0xDEADBEEF, code, len(data), start, 0) + data.ljust(64, b"\0")
    path = tmp_path / "weight.bin"
    path.write_bytes(content)
    file = BlobFile(path)
    kinds = {kind.name: kind for kind in ELEMENT_TYPES.values()}
    assert file.read(64, kinds["uint3"], 5).tolist() == three
    assert file.read(192, kinds["int4"], 5).tolist() == four
    with pytest.raises(BundleError, match="not a multiple of 64"):
        file.read(320, kinds["int4"], 5)


def test_blob_reader_agrees_with_coremltools_own(package_of):
    """Every constant of the real package, by Apple's C++ reader and by ours."""
    from mfs_deploy.backends.coreml import package as mil_package

    mil_package.coremltools()
    from coremltools.libmilstoragepython import _BlobStorageReader

    package = package_of("fp16", "image")
    theirs = _BlobStorageReader(str(package / WEIGHTS))
    spec, program = mil.load(package)
    seen = 0
    for op in operations(spec):
        value = op.attributes["val"] if op.type == "const" else None
        if value is None or value.WhichOneof("value") != "blobFileValue":
            continue
        wanted = np.array(theirs.read_fp16_data(value.blobFileValue.offset), np.uint16).view(np.float16)
        np.testing.assert_array_equal(program.constants[op.outputs[0].name].ravel(), wanted)
        seen += wanted.size
    assert seen > 495_000
