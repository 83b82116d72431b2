"""What compiled classes use of Android and its Java above a level of the API.

    python3 min_sdk.py SINCE.json[.gz] LEVEL ANDROID.jar APP.jar...

SINCE: {"android.os.Build": 1, "android.os.Build#SOC_MODEL": 31, ...}, nested classes with dots, each member where it is declared;
ANDROID.jar says who inherits from whom.  Exits with 1 where something newer is used, also where the code asks for the version
first: there is no such code in this app.
"""

from __future__ import annotations

import gzip
import json
import struct
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

# Java Virtual Machine Specification, table 4.4-A: bytes after the tag of an entry of the constant pool.
SIZES = {3: 4, 4: 4, 5: 8, 6: 8, 7: 2, 8: 2, 9: 4, 10: 4, 11: 4, 12: 4, 15: 3, 16: 2, 17: 4, 18: 4, 19: 2, 20: 2}
UTF8, LONG, DOUBLE, CLASS = 1, 5, 6, 7
REFERENCES = (9, 10, 11)  # to fields, methods, methods of interfaces


class Class(NamedTuple):
    name: str
    parents: tuple[str, ...]  # its superclass and interfaces
    uses: tuple[tuple[str, str], ...]  # class and member; ("android.view.View", "") for a class alone


def parse(code: bytes) -> Class:
    (count,) = struct.unpack_from(">H", code, 8)
    entries: dict[int, tuple[int, bytes]] = {}
    at, index = 10, 1
    while index < count:
        tag = code[at]
        size = SIZES[tag] if tag != UTF8 else 2 + struct.unpack_from(">H", code, at + 1)[0]
        entries[index] = (tag, code[at + 1 : at + 1 + size])
        at += 1 + size
        index += 2 if tag in (LONG, DOUBLE) else 1

    def two(index: int) -> tuple[int, int]:
        first, second = struct.unpack(">HH", entries[index][1])
        return first, second

    def text(index: int) -> str:
        return entries[index][1][2:].decode("utf-8", "replace")

    def class_name(index: int) -> str:
        return text(struct.unpack(">H", entries[index][1])[0]).strip("[;").replace("/", ".").replace("$", ".")

    own, above, interfaces = struct.unpack_from(">HHH", code, at + 2)
    parents = [above, *struct.unpack_from(f">{interfaces}H", code, at + 8)]
    uses = [(class_name(two(i)[0]), text(two(two(i)[1])[0])) for i, (tag, _) in entries.items() if tag in REFERENCES]
    uses += [(class_name(i), "") for i, (tag, _) in entries.items() if tag == CLASS]
    return Class(class_name(own), tuple(class_name(i) for i in parents if i != 0), tuple(uses))


def classes(jar: Path) -> list[Class]:
    with zipfile.ZipFile(jar) as archive:
        return [parse(archive.read(name)) for name in archive.namelist() if name.endswith(".class")]


def family(name: str, parents: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """A class and all that it inherits from."""
    yield name
    for parent in parents.get(name, ()):
        yield from family(parent, parents)


def main(since_path: Path, level: int, android: Path, *app: Path) -> int:
    content = since_path.read_bytes()
    since = json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    own = [found for jar in app for found in classes(jar)]
    parents = {found.name: found.parents for found in (*own, *classes(android))}
    seen = {use for found in own for use in found.uses}
    if not any(owner.startswith("android.") for owner, _ in seen):
        print(f"{', '.join(jar.name for jar in app)}: nothing of Android is used, that is no app", file=sys.stderr)
        return 1
    newer = []
    for owner, member in sorted(seen):
        declared = [since[key] for name in family(owner, parents) if (key := f"{name}#{member}") in since]
        needs = max(since.get(owner, 0), min(declared, default=0))
        if needs > level:
            newer.append(f"{owner} {member} is of API {needs}, minSdk is {level}")
    print("".join(line + "\n" for line in newer), end="", file=sys.stderr)
    return 1 if newer else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), *map(Path, sys.argv[3:])))
