"""What Xcode would refuse to open, parse or link, found without Xcode."""

from __future__ import annotations

import importlib.util
import plistlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[2]
APP = REPOSITORY / "ios_demo"
HEADERS = REPOSITORY / "mobile_core" / "include"
# Frameworks of iOS that the sources may use, besides our own module: none of them speaks to a network by itself.
FRAMEWORKS = {
    "AVFoundation",
    "CoreGraphics",
    "CoreML",
    "CoreVideo",
    "Foundation",
    "ImageIO",
    "SwiftUI",
    "UIKit",
    "Vision",
    "XCTest",
}


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, APP / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_every_swift_file_parses(sources):
    assert [error for source in sources.values() for error in source.errors()] == []


def test_a_broken_swift_file_is_noticed(sources):
    text = sources["NativeBundle.swift"].text.decode()
    assert type(sources["NativeBundle.swift"])(text.replace("deinit {", "deinit"), "broken").errors()


def test_swift_files_can_be_read_by_people(sources):
    for source in sources.values():
        lines = source.text.decode().splitlines()
        assert len(lines) <= 320, source.name
        assert max(map(len, lines)) <= 132, source.name


def test_nothing_but_known_frameworks_and_the_core_is_imported(sources):
    imported = set().union(*(source.imports() for source in sources.values()))
    assert imported <= FRAMEWORKS | {"MfsCore", "MfsDemo"}


def test_nothing_leaves_the_phone(sources):
    """No type of Foundation or UIKit that opens a connection, or keeps a photo elsewhere."""
    senders = re.compile(r"URLSession\w*|URLRequest|NW[A-Z]\w+|CFSocket\w*|WK\w+|PHPhotoLibrary|UIPasteboard|MFMail\w+")
    for source in sources.values():
        assert not {name for name in source.identifiers() if senders.fullmatch(name)}, source.name
        assert not re.search(r"https?:", source.text.decode()), source.name


def test_the_app_asks_for_the_camera_and_shares_its_folder():
    info = plistlib.loads((APP / "MfsDemo/App/Info.plist").read_bytes())
    assert len(info["NSCameraUsageDescription"]) > 20
    assert info["UIFileSharingEnabled"] is True
    assert info["LSSupportsOpeningDocumentsInPlace"] is True
    assert info["UISupportedInterfaceOrientations"] == ["UIInterfaceOrientationPortrait"]  # frames are turned upright for it
    assert "NSAppTransportSecurity" not in info


def test_the_privacy_manifest_declares_nothing_collected():
    privacy = plistlib.loads((APP / "MfsDemo/App/PrivacyInfo.xcprivacy").read_bytes())
    assert privacy["NSPrivacyTracking"] is False
    assert privacy["NSPrivacyCollectedDataTypes"] == []


def test_the_project_file_is_what_the_script_writes():
    for path, text in script("make_project").files().items():
        assert path.read_text("utf-8") == text, "run python3 ios_demo/make_project.py"


def test_every_source_is_in_its_target_and_no_file_is_missing():
    pbxproj = pytest.importorskip("pbxproj", reason="pbxproj is not installed: pip install -c constraints.txt -e '.[dev]'")
    objects = pbxproj.XcodeProject.load(str(APP / "MfsDemo.xcodeproj/project.pbxproj")).objects
    parents = {child: group for group in objects.get_objects_in_section("PBXGroup") for child in group.children}

    def path_of(key: str) -> Path:
        parts = [objects[key].path]
        while key in parents and "path" in parents[key]:
            parts.append(parents[key].path)
            key = parents[key].get_id()
        return APP.joinpath(*reversed(parts))

    targets = {target.name: target for target in objects.get_targets()}
    assert sorted(targets) == ["MfsDemo", "MfsDemoTests"]
    for name, target in targets.items():
        kinds = {objects[key].isa: objects[key] for key in target.buildPhases}
        built = [path_of(objects[key].fileRef) for key in kinds["PBXSourcesBuildPhase"].files]
        assert sorted(built) == sorted((APP / name).rglob("*.swift"))
    for reference in objects.get_objects_in_section("PBXFileReference"):
        assert reference.sourceTree == "BUILT_PRODUCTS_DIR" or path_of(reference.get_id()).is_file()
    (core,) = objects.get_objects_in_section("PBXShellScriptBuildPhase")
    assert core.get_id() == targets["MfsDemo"].buildPhases[0]  # before anything that links it
    (include,) = {c.buildSettings["SWIFT_INCLUDE_PATHS"] for c in configurations(objects) if "SDKROOT" in c.buildSettings}
    assert (APP / include.removeprefix("$(SRCROOT)/") / "module.modulemap").is_file()
    (info,) = {c.buildSettings["INFOPLIST_FILE"] for c in configurations(objects) if "INFOPLIST_FILE" in c.buildSettings}
    assert (APP / info).is_file()


