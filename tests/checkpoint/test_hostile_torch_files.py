"""A .pth or .safetensors file from a stranger: refused where it lies, named, and never run."""

from __future__ import annotations

import os
import pickletools
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mfs_deploy.checkpoint import safetensors_file, torch_file
from mfs_deploy.checkpoint.match import match_parameters
from mfs_deploy.errors import CheckpointError

State = dict[str, torch.Tensor]


@pytest.fixture
def read(tiny_specs) -> Callable[[Path], State]:
    def run(path: Path) -> State:
        opened = safetensors_file.opened if path.suffix == ".safetensors" else torch_file.opened
        with opened(path, path.name) as stored:
            return match_parameters(stored, tiny_specs, "generator", path.name)

    return run


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None], compression: int = zipfile.ZIP_STORED) -> Path:
    """The zip at ``path`` with each member passed through ``change``; None drops it."""
    with zipfile.ZipFile(path) as old:
        members = [(name, old.read(name)) for name in old.namelist()]
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, data in members:
            changed = change(name, data)
            if changed is not None:
                new.writestr(name, changed)
    return path


def assert_same(a: State, b: State) -> None:
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_every_float_type_is_read(read, tiny_state: State, tmp_path: Path, dtype: torch.dtype, suffix: str) -> None:
    state = {key: tensor.to(dtype) for key, tensor in tiny_state.items()}
    file = tmp_path / f"x{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    assert_same(read(file), {key: tensor.float() for key, tensor in state.items()})


def test_a_modules_own_state_dict_with_parameters_and_counts_is_read(read, tmp_path: Path) -> None:
    from torch import nn

    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(), nn.Linear(4, 4), nn.Linear(4, 6))
    state = {**net.state_dict(), **dict(net.named_parameters())}  # Parameters take another way through pickle
    torch.save(state, tmp_path / "a.pth")
    torch.save({"state_dict": net.state_dict(), "epoch": 3, "loss": 0.5, "history": [1, 2]}, tmp_path / "b.pt")
    torch.save(nn.DataParallel(net).state_dict(), tmp_path / "c.pt")
    expected = {key: tensor for key, tensor in net.state_dict().items() if not key.endswith("num_batches_tracked")}
    for name in ("a.pth", "b.pt", "c.pt"):
        assert_same(read(tmp_path / name), expected)


def test_views_and_transposes_keep_their_values(read, tiny_state: State, tmp_path: Path) -> None:
    odd = dict(tiny_state)
    odd["4.weight"] = tiny_state["4.weight"].t().contiguous().t()
    odd["3.bias"] = torch.cat([torch.zeros(3), tiny_state["3.bias"]])[3:]
    odd["0.bias"] = torch.ones(1).expand(4)
    torch.save(odd, tmp_path / "x.pth")
    assert_same(read(tmp_path / "x.pth"), odd)


def test_paddles_names_in_other_containers_mean_paddles_layout(read, tiny, tiny_state: State, tmp_path: Path) -> None:
    arrays = {key: torch.tensor(array) for key, array in tiny.items()}
    torch.save(arrays, tmp_path / "x.pth")
    save_file(arrays, tmp_path / "x.safetensors")
    for name in ("x.pth", "x.safetensors"):
        assert_same(read(tmp_path / name), tiny_state)


