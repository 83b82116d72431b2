"""Do two reports have the same members, of the same types?  How long a list is does not matter, nor do values but the frame's.

python3 compare_report_keys.py REPORT REPORT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FREE = ("sustained.samples[].heat",)  # members are thermal zones
EQUAL = ("frame.name", "frame.width", "frame.height")  # what was measured: figures of different frames say nothing of each other


def form(value: Any, place: str = "") -> set[str]:
    """Such as {"machine.cores number", ...}."""
    if isinstance(value, dict):
        if place in FREE:
            return {f"{place} of anything"}
        return {line for key, item in value.items() for line in form(item, f"{place}.{key}".lstrip("."))}
    if isinstance(value, list):
        return {line for item in value for line in form(item, f"{place}[]")} or {f"{place}[] empty"}
    if place in EQUAL:
        return {f"{place} = {value}"}
    kind = "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
    return {f"{place} {kind}"}


def main(first: Path, second: Path) -> int:
    forms = [form(json.loads(path.read_text("utf-8"))) for path in (first, second)]
    for path, own, other in ((first, forms[0], forms[1]), (second, forms[1], forms[0])):
        for line in sorted(own - other):
            print(f"only in {path.name}: {line}", file=sys.stderr)
    return 0 if forms[0] == forms[1] else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
