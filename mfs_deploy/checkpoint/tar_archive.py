"""The members of a tar, in one pass and in memory: nothing is extracted to disk.

``tarfile`` is not used: it reads a header's whole claimed length, recurses through chained headers, and up to Python 3.11.9 can be
made to hang by one (https://nvd.nist.gov/vuln/detail/CVE-2024-6232).  Here every length is bounded first, and the pass that hashes
the archive also feeds the readers.

Format: POSIX.1-2001 ustar and pax, and GNU's long names.  512-byte blocks; two zero blocks end it, of which one is required.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mfs_deploy.checkpoint.byte_source import (
    Source,
    shown,
    unreadable,
    unsafe,
)

BLOCK = 512
MAX_MEMBERS = 10_000
MAX_HEADER_BYTES = 64 << 10  # of an extended header or a long name
MAX_MEMBER_BYTES = 1 << 30
LINKS_AND_DEVICES = {b"1": "hard link", b"2": "symbolic link", b"3": "device", b"4": "device", b"6": "FIFO"}


@dataclass(frozen=True)
class Member:
    """A regular file; ``source`` must be read before the next member is asked for, or is skipped."""

    name: str
    source: Source


def members(archive: Source) -> Iterator[Member]:
    """Regular files in order.  Names are relative and have no "..".

    Raises:
        CheckpointError: checkpoint-unsafe naming a member that is a link, a device, or leaves the folder; checkpoint-unreadable.
    """
    for _ in range(MAX_MEMBERS):
        header = _header(archive)
        if header is None:
            return
        name, kind, size = header
        _check_name(archive.name, name)
        if kind in LINKS_AND_DEVICES:
            raise unsafe(archive.name, f"member {shown(name)} is a {LINKS_AND_DEVICES[kind]}")
        if kind not in (b"0", b"\0", b"7", b"5"):
            raise unreadable(archive.name, f"member {shown(name)} is of the unknown kind {kind!r}")
        if size > MAX_MEMBER_BYTES:
            raise unreadable(archive.name, f"member {shown(name)} claims {size:,} bytes; at most {MAX_MEMBER_BYTES:,} are read")
        source = Source(archive, size, name)
        if kind != b"5" and not name.endswith("/"):
            yield Member(name, source)
        archive.skip(source.left)
        archive.skip(-size % BLOCK)
    raise unreadable(archive.name, f"more than {MAX_MEMBERS:,} members")


def _header(archive: Source) -> tuple[str, bytes, int] | None:
    """Name, kind and size of the next member, with what extended headers say of it; None at the end."""
    long_name, long_size = None, None
    for _ in range(8):  # a member has at most a global header, an extended one and two long names before it
        block = archive.read(BLOCK)
        if not block.strip(b"\0"):
            return None
        kind, size = block[156:157], _octal(archive, block[124:136])
        if sum(block[:148]) + 8 * ord(" ") + sum(block[156:]) != _octal(archive, block[148:156]):
            raise unreadable(archive.name, "not a tar, or a damaged one: wrong header checksum")
        if kind not in (b"x", b"g", b"L", b"K"):
            name = long_name if long_name is not None else _name(block)
            return name, kind, size if long_size is None else long_size
        if size > MAX_HEADER_BYTES:
            raise unreadable(archive.name, f"an extended header of {size:,} bytes")
        extension = archive.read(size)
        archive.skip(-size % BLOCK)
        if kind == b"L":
            long_name = _text(extension)
        elif kind == b"x":
            pax = _pax(archive, extension)
            long_name = pax.get("path", long_name)
            long_size = _decimal(archive, pax["size"]) if "size" in pax else long_size
    raise unreadable(archive.name, "a chain of extended headers")


def _pax(archive: Source, data: bytes) -> dict[str, str]:
    """Records of the form ``length SP key=value LF``, where length counts the whole record."""
    records: dict[str, str] = {}
    while data.strip(b"\0"):
        digits = data[:10].partition(b" ")[0]
        length = _decimal(archive, _text(digits))
        key, equals, value = data[len(digits) + 1 : length - 1].partition(b"=")
        if not equals or length > len(data) or data[length - 1 : length] != b"\n":
            raise unreadable(archive.name, "a damaged extended header")
        if key.startswith(b"GNU.sparse"):
            raise unreadable(archive.name, "a sparse member", hint="pack it again without sparse files")
        records[_text(key)] = _text(value)
        data = data[length:]
    return records


def _name(block: bytes) -> str:
    name, prefix = _text(block[:100]), _text(block[345:500])
    return f"{prefix}/{name}" if prefix and block[257:263] == b"ustar\0" else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _octal(archive: Source, field: bytes) -> int:
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if digits.strip(b"01234567"):  # also GNU's base 256, for 8 GiB and more
        raise unreadable(archive.name, "not a tar, or a damaged one: a header field that is no octal number")
    return int(digits, 8)


def _decimal(archive: Source, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 12):
        raise unreadable(archive.name, "an extended header with a bad number")
    return int(text)


def _check_name(archive: str, name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if not name or name[0] in "/\\" or ".." in parts or name[1:2] == ":":
        raise unsafe(archive, f"member {shown(name)} leaves the archive's folder")
