"""Pickles as data: a reader of the opcodes that weight files use, which imports and calls nothing the file names.

A pickle is a program for a stack machine.  Python's own machine with a restricted ``find_class`` still runs that program: a
1 MB file of nested tuples used as a dict key overflows its C stack, and one memo opcode can claim gigabytes; PyTorch's
``weights_only`` machine dies of the first too.  Here names stay inert (``Global``), the few callables are handlers in
this package that check every argument, dict keys are strings, and each amount is bounded by the file's size.

Opcodes: CPython's ``pickletools``, protocols 2 to 5.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mfs_deploy.checkpoint.byte_source import (
    Source,
    shown,
    unreadable,
    unsafe,
)

MAX_OPCODES = 1_000_000  # the published encoder has under 30,000
OPCODE_NAMES = {op.code: op.name for op in pickletools.opcodes}

Args = tuple[Any, ...]


@dataclass(frozen=True)
class Global:
    """``module.name`` as the file says it; never imported."""

    path: str


class Buildable:
    """What a handler returns when the pickle completes it later, with BUILD."""

    def build(self, state: object) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Vocabulary:
    """What a kind of file may say.

    ``calls``: global to the handler that stands in for it; a handler raises ``CheckpointError`` for arguments it does not
    expect.  ``names``: globals that are only mentioned.  ``persistent``: handler of persistent ids, if the format has them.
    """

    calls: Mapping[str, Callable[[Args], object]]
    names: frozenset[str] = frozenset()
    persistent: Callable[[object], object] | None = None


class Budget:
    """Bytes that a file may still expand to: at the start, its own size."""

    def __init__(self, name: str, size: int) -> None:
        self._name, self._left = name, size

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise unreadable(self._name, "claims more array bytes than the file has")


def read(source: Source, vocabulary: Vocabulary) -> object:
    """The object that the pickle at ``source`` describes.

    Raises:
        CheckpointError: checkpoint-unsafe for a global outside ``vocabulary``; checkpoint-unreadable for anything malformed.
    """
    return _Machine(source, vocabulary).run()


class _Machine:
    def __init__(self, source: Source, vocabulary: Vocabulary) -> None:
        self.source = source
        self.vocabulary = vocabulary
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        if self.source.left < 2 or self.source.read(1) != b"\x80" or not 2 <= self.number(1) <= 5:
            raise unreadable(self.source.name, "not a pickle of protocol 2 to 5", hint="is it really a weights file?")
        for _ in range(MAX_OPCODES):
            code = self.source.read(1)
            if code == b".":
                return self.pop()
            step = STEPS.get(code)
            if step is None:
                name = OPCODE_NAMES.get(code.decode("latin1"))
                if name is None:
                    raise self.malformed(f"byte {code.hex()} is no pickle opcode")
                raise unsafe(self.source.name, f"pickle opcode {name}, which weights never need")
            step(self)
        raise self.malformed(f"more than {MAX_OPCODES:,} pickle opcodes")

    # Stack

    def malformed(self, what: str) -> Exception:
        return unreadable(self.source.name, f"damaged pickle: {what}")

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise self.malformed("empty stack")
        return self.stack.pop()

    def pop_several(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise self.malformed("empty stack")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def pop_mark(self) -> list[Any]:
        if not self.marked:
            raise self.malformed("no mark")
        items, self.stack = self.stack, self.marked.pop()
        return items

    def mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    # Arguments that follow an opcode

    def number(self, width: int) -> int:
        return int.from_bytes(self.source.read(width), "little")

    def text(self, width: int) -> str:
        try:
            return self.source.read(self.number(width)).decode()
        except UnicodeDecodeError:
            raise self.malformed("text that is not UTF-8") from None

    def payload(self, width: int) -> bytearray:
        return self.source.payload(self.number(width))

    def signed(self, width: int) -> int:
        if width > 8:
            raise self.malformed("an integer of more than 8 bytes")
        return int.from_bytes(self.source.read(width), "little", signed=True)

    def real(self) -> float:
        return float(struct.unpack(">d", self.source.read(8))[0])

    # Memo

    def put(self, index: int) -> None:
        if not self.stack:
            raise self.malformed("empty stack")
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise self.malformed(f"no memo {index}")
        self.push(self.memo[index])

    # Containers

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1] if self.stack else None
        if type(target) is not list:
            raise self.malformed("append to something that is no list")
        target.extend(items)

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1] if self.stack else None
        if type(target) is not dict or len(items) % 2:
            raise self.malformed("items for something that is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Also keeps nested tuples out of hash(), which recurses in C.
            if type(key) is not str and type(key) is not int:
                raise self.malformed("a dict key that is neither text nor integer")
            target[key] = value

    # Globals

    def line(self) -> str:
        raw = bytearray()
        while (byte := self.source.read(1)) != b"\n":
            raw += byte
            if len(raw) > 200:
                raise self.malformed("a global's name of more than 200 bytes")
        return raw.decode("utf-8", "replace")

    def named(self, module: object, name: object) -> None:
        path = f"{module}.{name}" if type(module) is str and type(name) is str else "?"
        if path not in self.vocabulary.calls and path not in self.vocabulary.names:
            raise unsafe(self.source.name, f"refers to {shown(path)}, which weights never need")
        self.push(Global(path))

    def reduce(self) -> None:
        callee, args = self.pop_several(2)
        handler = self.vocabulary.calls.get(callee.path) if isinstance(callee, Global) else None
        if handler is None or type(args) is not tuple:
            raise self.malformed("a call of something that cannot be called")
        self.push(handler(args))

    def build(self) -> None:
        target, state = self.pop_several(2)
        if isinstance(target, Buildable):
            target.build(state)
        elif type(target) is not dict:  # an OrderedDict's attributes (PyTorch's ``_metadata``) are of no use here
            raise self.malformed("a state for something that takes none")
        self.push(target)

    def persistent(self) -> None:
        if self.vocabulary.persistent is None:
            raise unsafe(self.source.name, "pickle opcode BINPERSID, which this kind of file never needs")
        self.push(self.vocabulary.persistent(self.pop()))

    def frame(self) -> None:
        size = self.number(8)
        if size > self.source.left:
            raise self.malformed(f"a frame of {size:,} bytes where {self.source.left:,} are left")


STEPS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x95": _Machine.frame,
    b"(": _Machine.mark,
    b")": lambda m: m.push(()),
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"t": lambda m: m.push(tuple(m.pop_mark())),
    b"\x85": lambda m: m.push(tuple(m.pop_several(1))),
    b"\x86": lambda m: m.push(tuple(m.pop_several(2))),
    b"\x87": lambda m: m.push(tuple(m.pop_several(3))),
    b"a": lambda m: m.extend(m.pop_several(1)),
    b"e": lambda m: m.extend(m.pop_mark()),
    b"s": lambda m: m.update(m.pop_several(2)),
    b"u": lambda m: m.update(m.pop_mark()),
    b"J": lambda m: m.push(m.signed(4)),
    b"K": lambda m: m.push(m.number(1)),
    b"M": lambda m: m.push(m.number(2)),
    b"\x8a": lambda m: m.push(m.signed(m.number(1))),
    b"G": lambda m: m.push(m.real()),
    b"X": lambda m: m.push(m.text(4)),
    b"\x8c": lambda m: m.push(m.text(1)),
    b"\x8d": lambda m: m.push(m.text(8)),
    b"B": lambda m: m.push(m.payload(4)),
    b"C": lambda m: m.push(m.payload(1)),
    b"\x8e": lambda m: m.push(m.payload(8)),
    b"\x96": lambda m: m.push(m.payload(8)),
    b"q": lambda m: m.put(m.number(1)),
    b"r": lambda m: m.put(m.number(4)),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"h": lambda m: m.get(m.number(1)),
    b"j": lambda m: m.get(m.number(4)),
    b"c": lambda m: m.named(m.line(), m.line()),
    b"\x93": lambda m: m.named(*m.pop_several(2)),
    b"R": _Machine.reduce,
    b"b": _Machine.build,
    b"Q": _Machine.persistent,
}
