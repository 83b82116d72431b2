"""Runs a Core ML program without Core ML, one operation after the other, with torch.

Arithmetic: a tensor that the program types float16 is rounded to float16 after every operation, and so are its weights; within one
operation sums are accumulated in float32.  Phones may accumulate in float16 as well: expect them to differ by a little more.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.backends.coreml.program import (
    Constant,
    Operation,
    Program,
    TensorType,
)
from mfs_deploy.errors import ConversionError

if TYPE_CHECKING:
    from torch import Tensor

Value = Any  # a torch tensor, a tuple of them, or a string


class Evaluator:
    """A program whose operations are all known, with its constants unpacked."""

    def __init__(self, program: Program) -> None:
        """Raises ConversionError for an operation, parameter or value that is not known, naming its position."""
        import torch

        from mfs_deploy.backends.coreml.operations import OPERATIONS

        self.program = program
        self._values: dict[str, Value] = {name: _tensor(value) for name, value in program.constants.items()}
        self._frame: list[Operation] = []  # what is left to do for each frame
        for operation in program.operations:
            function = OPERATIONS.get(operation.kind)
            if function is None:
                raise ConversionError(f"{operation}: the operation is not known", hint="run it with Core ML itself, on macOS")
            try:
                inspect.signature(function).bind(**operation.inputs)
            except TypeError as exc:
                raise ConversionError(f"{operation}: parameters {sorted(operation.inputs)}: {exc}") from exc
            if operation.kind.startswith("constexpr_"):
                with torch.inference_mode():
                    self._step(operation, self._values)
            else:
                self._frame.append(operation)
        self._last_use = _last_uses(self._frame, program)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs by name, in the types the program declares.

        Raises:
            ConversionError: the feeds are not the program's inputs, or an operation failed or gave another shape or type than
                the program declares.
        """
        import torch

        if set(feeds) != set(self.program.inputs):
            raise ConversionError(f"fed {sorted(feeds)}, the program takes {sorted(self.program.inputs)}")
        values = dict(self._values)
        with torch.inference_mode():
            for name, array in feeds.items():
                values[name] = _tensor(array)
                _check(f"input {name!r}", values[name], self.program.types[name])
            for operation in self._frame:
                self._step(operation, values)
                for name in self._last_use.get(operation.position, ()):
                    del values[name]
        return {name: values[name].numpy() for name in self.program.outputs}

    def _step(self, operation: Operation, values: dict[str, Value]) -> None:
        from mfs_deploy.backends.coreml.operations import OPERATIONS, SAME_TYPE

        arguments = {
            parameter: values[names] if isinstance(names, str) else tuple(values[name] for name in names)
            for parameter, names in operation.inputs.items()
        }
        function = OPERATIONS[operation.kind]
        try:
            result = _same_type(function, arguments) if operation.kind in SAME_TYPE else function(**arguments)
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as exc:
            # Wrong shapes and types of a malformed program surface in torch as any of these.
            raise ConversionError(f"{operation}: {str(exc).splitlines()[0] if str(exc) else type(exc).__name__}") from exc
        results = result if isinstance(result, tuple) else (result,)
        if len(results) != len(operation.outputs):
            raise ConversionError(f"{operation}: {len(results)} results for {len(operation.outputs)} outputs")
        for name, tensor in zip(operation.outputs, results, strict=True):
            _check(str(operation), tensor, self.program.types[name])
            values[name] = tensor


def _same_type(function: Callable[..., Any], arguments: dict[str, Value]) -> Any:
    """Call with float16 widened to float32, and round the results to the type of the data."""
    import torch

    data = [arguments[name] for name in ("x", "y") if name in arguments] + list(arguments.get("values", ()))
    types = {tensor.dtype for tensor in data}
    if len(types) != 1:
        raise ValueError(f"data of types {sorted(map(str, types))}, must be one type")
    result = function(**{name: _widen(value) for name, value in arguments.items()})
    if types != {torch.float16}:
        return result
    return tuple(tensor.half() for tensor in result) if isinstance(result, tuple) else result.half()


def _widen(value: Value) -> Value:
    import torch

    if isinstance(value, tuple):
        return tuple(_widen(item) for item in value)
    return value.float() if isinstance(value, torch.Tensor) and value.dtype == torch.float16 else value


def _check(where: str, tensor: Tensor, declared: TensorType) -> None:
    found = str(tensor.dtype).removeprefix("torch.")
    if tuple(tensor.shape) != declared.shape or found != np.dtype(declared.kind.numpy).name:
        raise ConversionError(f"{where}: declared {declared}, but it is {found}{list(tensor.shape)}")


def _tensor(value: Constant) -> Value:
    import torch

    return value if isinstance(value, str) else torch.from_numpy(np.array(value))


def _last_uses(operations: list[Operation], program: Program) -> dict[int, tuple[str, ...]]:
    """By position of an operation, the values that nothing after it reads."""
    keep = set(program.outputs) | set(program.constants)
    seen = set(keep)
    dead: dict[int, tuple[str, ...]] = {}
    for operation in reversed(operations):
        read = {name for names in operation.inputs.values() for name in ((names,) if isinstance(names, str) else names)}
        last = (read | set(operation.outputs)) - seen
        dead[operation.position] = tuple(sorted(last))
        seen |= last
    return dead
