"""A kept identity must come back exactly, be private, and never be mistaken for something else."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mfs_deploy.checkpoint import identity_file
from mfs_deploy.errors import CheckpointError, OutputError

SHA = hashlib.sha256(b"encoder").hexdigest()


@pytest.fixture
def identity(golden: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return golden["identity_embedding"], golden["identity_feature_map"]


def test_what_was_saved_comes_back_and_only_its_owner_may_read_it(identity, tmp_path: Path) -> None:
    file = tmp_path / "me.safetensors"
    old = os.umask(0)
    try:
        identity_file.save(file, identity[0], identity[1], SHA)
    finally:
        os.umask(old)
    loaded = identity_file.load(file)
    assert np.array_equal(loaded.embedding, identity[0])
    assert np.array_equal(loaded.feature_map, identity[1])
    assert loaded.encoder_sha256 == SHA
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_the_same_identity_gives_the_same_bytes(identity, tmp_path: Path) -> None:
    """Twenty times: the format's own library shuffles the header."""
    written = set()
    for i in range(20):
        identity_file.save(tmp_path / f"{i}", identity[0], identity[1], SHA)
        written.add((tmp_path / f"{i}").read_bytes())
    assert len(written) == 1


def test_a_failed_write_leaves_the_old_file_and_nothing_beside(identity, tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "me.safetensors"
    file.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", lambda a, b: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match="No space left"):
        identity_file.save(file, identity[0], identity[1], SHA)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(OutputError):
        identity_file.save(tmp_path / "no" / "me.safetensors", identity[0], identity[1], SHA)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e, f: (e * 1.01, f), "length is 1.0100"),
        (lambda e, f: (e * np.nan, f), "embedding holds NaN"),
        (lambda e, f: (e, np.where(f == f.max(), np.inf, f)), "feature_map holds NaN or infinite"),
        (lambda e, f: (e.astype(np.float64), f), "float64"),
        (lambda e, f: (e, f.astype(np.float16)), "float16"),
        (lambda e, f: (e[0], f), "512"),
        (lambda e, f: (e, f[:, :, :6]), "6, 7"),
    ],
)
def test_arrays_that_are_no_identity_are_not_saved(identity, tmp_path: Path, change, said: str) -> None:
    embedding, feature_map = change(*identity)
    with pytest.raises(CheckpointError, match=said) as caught:
        identity_file.save(tmp_path / "x", embedding, feature_map, SHA)
    assert caught.value.kind == "identity"
    assert not list(tmp_path.iterdir())


META = {"format": "mfs-identity", "version": "1", "arch": "mobilefaceswap", "encoder_sha256": SHA}


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({}, "without the mark"),
        ({**META, "format": "pt"}, "without the mark"),
        ({**META, "version": "2"}, "version 2"),
        ({**META, "arch": "other"}, "other"),
        ({**META, "encoder_sha256": "../../x"}, "SHA-256"),
        ({k: v for k, v in META.items() if k != "encoder_sha256"}, "SHA-256"),
    ],
)
def test_another_kind_of_safetensors_is_told_from_an_identity(identity, tmp_path: Path, metadata, said: str) -> None:
    save_file({"embedding": identity[0], "feature_map": identity[1]}, tmp_path / "x", metadata)
    with pytest.raises(CheckpointError, match=said) as caught:
        identity_file.load(tmp_path / "x")
    assert caught.value.kind == "identity"


def test_changed_contents_are_refused(identity, tmp_path: Path) -> None:
    e, f = identity
    for arrays, said in [
        ({"embedding": e}, "expected {"),
        ({"embedding": e, "feature_map": f, "photo": e}, "expected {"),
        ({"embedding": e * 2, "feature_map": f}, "length is 2"),
        ({"embedding": e.astype(np.float16), "feature_map": f}, "expected float32"),
    ]:
        save_file(arrays, tmp_path / "x", META)
        with pytest.raises(CheckpointError, match=said):
            identity_file.load(tmp_path / "x")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(100), b"\xff" * 64, b"\0" * 64, bytes(2 << 20)])
def test_a_file_that_holds_no_identity_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CheckpointError, match="not an identity file") as caught:
        identity_file.load(tmp_path / "x")
    assert caught.value.kind == "identity"


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file") as caught:
        identity_file.load(tmp_path / "x")
    assert caught.value.kind == "checkpoint-missing"
    with pytest.raises(CheckpointError, match="a folder"):
        identity_file.load(tmp_path)


def test_flipped_bytes_and_cuts_give_an_error_or_a_sound_identity(identity, tmp_path: Path) -> None:
    file = tmp_path / "x"
    identity_file.save(file, identity[0], identity[1], SHA)
    whole = file.read_bytes()
    rng = np.random.default_rng(3)
    for i in range(300):
        data = bytearray(whole)
        if i % 3:
            data[int(rng.integers(400 if i % 3 == 1 else len(data)))] ^= 1 << int(rng.integers(8))
        else:
            data = data[: int(rng.integers(len(data)))]
        file.write_bytes(data)
        try:
            loaded = identity_file.load(file)
        except CheckpointError:
            continue
        assert np.isfinite(loaded.feature_map).all()
        assert abs(np.linalg.norm(loaded.embedding) - 1) <= 1e-3


def test_reading_an_identity_file_needs_no_torch() -> None:
    code = "import sys, mfs_deploy.checkpoint.identity_file; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
