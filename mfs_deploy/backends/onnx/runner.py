"""Runs ONNX artifacts in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mfs_deploy import onnx_runtime
from mfs_deploy.backends.base import Array, check_target, threads
from mfs_deploy.backends.onnx.describe import EXTRA, read_bytes
from mfs_deploy.backends.quiet import error_text
from mfs_deploy.contract import Contract
from mfs_deploy.errors import BundleError, MissingExtra


class OnnxRunner:
    """A session on the CPU with ``OMP_NUM_THREADS`` threads, else one.

    float16: on x86, ONNX Runtime has float16 kernels for none of these operations.  It casts around every node and then drops the
    casts between nodes (in the graph that it writes to ``optimized_model_filepath``, every inserted cast but the last two reads a
    weight).  So weights are rounded to float16, but arithmetic and the tensors between nodes are float32: an overflow of float16
    cannot be seen, and a frame takes no less time.  On arm64 with half-precision arithmetic there are float16 kernels: 57 dB
    against PyTorch where x86 has 75, and a network that overflows gives NaN (emulated Cortex-A76).

    Integers: with 8-bit activations every operation but resizes and subtractions is fused into an integer kernel.  If only weights
    are int8, they are unpacked for every frame unless ``session``'s option is set; an app must set it too, and on x86 ask for exact
    products.  16-bit activations are rounded to 16 bits and computed in floats: slow, but with an accelerator's result.
    """

    pixels = False

    def __init__(self, session: Any, contract: Contract, version: str) -> None:
        self.runtime = f"ONNX Runtime {version} (CPU)"
        self._session = session
        self._contract = contract
        self._outputs = [output.name for output in contract.outputs]

    def run(self, target: Array) -> tuple[Array, ...]:
        check_target(target, self._contract)
        return tuple(self._session.run(self._outputs, {self._contract.input.name: target}))

    def frame(self, target: Array) -> Callable[[], object]:
        check_target(target, self._contract)
        return partial(self._session.run, self._outputs, {self._contract.input.name: target})


def open(path: Path, contract: Contract) -> OnnxRunner:
    """Open an artifact in ONNX Runtime.  Raises BundleError."""
    opened = session(path, read_bytes(path))
    _check_contract(path, opened, contract)
    return OnnxRunner(opened, contract, version("onnxruntime"))


def session(path: Path, data: bytes) -> Any:
    """An InferenceSession of a model's bytes; ``path`` is for messages.  Raises BundleError where ONNX Runtime refuses them."""
    try:
        onnxruntime = onnx_runtime.load()
    except ImportError as exc:
        raise MissingExtra(EXTRA, str(exc.name), "running ONNX") from exc
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # failures come as exceptions; no second report
    # x86 kernels without VNNI add pairs of 8-bit products in 16 bits, which saturates.  This option chooses kernels that do not:
    # https://github.com/microsoft/onnxruntime/pull/12088
    options.add_session_config_entry("session.x64quantprecision", "1")
    state = onnxruntime.capi.onnxruntime_pybind11_state
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NotImplemented", "RuntimeException")
    # UnicodeDecodeError: raised while it quotes a damaged name.
    refusals = (UnicodeDecodeError, *(getattr(state, name) for name in names))
    # By default a constant's DequantizeLinear is not folded, so weights are unpacked for every frame; this option folds it.
    # It also stops the fusion of integer operations, so it is set only where there are none:
    # https://github.com/microsoft/onnxruntime/pull/6643
    if b"QuantizeLinear" not in data:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=False)
    except refusals as exc:
        raise BundleError(f"{path.name} is damaged or not ONNX: {error_text(exc)}", hint="export it again") from exc


def _check_contract(path: Path, session: Any, contract: Contract) -> None:
    found = {(v.name, tuple(v.shape), v.type) for v in (*session.get_inputs(), *session.get_outputs())}
    wanted = {(spec.name, spec.shape, "tensor(float)") for spec in (contract.input, *contract.outputs)}
    if found != wanted or [v.name for v in session.get_inputs()] != [contract.input.name]:
        raise BundleError(
            f"{path.name} has {sorted(found - wanted, key=str)} where the contract says {sorted(wanted - found, key=str)}",
            hint=f"it was made for another architecture or size than {contract.arch} at {contract.size}",
        )
