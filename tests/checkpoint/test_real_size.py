"""Files of the published form and size: every container gives the same tensors, soon, without holding them twice."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mfs_deploy.architectures.mobilefaceswap.arcface import ArcFace
from mfs_deploy.architectures.mobilefaceswap.generator import Generator
from mfs_deploy.checkpoint.load import Checkpoint, load
from mfs_deploy.checkpoint.match import parameters_of
from mfs_deploy.errors import CheckpointError
from testing import standin
from testing.memory import PEAK

DETECTOR = b"stands for a detector" * 1000


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> Checkpoint:
    return load(checkpoint)


def assert_same(a: dict[str, torch.Tensor] | None, b: dict[str, torch.Tensor] | None) -> None:
    assert a is not None
    assert b is not None
    assert a.keys() == b.keys()
    for key, tensor in a.items():
        assert torch.equal(tensor, b[key]), key


def test_the_folder_fills_both_networks_with_the_numbers_that_were_written(loaded: Checkpoint) -> None:
    for state, net in ((loaded.generator, Generator()), (loaded.encoder, ArcFace())):
        assert state is not None
        standin.fill(net, seed=1)
        expected = {key: t for key, t in net.state_dict().items() if not key.endswith("num_batches_tracked")}
        assert_same(state, expected)
        missing = net.load_state_dict(state, strict=False)
        assert not missing.unexpected_keys
        assert all(key.endswith("num_batches_tracked") for key in missing.missing_keys)


def test_the_loaded_generator_bakes_what_the_authors_code_baked(loaded: Checkpoint, golden) -> None:
    from mfs_deploy.architectures.mobilefaceswap.bake import bake

    generator = Generator().eval()
    generator.load_state_dict(loaded.generator, strict=False)
    baked = bake(generator, torch.tensor(golden["identity_embedding"]), torch.tensor(golden["identity_feature_map"]))
    for key in [key for key in golden if key.startswith("baked/")]:
        found, expected = baked[key.removeprefix("baked/")].numpy(), golden[key]
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max(), key


def test_each_file_is_recorded_with_its_own_hash(loaded: Checkpoint, checkpoint: Path) -> None:
    assert [file.role for file in loaded.files] == ["generator", "identity encoder"]
    for file in loaded.files:
        data = (checkpoint / file.name).read_bytes()
        assert file.bytes == len(data)
        assert file.sha256 == hashlib.sha256(data).hexdigest()
        assert file.recognised == ""


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("names", ["paddle", "torch"])
def test_every_container_and_naming_gives_identical_tensors(loaded: Checkpoint, tmp_path: Path, suffix: str, names: str) -> None:
    state = loaded.generator
    if names == "paddle":
        published = parameters_of(Generator)
        state = {key: state[s.torch_key].t().contiguous() if s.transposed else state[s.torch_key] for key, s in published.items()}
    file = tmp_path / f"anna{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save({"state_dict": state}, file)
    again = load(file)
    assert_same(again.generator, loaded.generator)
    assert again.encoder is None
    assert [(f.role, f.name, f.bytes) for f in again.files] == [("generator", f"generator{suffix}", file.stat().st_size)]
    assert again.files[0].sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_the_archive_gives_what_the_folder_gives(loaded: Checkpoint, checkpoint: Path, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "d.onnx").write_bytes(DETECTOR)
    (tmp_path / "readme").write_bytes(b"ignored")
    file = tmp_path / f"anna{suffix}"
    with tarfile.open(file, "w:gz", compresslevel=0) if suffix == ".tar.gz" else tarfile.open(file, "w") as archive:
        archive.add(tmp_path / "readme", "checkpoints/readme")
        archive.add(checkpoint / "arcface.pdparams", "checkpoints/arcface.pdparams")
        archive.add(tmp_path / "d.onnx", "checkpoints/landmarks/scrfd_10g_bnkps.onnx")
        archive.add(checkpoint / "MobileFaceSwap_224.pdparams", "checkpoints/MobileFaceSwap_224.pdparams")
    told: list[str] = []
    found = load(file, progress=told.append)
    assert_same(found.generator, loaded.generator)
    assert_same(found.encoder, loaded.encoder)
    assert found.detector == DETECTOR
    assert (found.files[0].role, found.files[0].name) == ("archive", f"archive{suffix}")
    with open(file, "rb") as f:
        assert found.files[0].sha256 == hashlib.file_digest(f, "sha256").hexdigest()
    assert set(loaded.files) < set(found.files)
    assert len(told) == 3


def test_the_checkpoints_subfolder_and_the_detector_are_found(loaded: Checkpoint, checkpoint: Path, tmp_path: Path) -> None:
    inner = tmp_path / "checkpoints"
    (inner / "landmarks").mkdir(parents=True)
    (inner / "landmarks" / "scrfd_10g_bnkps.onnx").write_bytes(DETECTOR)
    for name in ("MobileFaceSwap_224.pdparams", "arcface.pdparams"):
        (inner / name).symlink_to(checkpoint / name)
    found = load(tmp_path)
    assert found.detector == DETECTOR
    assert_same(found.encoder, loaded.encoder)


def test_a_given_encoder_takes_the_folders_place(loaded: Checkpoint, checkpoint: Path, tmp_path: Path) -> None:
    assert loaded.encoder is not None
    changed = {**loaded.encoder, "bn3.bias": loaded.encoder["bn3.bias"] + 1}
    save_file(changed, tmp_path / "mine.safetensors")
    found = load(checkpoint, encoder=tmp_path / "mine.safetensors")
    assert_same(found.encoder, changed)
    assert [file.name for file in found.files] == ["MobileFaceSwap_224.pdparams", "encoder.safetensors"]


def test_the_encoder_given_as_the_generator_is_recognised(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="this is the identity encoder, given as the generator"):
        load(checkpoint / "arcface.pdparams")


def test_a_truncated_generator_is_unreadable(checkpoint: Path, tmp_path: Path) -> None:
    data = (checkpoint / "MobileFaceSwap_224.pdparams").read_bytes()
    for length in (1000, len(data) // 2, len(data) - 1):
        (tmp_path / "MobileFaceSwap_224.pdparams").write_bytes(data[:length])
        with pytest.raises(CheckpointError) as caught:
            load(tmp_path)
        assert caught.value.kind == "checkpoint-unreadable"


def test_loading_holds_the_weights_little_more_than_once(checkpoint: Path) -> None:
    """Peak memory of a fresh process, beyond what its imports take, against the two files' 292 MB."""
    code = f"""{PEAK}
import sys
from pathlib import Path
import torch, safetensors
from mfs_deploy.checkpoint.match import parameters_of
from mfs_deploy.checkpoint.load import load
from mfs_deploy.architectures.mobilefaceswap.arcface import ArcFace
from mfs_deploy.architectures.mobilefaceswap.generator import Generator
parameters_of(Generator), parameters_of(ArcFace)
before = peak()
load(Path(sys.argv[1]))
print((peak() - before) * 1024)
"""
    done = subprocess.run([sys.executable, "-c", code, str(checkpoint)], capture_output=True, text=True, check=True)
    files = sum(file.stat().st_size for file in checkpoint.glob("*.pdparams"))
    assert int(done.stdout) < 1.4 * files
