"""Whatever damage does to a file, the answer is an error that says so or a sound set of weights: no crash, no hang."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mfs_deploy.checkpoint import pdparams, safetensors_file, tar_archive, torch_file
from mfs_deploy.checkpoint.byte_source import Source
from mfs_deploy.checkpoint.match import match_parameters
from mfs_deploy.errors import CheckpointError

KINDS = {"checkpoint-unreadable", "checkpoint-unsafe", "checkpoint-keys", "checkpoint-shape", "checkpoint-values"}


def damaged(whole: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Flipped bits, replaced bytes, cuts, repeats and opcodes in odd places, in turn."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        data = bytearray(whole)
        at = int(rng.integers(len(data)))
        if i % 5 == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif i % 5 == 1:
            for place in rng.integers(len(data), size=int(rng.integers(1, 8))):
                data[place] = int(rng.integers(256))
        elif i % 5 == 2:
            del data[at:]
        elif i % 5 == 3:
            data[at:at] = data[at : at + int(rng.integers(1, 40))]
        else:
            data[at : at + 1] = bytes(rng.choice(list(b"(.0tbRcq}]sue\x85\x86\x87\x93\x94\x95\x8e\x96"), size=2).tolist())
        yield bytes(data)


def survives(run: Callable[[bytes], dict[str, torch.Tensor]], whole: bytes, count: int, seed: int) -> int:
    """How many of the damaged files were refused."""
    refused: list[CheckpointError] = []
    for data in damaged(whole, count, seed):
        try:
            state = run(data)
        except CheckpointError as exc:
            refused.append(exc)
        else:
            assert all(torch.isfinite(tensor).all() for tensor in state.values())
    assert {exc.kind for exc in refused} <= KINDS
    assert all(exc.message.isprintable() for exc in refused)
    return len(refused)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_damaged_pdparams(read_pickle, tiny, protocol: int) -> None:
    whole = pickle.dumps({**tiny, "StructuredToParameterName@@": {key: key for key in tiny}}, protocol=protocol)
    refused = survives(read_pickle, whole, 1500, seed=protocol)
    assert 400 < refused < 1500


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_torch_files(tiny_specs, tiny_state, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"x{suffix}"
    save_file(tiny_state, file) if suffix == ".safetensors" else torch.save(tiny_state, file)
    opened = safetensors_file.opened if suffix == ".safetensors" else torch_file.opened

    def run(data: bytes) -> dict[str, torch.Tensor]:
        file.write_bytes(data)
        with opened(file, file.name) as stored:
            return match_parameters(stored, tiny_specs, "generator", file.name)

    refused = survives(run, file.read_bytes(), 1000, seed=11)
    assert 200 < refused < 1000


def test_damaged_archives(tiny, tiny_specs) -> None:
    out = io.BytesIO()
    content = pickle.dumps(tiny, protocol=4)
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in (("checkpoints/" + "r" * 120, b"read me"), ("g.pdparams", content)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))

    def run(data: bytes) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = {}
        for member in tar_archive.members(Source(io.BytesIO(data), len(data), "a.tar")):
            if member.name.endswith(".pdparams"):
                state = match_parameters(pdparams.read(member.source), tiny_specs, "generator", member.name)
        return state

    whole = out.getvalue()
    end = len(whole.rstrip(b"\0")) + 1024
    refused = survives(run, whole[:end], 1500, seed=7)
    assert 400 < refused < 1500
