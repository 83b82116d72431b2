"""A Core ML program (MIL), read from its specification into plain data.  ``evaluator.py`` runs it.

Source: ``mlmodel/format/MIL.proto`` of https://github.com/apple/coremltools.  Only straight-line inference is read: one function,
one block, tensors of fixed shape.  Anything else is refused with the position of the operation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.backends.coreml import package as mil_package
from mfs_deploy.backends.coreml.blob import (
    ELEMENT_TYPES,
    BlobFile,
    ElementType,
    unpack,
)
from mfs_deploy.errors import BundleError, ConversionError

OPSETS = ("CoreML5", "CoreML6", "CoreML7", "CoreML8")  # iOS 15 to 18
MAX_ELEMENTS = 1 << 28  # of one tensor; a frame at 256 x 256 needs less than 1 << 23
MODEL_PATH = "@model_path/"
# Which field of an immediate value holds which types (coremltools ``backend/mil/helper.py``).
IMMEDIATE_FIELDS = {
    "bools": ("bool",),
    "strings": ("string",),
    "floats": ("fp32",),
    "ints": ("int16", "uint16", "int32"),
    "bytes": ("fp16", "int4", "int8", "uint1", "uint2", "uint3", "uint4", "uint6", "uint8", "uint32"),
}

Constant = NDArray[Any] | str


@dataclass(frozen=True)
class TensorType:
    kind: ElementType
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.kind.name}{list(self.shape)}"


@dataclass(frozen=True)
class Operation:
    """One operation that is not a constant.

    Attributes:
        position: in the block, from 0, constants included.
        name: for people; need not be unique.
        inputs: names of values by parameter; several for a parameter that takes a list.
    """

    position: int
    kind: str
    name: str
    inputs: dict[str, str | tuple[str, ...]]
    outputs: tuple[str, ...]

    def __str__(self) -> str:
        return f"operation {self.position} {self.kind!r} ({', '.join(self.outputs)})"


@dataclass(frozen=True)
class Program:
    """A program in the order it runs.

    Attributes:
        inputs: names of the inputs.
        outputs: names of the outputs.
        types: of every value by name.
        constants: values by name: arrays, or strings.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: dict[str, TensorType]
    constants: dict[str, Constant]
    operations: tuple[Operation, ...]


def load(package: Path) -> tuple[Any, Program]:
    """The specification of a package (a protobuf ``Model``) and its program.

    Raises:
        BundleError: the package or its weights are damaged.
        ConversionError: the program holds something that this reader does not know.
    """
    spec, folder = mil_package.read(package)
    functions = spec.mlProgram.functions
    if list(functions) != ["main"]:
        raise ConversionError(f"{package.name} has functions {sorted(functions)}, must have 'main' only")
    main = functions["main"]
    if main.opset not in OPSETS:
        raise ConversionError(f"{package.name} uses opset {main.opset!r}; known are {', '.join(OPSETS)}")
    if main.opset not in main.block_specializations:
        raise BundleError(f"{package.name} has no block for its opset {main.opset}")
    return spec, _Reader(package, folder).program(main, main.block_specializations[main.opset])


