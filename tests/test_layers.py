"""Imports point one way only, and the command line starts light."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mfs_deploy"
# Open to every place.
FLOOR = {"__init__", "contract", "errors", "metrics", "onnx_runtime", "progress"}
# A place, which is a folder or a module beside them, and the places that it may import besides the floor.
MAY_IMPORT = {
    **{name: set() for name in FLOOR},
    "files": set(),
    "graph": set(),
    "faces": set(),
    "demo": {"files"},
    "quant": {"faces", "files", "graph"},
    "architectures": {"faces", "files"},
    "checkpoint": {"architectures", "files"},
    "bundle": {"architectures", "faces", "files", "quant"},
    "backends": {"architectures", "graph", "quant"},
    "devices": {"backends", "bundle", "files"},
    "stamping": {"architectures", "backends", "bundle", "checkpoint", "faces", "files", "graph", "quant"},
    "evaluate": {"architectures", "backends", "bundle", "checkpoint", "devices", "faces", "files", "graph", "quant"},
    "swapper": {"architectures", "backends", "bundle", "evaluate", "faces", "files"},
    "report": {"backends", "bundle", "devices", "evaluate", "faces", "files", "quant"},
    "batch": {"architectures", "backends", "bundle", "checkpoint", "evaluate", "faces", "files", "stamping"},
    "exporter": {
        *("architectures", "backends", "bundle", "checkpoint", "demo", "evaluate", "faces", "files", "graph", "quant", "stamping"),
    },
    "api": {"architectures", "backends", "bundle", "evaluate", "exporter", "faces", "swapper"},
    "commands": {
        *("backends", "batch", "bundle", "checkpoint", "devices", "evaluate", "exporter"),
        *("faces", "files", "quant", "report", "stamping", "swapper"),
    },
    "cli": {"commands"},
    "__main__": {"cli"},
}
MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """Names of this package's modules that a module imports, anywhere in it: ``faces/align.py``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE.name:
            found |= {module(f"{node.module}.{alias.name}") or module(str(node.module)) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {module(alias.name) for alias in node.names if alias.name.split(".")[0] == PACKAGE.name}
    return found


def module(dotted: str) -> str:
    """``mfs_deploy.faces.align`` to ``faces/align.py``; empty if there is no such module."""
    name = "/".join(dotted.split(".")[1:])
    names = (f"{name}.py", f"{name}/__init__.py".removeprefix("/"))
    return next((name for name in names if name in MODULES), "")


def place(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


@pytest.mark.parametrize("name", [name for name in MODULES if name != "__init__.py"])
def test_a_module_imports_only_from_places_below_it(name):
    wrong = {other for other in imports(MODULES[name]) if place(other) not in {place(name), *MAY_IMPORT[place(name)], *FLOOR}}
    assert wrong == set()


def test_no_permission_is_unused():
    used: dict[str, set[str]] = {name: set() for name in MAY_IMPORT}
    for name, path in MODULES.items():
        used[place(name)] |= {place(other) for other in imports(path)}
    assert {name: allowed - used[name] for name, allowed in MAY_IMPORT.items() if allowed - used[name]} == {}


def test_no_import_is_relative():
    """``imports`` reads full names only."""
    for name, path in MODULES.items():
        nodes = ast.walk(ast.parse(path.read_text("utf-8")))
        assert [node.lineno for node in nodes if isinstance(node, ast.ImportFrom) and node.level] == [], name


def test_no_place_is_above_and_below_another():
    list(graphlib.TopologicalSorter(MAY_IMPORT).static_order())


def test_no_modules_import_each_other_in_a_circle():
    """The package itself is left out: it hands out the Python interface, which is imported when somebody asks for it."""
    graph = {name: imports(path) - {"__init__.py", name} for name, path in MODULES.items() if name != "__init__.py"}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_backends_do_not_import_each_other():
    folders = {path.parent.name for path in (PACKAGE / "backends").glob("*/backend.py")}
    assert folders == {"onnx", "tflite", "ncnn", "coreml"}
    for name, path in MODULES.items():
        own, _, inner = name.removeprefix("backends/").partition("/")
        if name.startswith("backends/") and inner:
            assert {
                other for other in imports(path) if other.split("/")[1:2] and other.split("/")[1] in folders - {own}
            } == set(), name


def test_only_the_command_line_prints_and_exits():
    for name, path in MODULES.items():
        if place(name) not in ("cli", "commands", "__main__"):
            calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
            assert {ast.unparse(call) for call in calls} & {"print", "sys.exit", "exit"} == set(), name


def test_help_starts_without_heavy_libraries():
    """What ``mfs --help`` may import beyond the standard library."""
    code = """
import sys
before = set(sys.modules)
from mfs_deploy.cli import main
main(["--help"])
roots = {name.split(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
print(sorted(r for r in roots if not r.startswith("__editable__")), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "['click', 'mfs_deploy']"


def test_modules_stay_small():
    sizes = {name: len(path.read_text("utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: size for name, size in sizes.items() if size > 320} == {}