@pytest.mark.parametrize("wrapper", ["model", "generator", "params_ema"])
def test_other_wrappers_are_told_not_guessed(read, tiny_state: State, tmp_path: Path, wrapper: str) -> None:
    torch.save({wrapper: tiny_state, "epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=rf"found {wrapper} \(dict\), epoch \(int\)") as caught:
        read(tmp_path / "x.pth")
    assert caught.value.kind == "checkpoint-keys"


def test_a_whole_pickled_module_is_refused_by_its_class(read, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.linear\.Linear") as caught:
        read(tmp_path / "x.pth")
    assert caught.value.kind == "checkpoint-unsafe"


def test_a_pth_that_runs_a_command_is_refused_and_does_not_run_it(read, tiny_state: State, tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    class Bad:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    torch.save({**tiny_state, "x": Bad()}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"posix\.system") as caught:
        read(tmp_path / "x.pth")
    assert caught.value.kind == "checkpoint-unsafe"
    assert not mark.exists()
    torch.load(tmp_path / "x.pth", weights_only=False)
    assert mark.exists()


def test_files_from_before_pytorch_1_6_say_what_to_do(read, tiny_state: State, tmp_path: Path) -> None:
    torch.save(tiny_state, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"before PyTorch 1\.6") as caught:
        read(tmp_path / "x.pth")
    assert caught.value.kind == "checkpoint-unreadable"


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_types_are_refused_by_key(read, tiny_state: State, tmp_path: Path, dtype: torch.dtype, suffix: str) -> None:
    tiny_state["3.bias"] = tiny_state["3.bias"].to(dtype)
    file = tmp_path / f"x{suffix}"
    save_file(tiny_state, file) if suffix == ".safetensors" else torch.save(tiny_state, file)
    with pytest.raises(CheckpointError, match=r"3\.bias is of type") as caught:
        read(file)
    assert caught.value.kind == "checkpoint-values"


@pytest.mark.parametrize("kind", ["sparse", "meta"])
def test_tensors_of_another_kind_are_refused(read, tiny_state: State, tmp_path: Path, kind: str) -> None:
    plain = tiny_state["3.bias"]
    other = plain.to_sparse() if kind == "sparse" else plain.to("meta")
    torch.save({**tiny_state, "3.bias": other}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"torch\._utils\._rebuild") as caught:
        read(tmp_path / "x.pth")
    assert caught.value.kind == "checkpoint-unsafe"


def pickle_swap(old: bytes, new: bytes) -> Callable[[str, bytes], bytes]:
    def change(name: str, data: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return data
        assert old in data
        return data.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # The first tensor: storage of 108 numbers, offset 0, size (4, 3, 3, 3), stride (27, 9, 3, 1).
        (b"K\x6ctq", b"J\x00\x00\x00\x10tq"),  # a storage of 268 million
        (b"K\x6ctq", b"J\xff\xff\xff\xfftq"),
        (b"QK\x00(K\x04", b"QK\x01(K\x04"),  # one number past the end
        (b"QK\x00(K\x04", b"QJ\xff\xff\xff\xff(K\x04"),
        (b"(K\x1bK\x09K\x03K\x01t", b"(K\x1cK\x09K\x03K\x01t"),
        (b"(K\x1bK\x09K\x03K\x01t", b"(J\xe5\xff\xff\xffK\x09K\x03K\x01t"),
        (b"(K\x1bK\x09K\x03K\x01t", b"(K\x1bK\x09K\x03t"),
    ],
)
def test_a_tensor_outside_its_storage_is_not_read(read, tiny_state: State, tmp_path: Path, old: bytes, new: bytes) -> None:
    torch.save(tiny_state, tmp_path / "x.pth")
    file = rewritten(tmp_path / "x.pth", pickle_swap(old, new))
    with pytest.raises(CheckpointError) as caught:
        read(file)
    assert caught.value.kind == "checkpoint-unreadable"


def test_a_member_that_is_missing_or_cut_is_unreadable(read, tiny_state: State, tmp_path: Path) -> None:
    for change in (
        lambda name, data: None if name.endswith("data/0") else data,
        lambda name, data: data[:-4] if name.endswith("data/0") else data,
        lambda name, data: data + b"\0\0\0\0" if name.endswith("data/0") else data,
        lambda name, data: None if name.endswith("data.pkl") else data,
        lambda name, data: b"big" if name.endswith("byteorder") else data,
    ):
        torch.save(tiny_state, tmp_path / "x.pth")
        with pytest.raises(CheckpointError) as caught:
            read(rewritten(tmp_path / "x.pth", change))
        assert caught.value.kind == "checkpoint-unreadable"


def test_compressed_members_are_refused_before_they_expand(read, tiny_state: State, tmp_path: Path) -> None:
    torch.save(tiny_state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="compressed member") as caught:
        read(rewritten(tmp_path / "x.pth", lambda name, data: data, zipfile.ZIP_DEFLATED))
    assert caught.value.kind == "checkpoint-unsafe"


def test_tuples_nested_half_a_million_deep_do_not_crash_the_reader(tiny_state: State, tmp_path: Path) -> None:
    """``torch.load(weights_only=True)`` dies of this file by a stack overflow (2.13.0), hence the reader of our own."""
    torch.save(tiny_state, tmp_path / "x.pth")
    deep = b"\x80\x02})" + b"\x85" * 500_000 + b"K\x01s."
    file = rewritten(tmp_path / "x.pth", lambda name, data: deep if name.endswith("data.pkl") else data)
    code = "import sys; from pathlib import Path; from mfs_deploy.checkpoint.load import load; load(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "neither text nor integer" in done.stderr


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04", b"PK\x03\x04" + bytes(100), b"\x80\x02.", b"<html>"])
def test_neither_pth_nor_safetensors_is_unreadable(read, tmp_path: Path, content: bytes) -> None:
    for name in ("x.pth", "x.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            read(tmp_path / name)
        assert caught.value.kind == "checkpoint-unreadable"
        assert "\n" not in caught.value.message


def test_a_safetensors_header_that_lies_is_refused(read, tiny_state: State, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file(tiny_state, file)
    sound = file.read_bytes()
    for old, new in [(b"[4,3,3,3]", b"[4,3,3,4]"), (b"F32", b"F64"), (sound[:8], (1 << 40).to_bytes(8, "little"))]:
        assert old in sound
        file.write_bytes(sound.replace(old, new, 1))
        with pytest.raises(CheckpointError) as caught:
            read(file)
        assert caught.value.kind == "checkpoint-unreadable"
    file.write_bytes(sound[:-1])
    with pytest.raises(CheckpointError):
        read(file)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_nan_is_refused_by_key(read, tiny_state: State, tmp_path: Path, suffix: str) -> None:
    tiny_state["4.bias"][1] = np.nan
    file = tmp_path / f"x{suffix}"
    save_file(tiny_state, file) if suffix == ".safetensors" else torch.save(tiny_state, file)
    with pytest.raises(CheckpointError, match=r"4\.bias holds NaN"):
        read(file)


def test_the_pickles_that_torch_writes_need_no_opcode_the_reader_lacks(tiny_state: State, tmp_path: Path) -> None:
    from mfs_deploy.checkpoint.pickle_reader import STEPS

    torch.save({"state_dict": tiny_state}, tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.pth") as archive:
        used = {op.code.encode("latin1") for op, _, _ in pickletools.genops(archive.read("x/data.pkl"))}
    assert used <= STEPS.keys() | {b"\x80", b"."}