class _Reader:
    """Reads one block into ``types`` and ``constants``."""

    def __init__(self, package: Path, folder: Path) -> None:
        self.package = package
        self.folder = folder
        self.files: dict[str, BlobFile] = {}
        self.types: dict[str, TensorType] = {}
        self.constants: dict[str, Constant] = {}

    def program(self, function: Any, block: Any) -> Program:
        for value in function.inputs:
            self._define(value, f"input {value.name!r}")
        operations = []
        for position, op in enumerate(block.operations):
            where = f"operation {position} {op.type!r} ({', '.join(o.name for o in op.outputs)})"
            if op.blocks:
                raise ConversionError(f"{where}: control flow is not supported")
            if op.type == "const":
                self._constant(op, where)
            else:
                operations.append(self._operation(op, position, where))
        for name in block.outputs:
            self._defined(name, "the block's outputs")
        inputs = tuple(value.name for value in function.inputs)
        return Program(inputs, tuple(block.outputs), self.types, self.constants, tuple(operations))

    def _constant(self, op: Any, where: str) -> None:
        if set(op.attributes) - {"name"} != {"val"} or op.inputs or len(op.outputs) != 1:
            raise ConversionError(f"{where}: attributes {sorted(op.attributes)} of a constant, must be name and val")
        value = self._value(op.attributes["val"], where)
        self._define(op.outputs[0], where)
        declared, found = self.types[op.outputs[0].name], tensor_type(op.attributes["val"].type, where)
        if declared != found:
            raise ConversionError(f"{where}: declared {declared}, but the value is {found}")
        self.constants[op.outputs[0].name] = value

    def _operation(self, op: Any, position: int, where: str) -> Operation:
        inputs = {parameter: self._argument(parameter, op.inputs[parameter], where) for parameter in sorted(op.inputs)}
        # Before iOS 18 the parameters of constexpr operations are attributes.
        for parameter in sorted(set(op.attributes) - {"name"}):
            if not op.type.startswith("constexpr_") or parameter in inputs:
                raise ConversionError(f"{where}: attribute {parameter!r} is not known")
            inputs[parameter] = self._inline(op.attributes[parameter], f"{where}: {parameter}")
        for output in op.outputs:
            self._define(output, where)
        label = op.attributes["name"].immediateValue.tensor.strings.values if "name" in op.attributes else ()
        outputs = tuple(output.name for output in op.outputs)
        return Operation(position, op.type, "".join(label), inputs, outputs)

    def _argument(self, parameter: str, argument: Any, where: str) -> str | tuple[str, ...]:
        names = tuple(self._bound(binding, f"{where}: {parameter}") for binding in argument.arguments)
        if parameter == "values":  # the one parameter that is a list, of concat
            return names
        if len(names) != 1:
            raise ConversionError(f"{where}: {parameter} has {len(names)} values, must have one")
        return names[0]

    def _bound(self, binding: Any, where: str) -> str:
        if binding.WhichOneof("binding") == "value":
            return self._inline(binding.value, where)
        self._defined(binding.name, where)
        return str(binding.name)

    def _inline(self, value: Any, where: str) -> str:
        """A constant written where it is used, under a name that no value of the program can have."""
        name = f"\0{len(self.constants)}"
        self.types[name] = tensor_type(value.type, where)
        self.constants[name] = self._value(value, where)
        return name

    def _value(self, value: Any, where: str) -> Constant:
        kind = tensor_type(value.type, where)
        form = value.WhichOneof("value")
        if form == "immediateValue" and value.immediateValue.WhichOneof("value") == "tensor":
            return _immediate(value.immediateValue.tensor, kind, where)
        if form != "blobFileValue":
            raise ConversionError(f"{where}: a constant that is not a tensor")
        blob = value.blobFileValue
        try:
            return self._file(blob.fileName).read(blob.offset, kind.kind, kind.count).reshape(kind.shape)
        except BundleError as exc:
            raise BundleError(f"{self.package.name}: {where}: {exc.message}") from exc

    def _file(self, name: str) -> BlobFile:
        if name not in self.files:
            if not name.startswith(MODEL_PATH):
                raise BundleError(f"weights lie in {name!r}, must be below {MODEL_PATH}")
            inner = self.folder / name.removeprefix(MODEL_PATH)
            if not inner.is_relative_to(self.package.resolve()):
                raise BundleError(f"weights lie in {name!r}, outside the package")
            relative = inner.relative_to(self.package.resolve())
            self.files[name] = BlobFile(mil_package.inside(self.package, relative))
        return self.files[name]

    def _define(self, value: Any, where: str) -> None:
        if not value.name or value.name in self.types:
            raise ConversionError(f"{where}: {value.name!r} is empty or already defined")
        self.types[value.name] = tensor_type(value.type, where)

    def _defined(self, name: str, where: str) -> None:
        if name not in self.types:
            raise ConversionError(f"{where}: {name!r} is used before it is defined")


def tensor_type(value_type: Any, where: str) -> TensorType:
    """The type of a value.  Raises ConversionError for anything but a tensor of fixed shape and a known element type."""
    if value_type.WhichOneof("type") != "tensorType":
        raise ConversionError(f"{where}: a value of {value_type.WhichOneof('type')}, must be a tensor")
    tensor = value_type.tensorType
    kind = ELEMENT_TYPES.get(tensor.dataType)
    if kind is None:
        raise ConversionError(f"{where}: data type {tensor.dataType} is not known")
    shape = tuple(_sizes(tensor, where))
    if tensor.rank != len(shape) or math.prod(shape) > MAX_ELEMENTS:
        raise ConversionError(f"{where}: shape {list(shape)} of rank {tensor.rank}, at most {MAX_ELEMENTS} elements are read")
    return TensorType(kind, shape)


def _sizes(tensor: Any, where: str) -> Iterator[int]:
    for dimension in tensor.dimensions:
        if dimension.WhichOneof("dimension") != "constant":
            raise ConversionError(f"{where}: a dimension of unknown size")
        yield int(dimension.constant.size)


def _immediate(tensor: Any, declared: TensorType, where: str) -> Constant:
    """A value written in the specification itself."""
    field = tensor.WhichOneof("value")
    if declared.kind.name not in IMMEDIATE_FIELDS.get(field, ()):
        raise ConversionError(f"{where}: {declared} written as {field}")
    values = getattr(tensor, field).values
    if declared.kind.name == "string":
        if declared.shape or len(values) != 1:
            raise ConversionError(f"{where}: {len(values)} strings of shape {list(declared.shape)}, must be one alone")
        return str(values[0])
    try:
        flat = unpack(values, declared.kind, declared.count) if field == "bytes" else np.array(values, declared.kind.numpy)
        return flat.reshape(declared.shape)
    except (ValueError, OverflowError) as exc:
        raise ConversionError(f"{where}: {exc}") from exc
