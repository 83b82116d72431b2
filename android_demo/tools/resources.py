"""Android's manifest and resources, held against each other and the Kotlin sources; writes the class R that the sources name.

    python3 resources.py app/src/main FOLDER

Exits with 1 and a line for each reference that leads nowhere.  What aapt2 would say of attributes is not looked at.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

ANDROID = "{http://schemas.android.com/apk/res/android}"
VALUES = {"string": "string", "style": "style", "color": "color", "dimen": "dimen", "bool": "bool", "integer": "integer"}


def read(main: Path) -> tuple[dict[str, set[str]], list[str]]:
    """Names of resources by type, and complaints."""
    names: dict[str, set[str]] = {}
    references: list[tuple[Path, str]] = []
    for path in sorted([main / "AndroidManifest.xml", *main.glob("res/*/*.xml")]):
        root = ElementTree.parse(path).getroot()
        kind = path.parent.name.split("-")[0]
        if kind == "values":
            for entry in root:
                names.setdefault(VALUES[entry.tag], set()).add(entry.attrib["name"])
        elif path.parent.parent.name == "res":
            names.setdefault(kind, set()).add(path.stem)
        for element in root.iter():
            texts = [*element.attrib.values(), element.text or ""]
            references += [(path, text) for text in texts if re.match(r"@\+?\w+/", text)]
    for _, text in references:
        if text.startswith("@+id/"):
            names.setdefault("id", set()).add(text.removeprefix("@+id/"))
    complaints = [f"{path}: {text} is nowhere" for path, text in references if not _leads(text, names)]
    return names, complaints + _classes(main) + _kotlin(main, names)


def write_class(names: dict[str, set[str]], package: str, path: Path) -> None:
    number, lines = 0x7F000000, [f"package {package};", "public final class R {"]
    for kind, members in sorted(names.items()):
        lines.append(f"  public static final class {kind} {{")
        for name in sorted(members):
            number += 1
            lines.append(f"    public static final int {re.sub('[.]', '_', name)} = {number};")
        lines.append("  }")
    path.write_text("\n".join([*lines, "}", ""]), "utf-8")


def _leads(text: str, names: dict[str, set[str]]) -> bool:
    kind, name = text.removeprefix("@").removeprefix("+").split("/", 1)
    return name in names.get(kind, set())


def _classes(main: Path) -> list[str]:
    """Activities of the manifest without a class."""
    manifest, package = ElementTree.parse(main / "AndroidManifest.xml").getroot(), namespace(main)
    out = []
    for activity in manifest.iter("activity"):
        name = activity.attrib[ANDROID + "name"]
        file = main / "kotlin" / Path(*package.split(".")) / f"{name.removeprefix('.')}.kt"
        if not file.is_file() or f"class {file.stem} : Activity()" not in file.read_text("utf-8"):
            out.append(f"AndroidManifest.xml: {name} has no class in {file}")
        if ANDROID + "exported" not in activity.attrib:
            out.append(f"AndroidManifest.xml: {name} does not say whether it is exported")
    return out


def _kotlin(main: Path, names: dict[str, set[str]]) -> list[str]:
    out = []
    for path in sorted(main.glob("kotlin/**/*.kt")):
        for kind, name in re.findall(r"(?<![\w.])R\.(\w+)\.(\w+)", path.read_text("utf-8")):
            if name not in names.get(kind, set()):
                out.append(f"{path}: R.{kind}.{name} is nowhere")
    return out


def namespace(main: Path) -> str:
    found = re.search(r'namespace = "([\w.]+)"', (main.parents[1] / "build.gradle.kts").read_text("utf-8"))
    if found is None:
        raise SystemExit("app/build.gradle.kts has no namespace")
    return found[1]


def main(source: Path, into: Path) -> int:
    names, complaints = read(source)
    write_class(names, namespace(source), into / "R.java")
    print("".join(line + "\n" for line in complaints), end="", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2])))
