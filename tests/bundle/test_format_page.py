"""``docs/bundle-format.md`` is enough to run a bundle, and says every key of a manifest and no other."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, is_typeddict

import numpy as np
import pytest
from PIL import Image

from mfs_deploy import cli
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle.manifest_types import Manifest
from mfs_deploy.bundle.reference_file import ARRAYS
from mfs_deploy.bundle.schema import entries
from mfs_deploy.faces import portrait
from mfs_deploy.quant import recipes
from mfs_deploy.quant.recipes import Format
from testing import by_the_page

PAGE = Path(__file__).parents[2] / "docs" / "bundle-format.md"
LANDMARKS = ",".join(map(str, portrait.LANDMARKS.ravel()))
TYPES = {str: "text", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def mfs(*args: object) -> None:
    assert cli.main([*map(str, args), "--quiet"]) == 0


@pytest.fixture(scope="module")
def integer_bundle(once, made_int8) -> Path:
    """Integers in and out, ranges of another export, and a recipe that names operations and layers."""

    def make(folder: Path) -> None:
        half = Format("float16", "float16")
        recipe = replace(recipes.load("w8a8"), operations={"sigmoid": half}, layers={"add_2": half})
        (folder / "own.toml").write_text(recipes.to_toml(recipe))
        args = ["--recipe", folder / "own.toml", "--calibration-ranges", made_int8 / "ranges.json", "--tflite-io", "uint8"]
        mfs("export", "--checkpoint", "demo", "--source", "demo", *args, "--backends", "tflite", "--out", folder / "face")

    return once("page-integers", make) / "face"


@pytest.fixture(scope="module")
def unmeasured_bundle(once, demo_bundle) -> Path:
    """Of every backend, stamped and not opened; the templates are those of the demo's bundle."""

    def make(folder: Path) -> None:
        mfs("export", "--checkpoint", "demo", "--source", "demo", "--parity", "off", "--out", folder / "face")

    return once("page-unmeasured", make) / "face"


@pytest.fixture(scope="module")
def stamped_bundle(once, kit, somebody) -> Path:
    def make(folder: Path) -> None:
        mfs("stamp", kit, "--identity", somebody(0), "--backends", "onnx,ncnn", "--out", folder / "face")

    return once("page-stamped", make) / "face"


@pytest.fixture(scope="module")
def batch_bundle(once, kit, somebody) -> Path:
    def make(folder: Path) -> None:
        (folder / "people.csv").write_text(f"id,identity\nface,{somebody(0)}\n")
        mfs("batch", folder / "people.csv", "--kit", kit, "--backends", "onnx", "--workers", 1, "--out", folder / "out")

    return once("page-batch", make) / "out" / "face"


# ---- the page is enough


