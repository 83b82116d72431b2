"""Imports point one way only, and the command line starts light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mfs_deploy"

# From the bottom up; a module may import from its own layer and from those before it.
LAYERS = (
    {"errors", "contract", "metrics", "images", "opencv", "progress", "__init__", "models", "export_configs"},
    {"nets", "manifest", "bundle", "locks", "outcomes", "outputs", "stores", "cache", "photos", "clips", "face_quality"},
    {"checkpoint", "identity", "bake", "landmarks", "detectors", "faces", "calibration", "sample", "architecture", "roster"},
    {"graph", "quant"},
    {"backends"},
    {"stamping", "arm64"},
    {"parity", "preview", "contents", "reference_file", "recheck", "consensus", "layerwise", "devices"},
    {"choosing", "templating", "quantizing", "preparing"},
    {
        "artifacts",
        "kits",
        "pipeline",
        "benching",
        "diagnosis",
        "inspection",
        "report",
        "searching",
        "swapping",
        "batch",
        "batch_parity",
        "batch_ray",
    },
    {"commands"},
    {"cli", "__main__"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if "models" not in p.parts)


def own(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Top-level parts of this package that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "mfs_deploy":
            found |= {alias.name for alias in node.names if alias.name != "__version__"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mfs_deploy."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("mfs_deploy.")}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_point_one_way(path):
    for name in imports(path):
        assert LEVEL[name] <= LEVEL[own(path)], f"{path.name} imports {name}"


def test_backends_do_not_import_each_other():
    families = ("onnx", "tflite", "ncnn", "coreml")
    for path in (PACKAGE / "backends").glob("*.py"):
        mine = next((f for f in families if path.stem.startswith(f)), None)
        if mine is None:
            continue
        text = path.read_text("utf-8")
        for other in families:
            assert other == mine or f"mfs_deploy.backends.{other}" not in text, f"{path.name} imports {other}"


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
    sizes = {p.relative_to(PACKAGE).as_posix(): len(p.read_text("utf-8").splitlines()) for p in MODULES}
    assert {name: size for name, size in sizes.items() if size > 320} == {}
