"""What the app takes for granted against freshly exported artifacts, the manifest and mobile_core: nobody retypes 224 or "RGB"."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import manifest, reference_file

REPOSITORY = Path(__file__).parents[2]
APP = REPOSITORY / "ios_demo"
CORE = REPOSITORY / "mobile_core" / "src"


def core(name: str) -> str:
    return (CORE / name).read_text("utf-8")


def core_constant(name: str, constant: str) -> float:
    (value,) = re.findall(rf"\b{constant} = ([\d.']+)", core(name))
    return float(value.replace("'", ""))


# ---- Swift


def test_the_app_expects_the_images_that_a_fresh_artifact_has(app, bundle, contract):
    backend = BACKENDS[app["backend"]]
    assert app["layout"] == backend.LAYOUT
    info = backend.describe(bundle / backend.FILES[0])
    found = {tensor.name: (tensor.dtype, tensor.shape) for tensor in (*info.inputs, *info.outputs)}
    kinds = {app["pictureColour"]: app["pictureImage"], app["maskColour"]: app["maskImage"]}
    size = contract.size
    for spec in (contract.input, *contract.outputs):
        assert found.pop(spec.name) == (f"{kinds[spec.colour]} {size}x{size}", spec.shape)
        assert (spec.low, spec.high) == (app["low"], app["high"])
    assert found == {}


def test_the_app_refuses_a_fresh_artifact_of_arrays(app, artifact):
    backend = BACKENDS[app["backend"]]
    info = backend.describe(artifact(app["backend"], "fp32", coreml_io="tensor"))
    assert not [tensor for tensor in info.inputs if tensor.dtype.startswith(app["pictureImage"])]


def test_the_app_reads_the_manifest_that_is_written(app, sources, said):
    """Every entry that Swift decodes is there, and of that type."""
    assert app["manifestSchema"] == manifest.SCHEMA == said["schema"]
    structs = sources["Manifest.swift"].stored()
    assert set(structs["Manifest"]) >= {"contract", "artifacts", "recipes", "synthetic_media"}
    fits("Manifest", said, structs, "manifest")


def fits(kind: str, value: Any, structs: dict[str, dict[str, str]], place: str) -> None:
    plain: dict[str, Any] = {"Int": int, "Double": (int, float), "String": str}
    if kind in plain:
        assert isinstance(value, plain[kind]), place
    elif kind.startswith("[String: "):
        for name, item in value.items():
            fits(kind.removeprefix("[String: ")[:-1], item, structs, f"{place}.{name}")
    elif kind.startswith("["):
        for item in value:
            fits(kind[1:-1], item, structs, f"{place}[]")
    else:
        for name, below in structs[kind].items():
            assert name in value, f"{place}.{name}"
            fits(below, value[name], structs, f"{place}.{name}")


def test_names_and_sizes_come_from_the_manifest(sources, contract):
    """No tensor's name and no size is written down in the app; in the self-check, what arrays of reference.npz are called."""
    names = {spec.name for spec in (contract.input, *contract.outputs)}
    for source in sources.values():
        if "Tests" in source.name:
            continue
        assert not source.numbers() & {"224", "256", "112"}, source.name
        strings = source.strings()
        if source.name == "SelfCheck.swift":
            strings -= set(reference_file.ARRAYS)
        if source.name == "AppContract.swift":
            strings -= {"mask"}  # its colour
        assert not strings & names, source.name
        if source.name != "AppContract.swift":
            assert not strings & {"RGB", "BGRA", "NCHW"}, source.name


def test_bytes_are_in_the_order_that_the_app_says(app, sources):
    assert app["pixelOrder"].index("R") == app["redByte"]
    assert len(app["pixelOrder"]) == app["bytesPerPixel"]
    order = app["pixelOrder"]
    for source in sources.values():
        formats = {name for name in source.identifiers() if name.startswith(("kCVPixelFormatType_", "MFS_BGRA", "MFS_RGBA"))}
        assert formats <= {f"kCVPixelFormatType_32{order}", f"MFS_{order}", "kCVPixelFormatType_OneComponent16Half"}, source.name


def test_the_reference_tensors_have_the_types_that_the_app_reads(sources, bundle, tmp_path):
    ready = tmp_path / "ready"
    subprocess.run([sys.executable, str(APP / "prepare_bundle.py"), str(bundle), str(ready)], check=True)
    text = sources["SelfCheck.swift"].text.decode()
    read = re.findall(r'read\("(\w+)", in: folder\)\.(bytes|floats|doubles|texts)\(', text)
    assert {name for name, _ in read} >= {"case", "target_rgb", "swapped", "mask", "back_matrix", "landmarks"}
    types = {"bytes": "|u1", "floats": "<f4", "doubles": "<f8"}
    npy = sources["NpyFile.swift"].text.decode()
    for method, dtype in types.items():
        assert re.search(rf'func {method}\(.*values\("{re.escape(dtype)}"', npy)
    for name, method in read:
        if not (ready / "reference" / f"{name}.npy").exists():
            continue  # this bundle's case was not cut from a photo
        array = np.load(ready / "reference" / f"{name}.npy")
        assert array.dtype.kind == "U" if method == "texts" else array.dtype.str == types[method]
    for path in bundle.rglob("*"):
        assert path.is_dir() or (ready / path.relative_to(bundle)).read_bytes() == path.read_bytes()


