"""Runs TFLite artifacts in LiteRT, or in TensorFlow's own interpreter."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.backends.base import Array, check_target, threads
from mfs_deploy.backends.machine import LOCAL, Machine
from mfs_deploy.backends.quiet import error_text
from mfs_deploy.backends.tflite import describe as tflite_describe
from mfs_deploy.backends.tflite import model as tfl
from mfs_deploy.contract import Contract
from mfs_deploy.errors import BundleError, MissingExtra
from mfs_deploy.quant.scales import Scale

EXTRA = "tflite"
IO = ("float32", "int8", "uint8")  # number formats of the input and the outputs
INTERPRETER, TENSORFLOW = "MFS_TFLITE_INTERPRETER", "tensorflow"  # in a worker's environment: the interpreter that it uses


class TfliteRunner:
    """An interpreter on the CPU with XNNPACK and ``OMP_NUM_THREADS`` threads, else one."""

    def __init__(self, interpreter: Any, runtime: str, contract: Contract, scales: dict[str, Scale]) -> None:
        self.runtime = runtime
        self.pixels = bool(scales)  # one step of an integer output is 1/255
        self._scales = scales
        self._interpreter = interpreter
        self._contract = contract
        # Tensors have the contract's names: ``_check_contract`` has checked it.
        details = (*interpreter.get_input_details(), *interpreter.get_output_details())
        self._index = {detail["name"]: detail["index"] for detail in details}

    def run(self, target: Array) -> tuple[Array, ...]:
        self.frame(target)()
        outputs = [output.name for output in self._contract.outputs]
        found = {name: self._interpreter.get_tensor(self._index[name]) for name in outputs}
        return tuple(np.ascontiguousarray(self._number(name, found[name]).transpose(0, 3, 1, 2)) for name in outputs)

    def frame(self, target: Array) -> Callable[[], object]:
        check_target(target, self._contract)
        name, value = self._contract.input.name, np.ascontiguousarray(target.transpose(0, 2, 3, 1))
        self._interpreter.set_tensor(self._index[name], self._scales[name].store(value) if name in self._scales else value)
        return self._interpreter.invoke  # type: ignore[no-any-return]

    def _number(self, name: str, value: NDArray[Any]) -> Array:
        return self._scales[name].read(value) if name in self._scales else value


def open(path: Path, contract: Contract) -> TfliteRunner:
    """Open an artifact in LiteRT.  Raises BundleError."""
    data, model = read(path)
    _check_contract(path, model, contract)
    scales = _border_scales(path, model)
    kind, runtime = _interpreter()
    try:
        interpreter = kind(model_content=data, num_threads=threads())
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as exc:
        raise _damaged(path, exc) from exc
    return TfliteRunner(interpreter, runtime, contract, scales)


def tensorflow_machine() -> Machine | None:
    """This machine with TensorFlow's own interpreter, another build of the same kernels; None where it is not installed."""
    if find_spec("tensorflow") is None:
        return None
    return replace(LOCAL, name="TensorFlow", environment={INTERPRETER: TENSORFLOW})


def _interpreter() -> tuple[Any, str]:
    """The interpreter's class and its name: LiteRT's, or TensorFlow's where the environment has ``INTERPRETER``."""
    if os.environ.get(INTERPRETER) == TENSORFLOW:
        import tensorflow

        return tensorflow.lite.Interpreter, f"TensorFlow {tensorflow.__version__} (XNNPACK CPU)"
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter, f"LiteRT {version('ai-edge-litert')} (XNNPACK CPU)"


def _border_scales(path: Path, model: tfl.Model) -> dict[str, Scale]:
    """Scales of an integer input and outputs, by their names."""
    found = {}
    for name, tensor in itertools.chain(*tflite_describe.borders(model)):
        if tfl.dtype(tensor) != "float32":
            steps, zeros = tfl.scales(tensor)
            if len(steps) != 1:
                raise BundleError(f"{path.name}: {name} has {len(steps)} scales, must have one", hint="export it again")
            found[name] = Scale(tfl.dtype(tensor), steps[0], zeros[0])
    return found


def read(path: Path) -> tuple[bytes, tfl.Model]:
    try:
        import ai_edge_litert  # noqa: F401
    except ImportError as exc:
        raise MissingExtra(EXTRA, str(exc.name), "reading TFLite") from exc
    try:
        data = path.read_bytes()
        return data, tfl.read(data)
    except OSError as exc:
        raise BundleError(f"cannot read {path.name}: {exc.strerror}") from exc
    except ValueError as exc:
        raise _damaged(path, exc) from exc


def _damaged(path: Path, exc: BaseException) -> BundleError:
    return BundleError(f"{path.name} is damaged or not TFLite: {error_text(exc)}", hint="export it again")


def _check_contract(path: Path, model: tfl.Model, contract: Contract) -> None:
    inputs, outputs = tflite_describe.interface(model)
    found = {(t.name, t.shape, t.dtype) for t in (*inputs, *outputs)}
    io = next((t.dtype for t in inputs if t.dtype in IO), IO[0])  # one for all of them
    wanted = set()
    for spec in (contract.input, *contract.outputs):
        n, c, h, w = spec.shape
        wanted.add((spec.name, (n, h, w, c), io))
    if found != wanted or [t.name for t in inputs] != [contract.input.name]:
        raise BundleError(
            f"{path.name} has {sorted(found - wanted)} where the contract says {sorted(wanted - found)}",
            hint=f"it was made for another architecture or size than {contract.arch} at {contract.size}",
        )
