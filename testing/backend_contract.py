"""The contract that every backend is held to, ours and those of other packages.

from testing.backend_contract import check_backend

def test_it_is_a_backend(tmp_path):
    check_backend("mine", tmp_path)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mfs_deploy import architectures, metrics
from mfs_deploy.backends.base import Backend, Conversion
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.contract import Contract
from mfs_deploy.errors import BundleError, ConversionError, UsageError
from mfs_deploy.graph import simplify
from mfs_deploy.quant import recipes

ARCH, SIZE = "mobilefaceswap", 64
LEAST_DB = 60  # of fp32, against PyTorch


def check_backend(name: str, folder: Path) -> None:
    """Convert a network of random weights, open and run the artifact, then damage it.  ``folder`` is for scratch files.

    Raises:
        AssertionError: the backend breaks its contract.
    """
    backend, contract = BACKENDS[name], _contract()
    torch.manual_seed(0)
    net = architectures.get(ARCH).blank().eval()
    job = Conversion(simplify(net), contract, recipes.load("fp32"), metadata={"version": "1"}, coreml_io="tensor")
    one, other = (_converted(backend, job, folder / place) for place in ("one", "other"))
    assert _contents(one) == _contents(other), "the same conversion gives other bytes"
    _check_refusals(backend, job, folder / "refused")
    _check_frames(backend, contract, one / backend.FILES[0], net)
    _check_description(backend, contract, one / backend.FILES[0])
    _check_damage(backend, contract, other)


def _contract() -> Contract:
    interface = architectures.interface(ARCH)
    return interface.contract(SIZE)


def _converted(backend: Backend, job: Conversion, folder: Path) -> Path:
    folder.mkdir()
    backend.convert(job, folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(backend.FILES), "convert writes FILES and nothing else"
    return folder


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _check_refusals(backend: Backend, job: Conversion, folder: Path) -> None:
    from dataclasses import replace

    folder.mkdir()
    with pytest.raises(ConversionError, match="no_such_node"):
        backend.convert(replace(job, keep_float32=frozenset({"no_such_node"})), folder)
    assert list(folder.iterdir()) == [], "a refused conversion writes nothing"


def _check_frames(backend: Backend, contract: Contract, path: Path, net: torch.nn.Module) -> None:
    runner = backend.open(path, contract)
    assert runner.runtime, "a runner names its runtime"
    assert isinstance(runner.pixels, bool)
    target = np.random.default_rng(0).random(contract.input.shape, dtype=np.float32)
    with torch.inference_mode():
        wanted = [output.numpy() for output in net(torch.from_numpy(target))]
    found = runner.run(target)
    assert [array.shape for array in found] == [spec.shape for spec in contract.outputs]
    assert {array.dtype for array in found} == {np.dtype(np.float32)}
    for array, reference in zip(found, wanted, strict=True):
        assert metrics.psnr_db(array, reference, peak=1.0) > LEAST_DB
    strided = np.ascontiguousarray(target.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for array, again in zip(found, runner.run(strided), strict=True):
        assert metrics.max_error(array, again) < 1e-6, "the layout of the input's memory changes the outputs"
    runner.frame(target)()
    for wrong in (target[0], target[:, :, :-1], np.concatenate([target, target])):
        with pytest.raises(UsageError, match="must be"):
            runner.run(wrong)


def _check_description(backend: Backend, contract: Contract, path: Path) -> None:
    info = backend.describe(path)
    assert {tensor.name for tensor in info.inputs} == {contract.input.name}
    assert {tensor.name for tensor in info.outputs} == {spec.name for spec in contract.outputs}
    assert info.format
    assert info.macs > 0
    assert sum(info.parameters.values()) > 0
    assert info.metadata in ({}, {"version": "1"}), "metadata comes back as it was, or there is no place for it"


def _check_damage(backend: Backend, contract: Contract, folder: Path) -> None:
    path = folder / backend.FILES[0]
    larger: Any = architectures.interface(ARCH).contract(2 * SIZE)
    with pytest.raises(BundleError):
        backend.open(path, larger)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole = file.read_bytes()
        for content in (b"", whole[: len(whole) // 2]):
            file.write_bytes(content)
            _check_refused(backend, contract, path)
        file.unlink()
        _check_refused(backend, contract, path)
        file.write_bytes(whole)
    backend.open(path, contract)


def _check_refused(backend: Backend, contract: Contract, path: Path) -> None:
    with pytest.raises(BundleError):
        backend.open(path, contract)
    with pytest.raises(BundleError):
        backend.describe(path)