def test_the_reader_by_the_page_knows_nothing_else():
    tree = ast.parse(Path(by_the_page.__file__).read_text("utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names == {"__future__", "json", "pathlib", "typing", "numpy", "onnxruntime"}


@pytest.mark.parametrize("bundle", ["demo_bundle", "fsgan_bundle"])
def test_whoever_follows_the_page_gets_the_pixels_of_mfs_swap(request, bundle, photo, portrait, tmp_path):
    """Not a level in any pixel, from the manifest alone."""
    folder = request.getfixturevalue(bundle)
    mfs("swap", "--bundle", folder, "--image", photo, "--backend", "onnx", "--landmarks", LANDMARKS, "--out", tmp_path / "out.png")
    wanted = np.array(Image.open(tmp_path / "out.png"))
    points = np.array(LANDMARKS.split(","), np.float64).reshape(5, 2)
    assert np.array_equal(by_the_page.swap(folder, portrait, points), wanted)
    assert (wanted != portrait).any(axis=2).sum() > 5000


def test_the_reference_tensors_are_those_that_the_page_lists(demo_bundle):
    text = PAGE.read_text("utf-8").split("## reference.npz")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    with np.load(demo_bundle / "reference.npz") as stored:
        assert set(stored.files) == set(listed) == set(ARRAYS)


# ---- every key


def table() -> dict[str, tuple[str, int]]:
    """Type and schema by path, as the page's tables have them; a placeholder becomes *."""
    rows = re.findall(r"^\| `([^`]+)` \|([^|]+)\|[^|]*\| (\d) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    found = {re.sub(r"<\w+>", "*", path): (kind.strip(), int(since)) for path, kind, since in rows}
    assert len(found) == len(rows)
    return found


def of_type(kind: Any, path: str, since: int = 1) -> Iterator[tuple[str, tuple[str, int]]]:
    """The same by the types of ``bundle/manifest_types.py``."""
    inner = [one for one in get_args(kind) if one is not NoneType]
    if is_typeddict(kind):
        for key, entry in entries(kind).items():
            yield from of_type(entry.kind, f"{path}.{key}" if path else key, max(since, entry.since))
    elif get_origin(kind) is dict:
        yield from of_type(inner[1], f"{path}.*", since)
    elif get_origin(kind) is list and is_typeddict(inner[0]):
        yield from of_type(inner[0], f"{path}[]", since)
    elif any(is_typeddict(one) for one in inner):
        for one in inner:
            yield from of_type(one, path, since)
    else:
        yield path, (in_words(kind), since)


def in_words(kind: Any) -> str:
    if get_origin(kind) is list:
        return f"list of {in_words(get_args(kind)[0])}"
    return " or ".join(map(in_words, get_args(kind))) or TYPES[kind]


def paths(value: Any, kind: Any, path: str = "") -> Iterator[str]:
    """Paths of what a manifest holds."""
    if get_origin(kind) is dict:
        for item in value.values():
            yield from paths(item, get_args(kind)[1], f"{path}.*")
    elif isinstance(value, dict):
        kinds = next(entries(one) for one in (kind, *get_args(kind)) if is_typeddict(one) and set(value) <= set(entries(one)))
        for key, item in value.items():
            yield from paths(item, kinds[key].kind, f"{path}.{key}" if path else key)
    elif get_origin(kind) is list and is_typeddict(get_args(kind)[0]):
        for item in value:
            yield from paths(item, get_args(kind)[0], f"{path}[]")
    elif value is not None or not any(is_typeddict(one) for one in get_args(kind)):
        yield path


def test_the_page_gives_every_key_its_type_and_its_schema():
    assert table() == dict(of_type(Manifest, ""))


def test_every_key_of_a_manifest_is_on_the_page_and_no_other(
    demo_bundle, fsgan_bundle, made_int8, integer_bundle, unmeasured_bundle, stamped_bundle, batch_bundle
):
    found: set[str] = set()
    for bundle in (demo_bundle, fsgan_bundle, made_int8, integer_bundle, unmeasured_bundle, stamped_bundle, batch_bundle):
        here = set(paths(json.loads((bundle / "manifest.json").read_text("utf-8")), Manifest))
        assert here <= set(table()), bundle
        found |= here
    assert found == set(table())


# ---- inputs and outputs as the files give them


def by_onnx(folder: Path) -> tuple[list[str], list[str]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "swap.onnx", providers=["CPUExecutionProvider"])
    return [one.name for one in session.get_inputs()], [one.name for one in session.get_outputs()]


def by_tflite(folder: Path) -> tuple[list[str], list[str]]:
    interpreter = tflite(folder)
    return [one["name"] for one in interpreter.get_input_details()], [one["name"] for one in interpreter.get_output_details()]


def tflite(folder: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(folder / "swap.tflite"))


def by_ncnn(folder: Path) -> tuple[list[str], list[str]]:
    """Of the blobs that nothing reads those that the contract names; a network also leaves channels unread."""
    import ncnn

    net = ncnn.Net()
    assert net.load_param(str(folder / "swap.param")) == 0
    return list(net.input_names()), [name for name in net.output_names() if name in ("swapped", "mask")]


def by_coreml(folder: Path) -> tuple[list[str], list[str]]:
    import coremltools

    spec = coremltools.utils.load_spec(str(folder / "swap.mlpackage"))
    return [one.name for one in spec.description.input], [one.name for one in spec.description.output]


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("bundle", ["demo_bundle", "unmeasured_bundle"])
def test_outputs_are_listed_in_the_order_in_which_the_file_gives_them(request, bundle, name):
    folder = request.getfixturevalue(bundle)
    artifact = json.loads((folder / "manifest.json").read_text("utf-8"))["artifacts"][name]
    given = {"onnx": by_onnx, "tflite": by_tflite, "ncnn": by_ncnn, "coreml": by_coreml}[name](folder)
    assert given == tuple([one["name"] for one in artifact[key]] for key in ("inputs", "outputs"))
    assert sorted(given[1]) == ["mask", "swapped"]


def test_integers_in_and_out_are_described_as_the_file_has_them(integer_bundle):
    artifact = json.loads((integer_bundle / "manifest.json").read_text("utf-8"))["artifacts"]["tflite"]
    interpreter = tflite(integer_bundle)
    for key, given in (("inputs", interpreter.get_input_details()), ("outputs", interpreter.get_output_details())):
        for entry, details in zip(artifact[key], given, strict=True):
            assert (entry["name"], entry["shape"]) == (details["name"], details["shape"].tolist())
            assert (entry["scale"], entry["zero_point"]) == details["quantization"]
            assert np.dtype(entry["element"]) == details["dtype"] == np.uint8
            assert (entry["kind"], entry["low"], entry["high"]) == ("array", 0, 255)


def test_core_ml_s_pixel_buffers_are_described_as_the_file_has_them(demo_bundle):
    import coremltools
    from coremltools.proto.FeatureTypes_pb2 import ImageFeatureType

    artifact = json.loads((demo_bundle / "manifest.json").read_text("utf-8"))["artifacts"]["coreml"]
    spec = coremltools.utils.load_spec(str(demo_bundle / "swap.mlpackage"))
    given = {one.name: one.type.imageType.colorSpace for one in (*spec.description.input, *spec.description.output)}
    stored = {"uint8": (ImageFeatureType.RGB, 1 / 255, 255), "float16": (ImageFeatureType.GRAYSCALE_FLOAT16, 1, 1)}
    for entry in (*artifact["inputs"], *artifact["outputs"]):
        assert entry["kind"] == "image"
        assert (given[entry["name"]], entry["scale"], entry["high"]) == stored[entry["element"]]
