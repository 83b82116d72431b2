"""The Android demo, as far as it can be held without a phone: what it reads is what the exporter writes."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest

from mfs_deploy.architectures import INTERFACES
from mfs_deploy.backends.base import TensorInfo
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import manifest, reference_file
from mfs_deploy.contract import TensorSpec
from testing import core_bundles

DEMO = Path(__file__).parents[2] / "android_demo"
MAIN = DEMO / "app" / "src" / "main"
CORE = DEMO / "core" / "src" / "main" / "kotlin" / "mfs" / "core"
HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())  # before tests hide it


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DEMO / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The app's sources, to be damaged."""
    shutil.copytree(DEMO / "app", tmp_path / "app", ignore=shutil.ignore_patterns("build", ".cxx"))
    return tmp_path / "app" / "src" / "main"


def test_the_app_finds_every_resource_that_it_names(tmp_path):
    assert tool("resources").main(MAIN, tmp_path) == 0
    assert "class layout" in (tmp_path / "R.java").read_text("utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("AndroidManifest.xml", "@style/App", "@style/Other"),
        ("AndroidManifest.xml", ".BenchActivity", ".Bench"),
        ("res/layout/main.xml", "@string/backend", "@string/runtime"),
        ("kotlin/mfs/demo/MainActivity.kt", "R.id.surface", "R.id.picture"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(copy, tmp_path, capsys, file, old, new):
    path = copy / file
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    assert tool("resources").main(copy, tmp_path) == 1
    assert new.split(".")[-1] in capsys.readouterr().err


def test_only_adb_can_start_a_measurement():
    """Else any app could make the phone hot, or overwrite reports."""
    root = tool("resources").ElementTree.parse(MAIN / "AndroidManifest.xml").getroot()
    android = tool("resources").ANDROID
    exported = {
        activity.get(android + "name"): activity.get(android + "permission")
        for activity in root.iter("activity")
        if activity.get(android + "exported") == "true"
    }
    assert exported == {".MainActivity": None, ".BenchActivity": "android.permission.DUMP"}


def test_a_face_leaves_the_phone_in_no_backup():
    """Nor when the phone is exchanged: allowBackup is not asked about that from Android 12 on."""
    tree = tool("resources").ElementTree
    application = tree.parse(MAIN / "AndroidManifest.xml").getroot().find("application")
    android = tool("resources").ANDROID
    assert application.get(android + "allowBackup") == "false"
    rules = application.get(android + "dataExtractionRules")
    ways = {
        way.tag: {rule.get("domain") for rule in way if rule.tag == "exclude" and rule.keys() == ["domain"]}
        for way in tree.parse(MAIN / "res" / f"{rules.removeprefix('@')}.xml").getroot()
    }
    everything = {"root", "file", "database", "sharedpref", "external"}
    assert ways == {"cloud-backup": everything, "device-transfer": everything}
    assert "INTERNET" not in (MAIN / "AndroidManifest.xml").read_text("utf-8")


def test_kotlin_and_cpp_agree_on_the_native_functions():
    kotlin = re.findall(r"external fun (\w+)\(", (CORE / "NativeEngine.kt").read_text("utf-8"))
    cpp = re.findall(r"^MFS_JNI\(\w+, (\w+)\)", (MAIN / "cpp" / "mfs_jni.cpp").read_text("utf-8"), re.MULTILINE)
    assert len(kotlin) == 8
    assert sorted(kotlin) == sorted(cpp)


def test_the_app_reads_the_files_that_the_exporter_writes():
    source, reference = ((CORE / name).read_text("utf-8") for name in ("Manifest.kt", "ReferenceFile.kt"))
    assert f'NAME = "{manifest.NAME}"' in source
    assert f"SCHEMA = {manifest.SCHEMA}\n" in source
    assert f'NAME = "{reference_file.NAME}"' in reference
    arrays = re.search(r"ARRAYS = listOf\((.*?)\)", reference, re.DOTALL)
    assert arrays is not None
    assert tuple(re.findall(r'"(\w+)"', arrays[1])) == reference_file.ARRAYS


def test_nobody_retypes_what_the_manifest_says():
    """Sizes and tensor names come from the bundle alone."""
    for path in [*CORE.glob("*.kt"), *MAIN.glob("kotlin/**/*.kt"), *MAIN.glob("cpp/*.cpp")]:
        text = path.read_text("utf-8")
        assert not re.search(r"\b(224|112)\b|\"target\"|AI-generated", text), path


def test_minimum_version_of_android_is_held_by_the_check(tmp_path, capsys):
    """Class files of our own that use API 31 of Android, one by inheritance, are refused with 28, and taken with 31."""
    if shutil.which("javac") is None:
        pytest.skip("needs a JDK")
    for name, text in {
        "android/os/Build.java": "package android.os; public class Build { public static String SOC_MODEL = null; }",
        "android/app/Context.java": "package android.app; public class Context { public int getDisplay() { return 0; } }",
        "android/app/Activity.java": "package android.app; public class Activity extends Context {}",
        "App.java": "class App { String chip() { return android.os.Build.SOC_MODEL; } }",
        "Screen.java": "class Screen extends android.app.Activity { int turned() { return getDisplay(); } }",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    since = tmp_path / "since.json"
    since.write_text('{"android.os.Build": 1, "android.os.Build#SOC_MODEL": 31, "android.app.Context#getDisplay": 30}')
    check = tool("min_sdk")
    for source, complaint in {"App": "SOC_MODEL is of API 31", "Screen": "Screen getDisplay is of API 30"}.items():
        subprocess.run(["javac", "-d", source, f"{source}.java"], cwd=tmp_path, check=True)
        jar = Path(shutil.make_archive(str(tmp_path / source), "zip", tmp_path / source))
        assert check.main(since, 31, jar, jar) == 0
        assert check.main(since, 28, jar, jar) == 1
        assert complaint in capsys.readouterr().err


@pytest.fixture
def contracts(tmp_path: Path, golden_bundle: Path) -> Path:
    """Manifests, and what is to be read out of them: each architecture's interface, and tensors that artifacts were asked for."""

    def tensors(specs: Iterable[TensorInfo | TensorSpec]) -> str:
        return f"[{', '.join(f'{spec.name} {list(spec.shape)}' for spec in specs)}]"

    def expect(folder: Path, arch: str, artifacts: list[str]) -> None:
        known = INTERFACES[arch]
        contract = known.contract(known.sizes[0])
        points = [str(float(value)) for point in known.alignment.points for value in point]
        lines = [f"contract {tensors((contract.input, *contract.outputs))}", *artifacts]
        lines += [" ".join(points), str(float(known.alignment.base)), manifest.DISCLOSURE["label"]]
        (folder / "expected.txt").write_text("\n".join(lines) + "\n", "utf-8")

    root = tmp_path / "contracts"
    for arch in INTERFACES:
        (root / arch).mkdir(parents=True)
        core_bundles.write_bare(root / arch, arch)
        expect(root / arch, arch, ["onnx NCHW []"])
    (root / "fresh").mkdir()
    shutil.copy(golden_bundle / manifest.NAME, root / "fresh")
    found = {name: BACKENDS[name].describe(golden_bundle / BACKENDS[name].FILES[0]) for name in ("coreml", "ncnn", "tflite")}
    ends = {name: sorted((*info.inputs, *info.outputs), key=lambda tensor: tensor.name) for name, info in found.items()}
    expect(root / "fresh", "mobilefaceswap", [f"{name} {BACKENDS[name].LAYOUT} {tensors(ends[name])}" for name in found])
    return root


def test_kotlin_jni_and_mobile_core_pass_their_tests_on_fresh_artifacts(contracts, golden_bundle):
    """Also that names, shapes, layouts and the alignment's points are read as the exporter means them."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for program in ("javac", "java", "npm", "cmake", "ninja", "c++"):
        if shutil.which(program, path=path) is None:
            pytest.skip(f"{program} is needed")
    pytest.importorskip("ai_edge_litert")
    done = subprocess.run(
        [DEMO / "check.sh", "--contracts", contracts, "--bundle", golden_bundle],
        env={**os.environ, "XDG_CACHE_HOME": str(HOME), "PATH": path},
        capture_output=True,
        text=True,
        timeout=900,  # the Kotlin compiler is fetched and ncnn built where they are not in the cache
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran = r"^ok +JUnit: \d+ tests, native code and LiteRT among them, contracts too$"
    assert re.search(ran, done.stdout, re.MULTILINE), done.stdout
    assert "the app's report has the form of mfs-bench-device's" in done.stdout
