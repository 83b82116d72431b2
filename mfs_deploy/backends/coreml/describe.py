"""Reads a Core ML package: inputs and outputs against the contract, parameters and multiply-adds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mfs_deploy.backends.base import ArtifactInfo, TensorInfo
from mfs_deploy.backends.coreml import program as mil
from mfs_deploy.contract import (
    INPUT_NAME,
    MASK_NAME,
    SWAPPED_NAME,
    Contract,
)
from mfs_deploy.errors import BundleError

RELEASES = {6: "iOS 15", 7: "iOS 16", 8: "iOS 17", 9: "iOS 18"}  # by specification version
IMAGE_COLOURS = {INPUT_NAME: "RGB", SWAPPED_NAME: "RGB", MASK_NAME: "GRAYSCALE_FLOAT16"}
STORED_IN = {  # of a compressed weight, the parameter that holds its values
    "constexpr_affine_dequantize": "quantized_data",
    "constexpr_blockwise_shift_scale": "data",
    "constexpr_cast": "source_val",
    "constexpr_lut_to_dense": "lut",
}


def check_interface(path: Path, spec: Any, program: mil.Program, contract: Contract) -> bool:
    """Whether the package takes images.  Raises BundleError where its inputs and outputs are not the contract's."""
    expected = {item.name: item.shape for item in (contract.input, *contract.outputs)}
    inputs = {feature.name: feature.type for feature in spec.description.input}
    outputs = {feature.name: feature.type for feature in spec.description.output}
    names = sorted(item.name for item in contract.outputs)
    _same(path, "inputs", (sorted(inputs), sorted(program.inputs)), [contract.input.name])
    _same(path, "outputs", (sorted(outputs), sorted(program.outputs)), names)
    features = inputs | outputs
    image = bool(features[INPUT_NAME].WhichOneof("Type") == "imageType")
    for name, shape in expected.items():
        found = _feature(features[name])
        colour = IMAGE_COLOURS[name]
        wanted = f"{colour} image {shape[3]}x{shape[2]}" if image else f"float32 array {list(shape)}"
        _same(path, name, (found,), wanted)
        kind = program.types[name]
        if kind.shape != shape or kind.kind.name not in ("fp16", "fp32"):
            raise BundleError(f"{path.name}: {name} is {kind} in the program, must be floating point of shape {list(shape)}")
    return image


def _same(path: Path, what: str, found: Iterable[object], wanted: object) -> None:
    for value in found:
        if value != wanted:
            raise BundleError(f"{path.name}: {what}: found {value}, must be {wanted}")


def _feature(feature: Any) -> str:
    """An input or output of a model, in words."""
    from coremltools.proto.FeatureTypes_pb2 import ArrayFeatureType, ImageFeatureType

    form = feature.WhichOneof("Type")
    if form == "imageType":
        image = feature.imageType
        return f"{_enum_name(ImageFeatureType.ColorSpace, image.colorSpace)} image {image.width}x{image.height}"
    if form == "multiArrayType":
        array = feature.multiArrayType
        return f"{_enum_name(ArrayFeatureType.ArrayDataType, array.dataType).lower()} array {list(array.shape)}"
    return str(form)


def _enum_name(enum: Any, number: int) -> str:
    """The name of a number, or the number: files can hold numbers that the enumeration does not have."""
    return str(enum.Name(number)) if number in enum.values() else f"unknown kind {number}"


def describe(path: Path) -> ArtifactInfo:
    """Read from the specification alone.  See ``base.Backend``."""
    spec, program = mil.load(path)
    convolutions = [op for op in program.operations if op.kind == "conv"]
    half = [op for op in convolutions if program.types[op.outputs[0]].kind.name == "fp16"]
    version = spec.specificationVersion
    return ArtifactInfo(
        format=f"Core ML program, specification {version} ({RELEASES.get(version, 'unknown release')})",
        inputs=tuple(_info(feature, program) for feature in spec.description.input),
        outputs=tuple(_info(feature, program) for feature in spec.description.output),
        parameters=_parameters(program),
        macs=sum(_macs(program, op) for op in convolutions),
        metadata=dict(spec.description.metadata.userDefined),
        float32_layers=tuple(op.name for op in convolutions if half and op not in half),
    )


def _info(feature: Any, program: mil.Program) -> TensorInfo:
    found, shape = _feature(feature.type), program.types[feature.name].shape
    if feature.type.WhichOneof("Type") != "imageType":
        dtype = found.split(" array")[0]
        return TensorInfo(feature.name, shape, dtype, element=dtype)
    if "FLOAT16" in found:
        return TensorInfo(feature.name, shape, found, element="float16", kind="image")
    return TensorInfo(feature.name, shape, found, element="uint8", kind="image", scale=1 / 255)


def _parameters(program: mil.Program) -> dict[str, int]:
    """Weights and biases by the type they are stored in; a table's indices count by their bits."""
    made_by = {name: op for op in program.operations for name in op.outputs}
    counts: Counter[str] = Counter()
    for op in program.operations:
        for parameter in ("weight", "bias"):
            name = op.inputs.get(parameter)
            if isinstance(name, str):
                counts[_stored_type(program, made_by.get(name), name)] += program.types[name].count
    return dict(sorted(counts.items()))


def _stored_type(program: mil.Program, maker: mil.Operation | None, name: str) -> str:
    stored = program.types[name]
    if maker is not None and maker.kind in STORED_IN:
        table = maker.kind == "constexpr_lut_to_dense"
        stored = _input(program, maker, STORED_IN[maker.kind], rank=(1 if "shape" in maker.inputs else 2) if table else 0)
        if table:
            entries = stored.shape[-1] if "shape" in maker.inputs else stored.shape[-2]
            return f"uint{entries.bit_length() - 1}"
    return {"fp16": "float16", "fp32": "float32"}.get(stored.kind.name, stored.kind.name)


def _macs(program: mil.Program, op: mil.Operation) -> int:
    weight = _input(program, op, "weight", rank=1)
    return program.types[op.outputs[0]].count * weight.count // max(weight.shape[0], 1)


def _input(program: mil.Program, op: mil.Operation, parameter: str, rank: int) -> mil.TensorType:
    """The type of what an operation reads.  Raises BundleError where it reads nothing, or a tensor of lower rank."""
    name = op.inputs.get(parameter)
    if not isinstance(name, str):
        raise BundleError(f"{op}: {parameter} is missing")
    if len(program.types[name].shape) < rank:
        raise BundleError(f"{op}: {parameter} is {program.types[name]}, must have rank {rank} or more")
    return program.types[name]
