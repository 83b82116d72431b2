"""PyTorch to ncnn's layers, through TorchScript and the converter ``pnnx`` (https://github.com/pnnx/pnnx)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mfs_deploy.backends.ncnn.files import (
    NcnnLayer,
    NcnnWeights,
    parse_param,
    read_bin,
)
from mfs_deploy.errors import BundleError, ConversionError, MissingExtra

if TYPE_CHECKING:
    from torch import fx

    from mfs_deploy.contract import Contract

TIMEOUT_S = 600


def convert(graph: fx.GraphModule, contract: Contract) -> tuple[tuple[NcnnLayer, ...], NcnnWeights]:
    """The layers and float32 weights that pnnx writes.  It writes a dozen files, so it gets a folder of its own."""
    size = ",".join(map(str, contract.input.shape))
    with tempfile.TemporaryDirectory(prefix="mfs-ncnn-") as folder:
        _trace(graph, contract, Path(folder, "swap.pt"))
        command = [str(_pnnx()), "swap.pt", f"inputshape=[{size}]f32", "fp16=0"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise ConversionError(f"pnnx did not run: {exc}") from exc
        param, weights = Path(folder, "swap.ncnn.param"), Path(folder, "swap.ncnn.bin")
        if done.returncode != 0 or not param.exists() or not weights.exists():
            words = " | ".join((done.stderr + done.stdout).strip().splitlines()[-3:])
            raise ConversionError(f"pnnx ended with code {done.returncode}: {words}")
        try:
            layers = tuple(_without_one_group(layer) for layer in parse_param(param.read_text("utf-8")))
            return layers, read_bin(weights.read_bytes(), layers)
        except BundleError as exc:
            raise ConversionError(f"pnnx wrote a graph that cannot be used: {exc.message}") from exc


def _without_one_group(layer: NcnnLayer) -> NcnnLayer:
    """Drop the parameter "one group" that pnnx writes for a convolution after a pad: ncnn's Convolution does not read it."""
    if layer.type != "Convolution" or layer.integer(7, 1) != 1:
        return layer
    return replace(layer, params={key: value for key, value in layer.params.items() if key != 7})


def _trace(graph: fx.GraphModule, contract: Contract, path: Path) -> None:
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; pnnx reads nothing else
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            graph, torch.zeros(contract.input.shape), check_trace=False
        )
        torch.jit.save(traced, str(path))


def _pnnx() -> Path:
    """The converter's binary.  The package is not imported: that would import torch, onnx and more for one path."""
    spec = importlib.util.find_spec("pnnx")
    if spec is None or spec.origin is None:
        raise MissingExtra("ncnn", "pnnx", "converting to NCNN")
    return Path(spec.origin).with_name("pnnx.exe" if sys.platform == "win32" else "pnnx")