def configurations(objects):
    return objects.get_objects_in_section("XCBuildConfiguration")


def test_the_module_map_gives_swift_the_core(tmp_path):
    clang = shutil.which("clang")
    if clang is None:
        pytest.skip("clang is not installed")
    file = tmp_path / "use.m"
    file.write_text(
        "@import MfsCore;\nint main(void) { mfs_frame f = {0}; f.format = MFS_BGRA; return mfs_bundle_size(0) + f.width; }\n"
    )
    command = [clang, "-fsyntax-only", "-fmodules", f"-fmodules-cache-path={tmp_path}", "-I", str(HEADERS), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_name_of_the_core_that_swift_uses_is_in_its_header(sources):
    header = (HEADERS / "mfs_core.h").read_text("utf-8")
    used = {n for source in sources.values() for n in source.identifiers() if re.fullmatch(r"(mfs|MFS)_\w+", n)}
    assert {"mfs_align", "mfs_paste", "MFS_BGRA"} <= used
    assert {name for name in used if not re.search(rf"\b{name}\b", header)} == set()


def test_the_readme_s_commands_are_those_of_the_app(sources):
    (known,) = re.findall(r"known: Set = \[(.*)\]", sources["BenchCommand.swift"].text.decode())
    (shown,) = re.findall(r"`(--bench NAME [^`]*)`", (APP / "README.md").read_text("utf-8"))
    options = re.findall(r"--[a-z]+", shown)
    assert {"--bench", "--report", "--dump"} <= set(options) <= set(re.findall(r"--[a-z]+", known))
    assert '"--forget"' in sources["BenchCommand.swift"].text.decode()


def test_scripts_are_shell():
    for name in ("build_core.sh", "check.sh"):
        subprocess.run(["sh", "-n", str(APP / name)], check=True)


def test_apple_names_exist(sources, request):
    """Against npm's declarations of iOS's frameworks: types, functions and constants, not their members."""
    types = request.config.getoption("--apple-types", None)
    if types is None:
        pytest.skip("no --apple-types FOLDER given")
    declared = apple_names(types)
    own = {"UIViewRepresentable"} | FRAMEWORKS  # SwiftUI's, which is not Objective-C
    for source in sources.values():
        used = {n for n in source.identifiers() if re.match(r"(AV|VN|ML|CV|CM|CI|CG|CA|UI|NS|kCV|kCM)[A-Z]\w+$", n)}
        assert {name for name in used - own - declared if f"{name}Ref" not in declared} - SWIFT_NAMES == set(), source.name


# Typedefs and renamings that only Swift's overlay has, not the declarations.
SWIFT_NAMES = {"CVPixelBuffer", "CMSampleBuffer", "CGFloat", "CGImage", "CGContext", "NSLock"}


def apple_names(folder: Path) -> set[str]:
    pattern = re.compile(r"declare (?:class|interface|const enum|enum|const|var|type|function|abstract class) (\w+)", re.MULTILINE)
    text = "\n".join(path.read_text("utf-8") for path in folder.rglob("*.d.ts"))
    names = set(pattern.findall(text)) | set(re.findall(r"^(?:class|interface|enum) (\w+)", text, re.MULTILINE))
    assert len(names) > 10_000, f"{folder} holds no declarations"
    return names