def test_a_bundle_is_not_prepared_over_another(bundle, tmp_path):
    (tmp_path / "there").mkdir()
    command = [sys.executable, str(APP / "prepare_bundle.py"), str(bundle), str(tmp_path / "there")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is there already" in done.stderr
    assert list((tmp_path / "there").iterdir()) == []


def test_what_the_label_says_is_the_manifest_s(sources, said):
    assert said["synthetic_media"]["label"] == manifest.DISCLOSURE["label"]
    for source in sources.values():
        if not source.name.endswith("Tests.swift"):
            assert manifest.DISCLOSURE["label"] not in source.strings(), source.name


# ---- the same figures as mobile_core


def test_the_app_s_report_has_all_that_the_core_s_has(sources):
    """Keys of the report of mfs-bench-device, wherever they are written."""
    pattern = re.compile(r'(?:\.member|\.key|\bwrite_distribution\(out,)\s*\(?"(\w+)"|, "(\w+)", fps\)')
    texts = [core(name) for name in ("bench_device.cpp", "self_check.cpp", "host_info.cpp")]
    texts += [core("engine.cpp").split("void Engine::write")[1], core("stats.cpp").split("void write_distribution")[1]]
    keys = {a or b for text in texts for a, b in pattern.findall(text)}
    keys |= set(re.findall(r'pair\("(\w+)"', core("stats.cpp")))
    keys |= set(re.findall(r'"(\w+)"', core("stats.cpp").split("kStageNames[kStages] = {")[1].split("}")[0]))
    assert keys >= {
        "schema",
        "latency_ms",
        "p90",
        "network",
        "sustained",
        "fps_by_second",
        "heat",
        "complaints",
        "runtime",
        "cores",
    }
    written = set().union(
        *(sources[f"{name}.swift"].strings() for name in ("BenchReport", "BenchRun", "SelfCheck", "FrameStatistics"))
    )
    assert keys - written == set()


def test_the_app_dumps_arrays_as_the_core_does(sources):
    (header,) = re.findall(r'header = "(.*)"', sources["NpyFile.swift"].text.decode())
    assert header.count(r"\(sides)") == 1
    assert all(f'"{part}"' in core("npy.cpp") for part in header.split(r"\(sides)"))


def test_the_app_counts_as_the_core_does(sources):
    statistics, agreement = (sources[f"{name}.swift"].constants() for name in ("FrameStatistics", "Agreement"))
    assert statistics["window"] == core_constant("stats.h", "kWindow")
    assert statistics["recent"] == core_constant("stats.h", "kRecent")
    assert statistics["sustained"] == core_constant("stats.h", "kSustained")
    assert agreement["identicalDb"] == core_constant("self_check.cpp", "kIdenticalDb")
    assert agreement["mostLevels"] == core_constant("self_check.cpp", "kMostLevels")


def test_the_digests_that_the_app_asks_for_are_the_core_s(sources):
    keys = sources["NativeBundle.swift"].stored()["Digests"]
    json = core("bundle.cpp").split("std::string Bundle::json()")[1]
    assert set(keys) == {"contract_sha256", "manifest_sha256"}
    assert all(f'member("{key}"' in json for key in keys)


# ---- C++ and Kotlin


def test_the_core_knows_the_same_schema_colours_and_range(app, said):
    text = core("contract.cpp")
    assert core_constant("bundle.cpp", "kSchema") == app["manifestSchema"]
    assert set(re.findall(r'colour != "(\w+)"', text)) == {app["pictureColour"], app["maskColour"]}
    (low, high) = re.findall(r"out\.low != (\d+) \|\| out\.high != (\d+)", text)[0]
    assert (float(low), float(high)) == (app["low"], app["high"])
    assert said["alignment"]["solver"] in text


def test_names_and_sizes_in_the_core_come_from_the_manifest(contract):
    names = {spec.name for spec in (contract.input, *contract.outputs)} - {"mask"}  # which is a colour too
    reader = core("contract.cpp") + core("network_ncnn.cpp") + core("network_litert.cpp") + core("engine.cpp")
    assert not set(re.findall(r'"([^"]*)"', reader)) & names
    assert not re.findall(r"\b(?:224|256|112)\b", core("contract.cpp") + core("network_ncnn.cpp") + core("network_litert.cpp"))


def test_names_and_sizes_in_the_android_app_come_from_the_manifest(contract):
    kotlin = sorted((REPOSITORY / "android_demo").rglob("src/main/**/*.kt"))
    if not kotlin:
        pytest.skip("there is no android_demo in this tree")
    names = {contract.input.name, contract.outputs[0].name}
    for path in kotlin:
        text = path.read_text("utf-8")
        quoted = set(re.findall(r'"([^"]*)"', text))
        if path.name == "ReferenceFile.kt":  # whose arrays are called as the file calls them
            assert set(reference_file.ARRAYS) <= quoted
            quoted -= set(reference_file.ARRAYS)
        assert not quoted & names, path.name
        assert not re.findall(r"\b224\b", text), path.name
