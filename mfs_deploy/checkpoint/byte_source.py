"""Bytes of an untrusted file: read once, front to back, hashed while reading, never past a stated size."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

from mfs_deploy.errors import CheckpointError

CHUNK = 1 << 20
MAX_FILE_BYTES = 2 << 30
DOWNLOAD_AGAIN = "compare the file's size with the original and download it again"
NOT_OPENED = "nothing from the file was run; get the weights from a source you trust"


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...

    def readinto(self, buffer: Any, /) -> int | None: ...


def shown(text: str) -> str:
    """``text`` made safe for one line of a message: printable and at most 80 characters."""
    clean = "".join(c if c.isprintable() else "?" for c in text[:81])
    return clean if len(clean) <= 80 else clean[:79] + "…"


def unreadable(name: str, what: str, hint: str = DOWNLOAD_AGAIN) -> CheckpointError:
    """The file is cut short, or not of the format its name says."""
    return CheckpointError(f"{shown(name)}: {what}", hint=hint, kind="checkpoint-unreadable")


def unsafe(name: str, what: str) -> CheckpointError:
    """The file asks for something that weights never need."""
    return CheckpointError(f"{shown(name)}: {what}", hint=NOT_OPENED, kind="checkpoint-unsafe")


class Source:
    """``size`` bytes of ``stream``, in exact amounts.

    Every amount is checked against what is left before memory is claimed for it.  ``name`` is for messages.
    """

    def __init__(self, stream: Readable, size: int, name: str, *, hashed: bool = True) -> None:
        self.name = name
        self.size = size
        self.left = size
        self._stream = stream
        self._sha = hashlib.sha256() if hashed else None

    def read(self, count: int) -> bytes:
        self._claim(count)
        data = self._stream.read(count)
        self._passed(data, count)
        return data

    def payload(self, count: int) -> bytearray:
        """``count`` bytes in memory of their own, aligned for any number and writable."""
        self._claim(count)
        data = bytearray(count)
        got = 0
        while got < count:
            n = self._stream.readinto(memoryview(data)[got:])
            if not n:
                break
            got += n
        self._passed(memoryview(data)[:got], count)
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` as far as there are bytes; makes a source a stream, for the members of an archive."""
        view = memoryview(buffer).cast("B")
        count = min(len(view), self.left)
        self._claim(count)
        n = self._stream.readinto(view[:count]) or 0
        self._passed(view[:n], n)
        self.left += count - n
        return n

    def skip(self, count: int) -> None:
        while count:
            count -= len(self.read(min(count, CHUNK)))

    def sha256(self) -> str:
        """Of all ``size`` bytes; reads what is left."""
        assert self._sha is not None, "this source does not hash"
        self.skip(self.left)
        return self._sha.hexdigest()

    def _claim(self, count: int) -> None:
        if count > self.left:
            raise unreadable(self.name, f"asks for {count:,} bytes where {self.left:,} are left")
        self.left -= count

    def _passed(self, data: bytes | memoryview, count: int) -> None:
        if len(data) < count:
            raise unreadable(self.name, f"ends {count - len(data):,} bytes early")
        if self._sha is not None:
            self._sha.update(data)
