"""Where checkpoints come from: the authors' archive, a folder, a file; and what a hostile archive must not do."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from mfs_deploy.checkpoint import tar_archive
from mfs_deploy.checkpoint.byte_source import Source
from mfs_deploy.checkpoint.known_files import describe
from mfs_deploy.checkpoint.load import load, role_of
from mfs_deploy.errors import CheckpointError

Members = list[tuple[str, bytes]]


def packed(members: Members, fmt: int = tarfile.PAX_FORMAT, change: Callable[[tarfile.TarInfo], None] = lambda info: None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            change(info)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def unpacked(data: bytes) -> Members:
    source = Source(io.BytesIO(data), len(data), "a.tar")
    return [(member.name, member.source.read(member.source.size)) for member in tar_archive.members(source)]


@pytest.mark.parametrize("fmt", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_every_tar_format_are_what_went_in(fmt: int) -> None:
    long = "checkpoints/" + "d" * 90 + "/" + "f" * 60
    members = [("checkpoints/a", b""), ("./b", b"x" * 511), ("c", b"y" * 512), (long, b"z" * 513), ("d", b"1")]
    assert unpacked(packed(members, fmt)) == members


def test_names_and_times_in_extended_headers_are_read() -> None:
    def fractional(info: tarfile.TarInfo) -> None:
        info.mtime = 1234567.25

    members = [("checkpoints/gesicht-ü-" + "n" * 200, b"abc"), ("b", b"d")]
    assert unpacked(packed(members, change=fractional)) == members


ESCAPES = ["../x", "checkpoints/../../x", "/etc/passwd", "checkpoints/..", "..\\x", "C:\\x", "a/" * 60 + "../" * 70 + "x"]


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("fmt", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_member_that_leaves_the_folder_is_named_and_nothing_is_written(tmp_path: Path, name: str, fmt: int) -> None:
    file = tmp_path / "inner" / "checkpoints.tar"
    file.parent.mkdir()
    file.write_bytes(packed([("checkpoints/readme", b"hello"), (name, b"bad"), ("z", b"")], fmt))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match="leaves the archive's folder") as caught:
        load(file)
    assert caught.value.kind == "checkpoint-unsafe"
    assert name[:20] in caught.value.message
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "FIFO"),
    ],
)
def test_links_and_devices_are_refused_by_name(tmp_path: Path, kind: bytes, said: str) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = kind, "/etc/passwd"

    file = tmp_path / "c.tar"
    file.write_bytes(packed([("checkpoints/arcface.pdparams", b"")], change=change))
    with pytest.raises(CheckpointError, match=rf"checkpoints/arcface\.pdparams is a {said}") as caught:
        load(file)
    assert caught.value.kind == "checkpoint-unsafe"


def test_a_truncated_archive_is_unreadable_wherever_it_ends(tiny, tmp_path: Path) -> None:
    whole = packed([("checkpoints/other", b"o" * 2000), ("checkpoints/more", b"m" * 700)], tarfile.GNU_FORMAT)
    end = 512 + 2048 + 512 + 1024
    assert not whole[end:].strip(b"\0")
    for length in [0, 1, 511, 512, 513, 1500, 2560, 2600, 3072, 3073, end - 1, end, end + 511]:
        with pytest.raises(CheckpointError) as caught:
            unpacked(whole[:length])
        assert caught.value.kind == "checkpoint-unreadable", length
    assert len(unpacked(whole[: end + 512])) == 2


def test_a_file_that_is_no_archive_is_unreadable(tmp_path: Path) -> None:
    for name in ("c.tar", "c.tar.gz", "c.tgz"):
        (tmp_path / name).write_bytes(b"<html>" + b"Not Found" * 1000)
        with pytest.raises(CheckpointError, match=r"not a tar|damaged gzip") as caught:
            load(tmp_path / name)
        assert caught.value.kind == "checkpoint-unreadable"


@pytest.mark.parametrize("cut", [5, 100, -20, -4])
def test_a_truncated_gzip_is_unreadable(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "c.tgz"
    file.write_bytes(gzip.compress(packed([("a", os.urandom(9000))])[:9000], mtime=0)[:cut])
    with pytest.raises(CheckpointError) as caught:
        load(file)
    assert caught.value.kind == "checkpoint-unreadable"


def test_a_gzip_bomb_ends_at_the_bound_without_taking_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mfs_deploy.checkpoint.load.MAX_FILE_BYTES", 100 << 20)
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as f:
        f.write(packed([("zeros", bytes(150 << 20))]))
    file = tmp_path / "c.tar.gz"
    file.write_bytes(out.getvalue())
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="are left"):
        load(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 << 20


def header(kind: bytes, size: bytes) -> bytes:
    block = bytearray(512)
    block[:1], block[124 : 124 + len(size)], block[156:157], block[257:263] = b"n", size, kind, b"ustar\0"
    block[148:156] = b"%06o\0 " % (sum(block) + 8 * 32)
    return bytes(block)


@pytest.mark.parametrize(
    "data",
    [
        header(b"0", b"77777777777"),  # 8 GiB
        header(b"0", b"\x80" + b"\0" * 3 + b"\xff" * 8),  # base 256
        header(b"0", b"-0000000001"),
        header(b"x", b"77777777777"),
        header(b"L", b"00004000000"),
        header(b"x", b"00000000000") * 2000,
        header(b"L", b"00000000000") * 2000,
        header(b"0", b"00000000000") * 20_000,
        header(b"S", b"00000000000"),
        header(b"x", b"00000000006") + b"6 a=b\n".ljust(512, b"\0"),
        header(b"x", b"00000000011") + b"999 a=b\n".ljust(512, b"\0"),
        header(b"x", b"00000000011") + b"0 a=b\n".ljust(512, b"\0"),
        header(b"x", b"00000000011") + b"-1 a=b\n".ljust(512, b"\0"),
        header(b"x", b"00000000011") + b"9 size=-\n".ljust(512, b"\0") + header(b"0", b"0"),
        header(b"x", b"00000100000") + (b"1" * 32768),
        header(b"0", b"00000000000")[:-1] + b"\x01",
    ],
)
def test_headers_that_lie_end_in_an_error_at_once(data: bytes) -> None:
    started = time.perf_counter()
    with pytest.raises(CheckpointError) as caught:
        unpacked(data)
    assert caught.value.kind == "checkpoint-unreadable"
    assert time.perf_counter() - started < 2


def test_an_archive_without_a_generator_says_what_it_looked_for(tmp_path: Path) -> None:
    file = tmp_path / "anna.tar"
    file.write_bytes(packed([("checkpoints/other.pdparams", b"x")]))
    with pytest.raises(CheckpointError, match=r"MobileFaceSwap_224\.pdparams") as caught:
        load(file)
    assert caught.value.kind == "checkpoint-missing"


def test_a_malicious_member_is_refused(tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    file = tmp_path / "c.tar"
    file.write_bytes(packed([("checkpoints/MobileFaceSwap_224.pdparams", pickle.dumps({"a": Bad()}))]))
    with pytest.raises(CheckpointError, match=r"posix\.system"):
        load(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("checkpoints/MobileFaceSwap_224.pdparams", "generator"),
        ("MobileFaceSwap_256.safetensors", "generator"),
        ("./checkpoints/mobilefaceswap_224.PTH", "generator"),
        ("checkpoints/arcface.pdparams", "identity encoder"),
        ("arcface.pt", "identity encoder"),
        ("checkpoints/landmarks/scrfd_10g_bnkps.onnx", "detector"),
        ("landmarks/other.onnx", "detector"),
        ("checkpoints/landmarks/arcface.pdparams", None),
        ("old/MobileFaceSwap_224.pdparams", None),
        ("checkpoints/._MobileFaceSwap_224.pdparams", None),
        ("MobileFaceSwap_224.pdparams.bak", None),
        ("arcface.onnx", None),
        ("", None),
    ],
)
def test_files_are_known_by_their_names(name: str, role: str | None) -> None:
    assert role_of(name, "mobilefaceswap") == role


def test_two_generators_in_a_folder_are_listed_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in ("MobileFaceSwap_224.pdparams", "checkpoints/MobileFaceSwap_256.pth"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"more than one generator") as caught:
        load(tmp_path)
    assert "MobileFaceSwap_224.pdparams" in caught.value.message
    assert "checkpoints/MobileFaceSwap_256.pth" in caught.value.message


@pytest.mark.parametrize("name", ["nowhere", "nowhere.pth", "nowhere.tar"])
def test_a_path_that_does_not_exist_is_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="no such file") as caught:
        load(tmp_path / name)
    assert caught.value.kind == "checkpoint-missing"


def test_an_empty_folder_is_missing_its_generator(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no generator in it") as caught:
        load(tmp_path)
    assert caught.value.kind == "checkpoint-missing"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pdparams")
    with pytest.raises(CheckpointError, match="not a regular file"):
        load(tmp_path / "pipe.pdparams")


def test_an_unknown_kind_of_file_is_told_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "weights.h5").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"allowed: \.pdparams"):
        load(tmp_path / "weights.h5")


def test_a_sparse_file_beyond_the_bound_is_refused_unread(tmp_path: Path) -> None:
    with open(tmp_path / "x.pdparams", "wb") as f:
        f.truncate((2 << 30) + 1)
    with pytest.raises(CheckpointError, match="at most"):
        load(tmp_path / "x.pdparams")


def test_a_users_file_names_are_not_recorded() -> None:
    assert describe("generator", "anna-müller.pth", 5, "0" * 64).name == "generator.pth"
    assert describe("identity encoder", "Anna.PDPARAMS", 5, "0" * 64).name == "encoder.pdparams"
    assert describe("archive", "anna.tar.gz", 5, "0" * 64).name == "archive.tar.gz"
    assert describe("generator", "MobileFaceSwap_224.pdparams", 5, "0" * 64).name == "MobileFaceSwap_224.pdparams"


def test_published_files_are_recognised_by_size_and_hash() -> None:
    sha = "8e45272de4cc55d64294d282bb7605343a406696a05209203065aa1b51aed58e"
    assert describe("archive", "x.tar", 569_453_568, sha).recognised == "published archive (size and SHA-256 match)"
    assert describe("archive", "x.tar", 569_453_568, "0" * 64).recognised == "size matches the published file"
    found = describe("generator", "anna.pdparams", 82_834_948, "0" * 64)
    assert (found.name, found.recognised) == ("MobileFaceSwap_224.pdparams", "size matches the published file")
    assert describe("generator", "anna.pdparams", 82_834_949, "0" * 64).recognised == ""
