"""What compiled classes use of Android above a level of its API.

    python3 min_sdk.py SINCE.json[.gz] APP.jar LEVEL

SINCE: {"android.os.Build": 1, "android.os.Build#SOC_MODEL": 31, ...}, nested classes with dots.  Exits with 1 where something
newer is used, also where the code asks for the version first: there is no such code in this app.
"""

from __future__ import annotations

import gzip
import json
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

# Java Virtual Machine Specification, table 4.4-A: bytes after the tag of an entry of the constant pool.
SIZES = {3: 4, 4: 4, 5: 8, 6: 8, 7: 2, 8: 2, 9: 4, 10: 4, 11: 4, 12: 4, 15: 3, 16: 2, 17: 4, 18: 4, 19: 2, 20: 2}
UTF8, LONG, DOUBLE, CLASS, NAME_AND_TYPE = 1, 5, 6, 7, 12
REFERENCES = (9, 10, 11)  # to fields, methods, methods of interfaces


def used(code: bytes) -> Iterator[tuple[str, str]]:
    """Class and member of each reference of a class file; ("android.view.View", "") for a class alone."""
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

    for index, (tag, _) in entries.items():
        if tag in REFERENCES:
            owner, pair = two(index)
            yield class_name(owner), text(two(pair)[0])
        elif tag == CLASS:
            yield class_name(index), ""


def main(since_path: Path, jar: Path, level: int) -> int:
    content = since_path.read_bytes()
    since = json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    seen: set[tuple[str, str]] = set()
    with zipfile.ZipFile(jar) as archive:
        for name in archive.namelist():
            if name.endswith(".class"):
                seen |= {(owner, member) for owner, member in used(archive.read(name)) if owner.startswith("android.")}
    if not seen:
        print(f"{jar.name} uses nothing of Android: that is no app", file=sys.stderr)
        return 1
    newer = [
        (max(since.get(owner, 0), since.get(f"{owner}#{member}", 0)), owner, member)
        for owner, member in sorted(seen)
        if max(since.get(owner, 0), since.get(f"{owner}#{member}", 0)) > level
    ]
    for found, owner, member in newer:
        print(f"{owner} {member} is of API {found}, minSdk is {level}", file=sys.stderr)
    return 1 if newer else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
