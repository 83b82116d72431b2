"""Write MfsDemo.xcodeproj from the files that are there: run it after adding, renaming or removing one.

    python3 ios_demo/make_project.py

Every .swift file below MfsDemo/ is in the app, every one below MfsDemoTests/ in its tests.  The same files give the same bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

HERE = Path(__file__).parent
APP, TESTS = "MfsDemo", "MfsDemoTests"
PROJECT = HERE / f"{APP}.xcodeproj"
KINDS = {".swift": "sourcecode.swift", ".plist": "text.plist.xml", ".xcprivacy": "text.xml"}
RESOURCES = (".xcprivacy",)
Value = str | list["Value"] | dict[str, "Value"]

COMMON: dict[str, Value] = {
    "ALWAYS_SEARCH_USER_PATHS": "NO",
    "CLANG_ENABLE_MODULES": "YES",
    "CURRENT_PROJECT_VERSION": "1",
    "ENABLE_USER_SCRIPT_SANDBOXING": "NO",  # build_core.sh writes a build folder
    "EXCLUDED_ARCHS[sdk=iphonesimulator*]": "x86_64",
    "IPHONEOS_DEPLOYMENT_TARGET": "16.0",
    "MARKETING_VERSION": "0.1.0",
    "SDKROOT": "iphoneos",
    "SWIFT_INCLUDE_PATHS": "$(SRCROOT)/../mobile_core/include",  # module.modulemap: import MfsCore
    "SWIFT_VERSION": "5.0",
    "TARGETED_DEVICE_FAMILY": "1",
}
BY_CONFIGURATION: dict[str, dict[str, Value]] = {
    "Debug": {
        "ENABLE_TESTABILITY": "YES",
        "GCC_OPTIMIZATION_LEVEL": "0",
        "ONLY_ACTIVE_ARCH": "YES",
        "SWIFT_ACTIVE_COMPILATION_CONDITIONS": "DEBUG",
        "SWIFT_OPTIMIZATION_LEVEL": "-Onone",
    },
    "Release": {"SWIFT_COMPILATION_MODE": "wholemodule", "SWIFT_OPTIMIZATION_LEVEL": "-O", "VALIDATE_PRODUCT": "YES"},
}
APP_SETTINGS: dict[str, Value] = {
    "CODE_SIGN_STYLE": "Automatic",
    "GENERATE_INFOPLIST_FILE": "NO",
    "INFOPLIST_FILE": f"{APP}/App/Info.plist",
    "LD_RUNPATH_SEARCH_PATHS": ["$(inherited)", "@executable_path/Frameworks"],
    "LIBRARY_SEARCH_PATHS": ["$(inherited)", "$(BUILT_PRODUCTS_DIR)/mfs_core"],
    "OTHER_LDFLAGS": ["$(inherited)", "-lmfs_core_ios", "-lc++"],
    "PRODUCT_BUNDLE_IDENTIFIER": "org.example.MfsDemo",
    "PRODUCT_NAME": "$(TARGET_NAME)",
}
TEST_SETTINGS: dict[str, Value] = {
    "BUNDLE_LOADER": "$(TEST_HOST)",
    "CODE_SIGN_STYLE": "Automatic",
    "GENERATE_INFOPLIST_FILE": "YES",
    "PRODUCT_BUNDLE_IDENTIFIER": "org.example.MfsDemoTests",
    "PRODUCT_NAME": "$(TARGET_NAME)",
    "TEST_HOST": f"$(BUILT_PRODUCTS_DIR)/{APP}.app/{APP}",
}
BUILD_CORE: dict[str, Value] = {
    "isa": "PBXShellScriptBuildPhase",
    "alwaysOutOfDate": "1",  # CMake knows what is out of date
    "buildActionMask": "2147483647",
    "files": [],
    "inputPaths": [],
    "name": "Build mobile_core",
    "outputPaths": ["$(BUILT_PRODUCTS_DIR)/mfs_core/libmfs_core_ios.a"],
    "runOnlyForDeploymentPostprocessing": "0",
    "shellPath": "/bin/sh",
    "shellScript": '"$SRCROOT/build_core.sh"\n',
}


def identifier(what: str) -> str:
    """The 24 hexadecimal digits by which a project file refers to an object."""
    return hashlib.sha256(what.encode()).hexdigest()[:24].upper()


class Objects:
    """The project's objects, by identifier."""

    def __init__(self) -> None:
        self.by_id: dict[str, Value] = {}

    def add(self, what: str, fields: dict[str, Value]) -> str:
        key = identifier(what)
        assert key not in self.by_id, what
        self.by_id[key] = fields
        return key

    def configurations(self, owner: str, settings: dict[str, dict[str, Value]]) -> str:
        items: list[Value] = []
        for name, build in settings.items():
            fields: dict[str, Value] = {"isa": "XCBuildConfiguration", "buildSettings": build, "name": name}
            items.append(self.add(f"{owner} {name}", fields))
        return self.add(
            f"{owner} configurations",
            {
                "isa": "XCConfigurationList",
                "buildConfigurations": items,
                "defaultConfigurationIsVisible": "0",
                "defaultConfigurationName": "Release",
            },
        )

    def group(self, folder: Path) -> tuple[str, list[Path]]:
        """A folder with all below it: its identifier, and the files."""
        children: list[Value] = []
        files: list[Path] = []
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                child, below = self.group(path)
                children.append(child)
                files += below
            elif path.suffix in KINDS:
                fields: dict[str, Value] = {"isa": "PBXFileReference", "lastKnownFileType": KINDS[path.suffix]}
                children.append(self.add(relative(path), fields | {"path": path.name, "sourceTree": "<group>"}))
                files.append(path)
        fields = {"isa": "PBXGroup", "children": children, "path": folder.name, "sourceTree": "<group>"}
        return self.add(relative(folder), fields), files

    def phase(self, owner: str, kind: str, files: list[Path]) -> str:
        items: list[Value] = []
        for path in files:
            fields: dict[str, Value] = {"isa": "PBXBuildFile", "fileRef": identifier(relative(path))}
            items.append(self.add(f"{relative(path)} in {owner}", fields))
        return self.add(
            f"{owner} {kind}",
            {"isa": kind, "buildActionMask": "2147483647", "files": items, "runOnlyForDeploymentPostprocessing": "0"},
        )


def relative(path: Path) -> str:
    return path.relative_to(HERE).as_posix()


def build() -> tuple[Objects, str]:
    """The objects, and the identifier of the project among them."""
    objects = Objects()
    product_ids: list[Value] = []
    groups: list[Value] = []
    targets: list[Value] = []
    for name, suffix, kind, settings in (
        (APP, ".app", "application", APP_SETTINGS),
        (TESTS, ".xctest", "bundle.unit-test", TEST_SETTINGS),
    ):
        group, files = objects.group(HERE / name)
        groups.append(group)
        wrapper = "wrapper.application" if name == APP else "wrapper.cfbundle"
        product = objects.add(
            f"{name} product",
            {
                "isa": "PBXFileReference",
                "explicitFileType": wrapper,
                "includeInIndex": "0",
                "path": name + suffix,
                "sourceTree": "BUILT_PRODUCTS_DIR",
            },
        )
        product_ids.append(product)
        phases: list[Value] = [objects.add("Build mobile_core", BUILD_CORE)] if name == APP else []
        phases.append(objects.phase(name, "PBXSourcesBuildPhase", [path for path in files if path.suffix == ".swift"]))
        phases.append(objects.phase(name, "PBXFrameworksBuildPhase", []))
        phases.append(objects.phase(name, "PBXResourcesBuildPhase", [path for path in files if path.suffix in RESOURCES]))
        fields: dict[str, Value] = {
            "isa": "PBXNativeTarget",
            "buildConfigurationList": objects.configurations(name, dict.fromkeys(BY_CONFIGURATION, settings)),
            "buildPhases": phases,
            "buildRules": [],
            "dependencies": [] if name == APP else [_dependency(objects)],
            "name": name,
            "productName": name,
            "productReference": product,
            "productType": f"com.apple.product-type.{kind}",
        }
        targets.append(objects.add(f"target {name}", fields))
    fields = {"isa": "PBXGroup", "children": product_ids, "name": "Products", "sourceTree": "<group>"}
    products = objects.add("products", fields)
    main = objects.add("main group", {"isa": "PBXGroup", "children": [*groups, products], "sourceTree": "<group>"})
    project = objects.add(
        "project",
        {
            "isa": "PBXProject",
            "attributes": {
                "BuildIndependentTargetsInParallel": "1",
                "LastUpgradeCheck": "1500",
                "TargetAttributes": {identifier(f"target {TESTS}"): {"TestTargetID": identifier(f"target {APP}")}},
            },
            "buildConfigurationList": objects.configurations(
                "project", {name: COMMON | extra for name, extra in BY_CONFIGURATION.items()}
            ),
            "compatibilityVersion": "Xcode 14.0",
            "developmentRegion": "en",
            "hasScannedForEncodings": "0",
            "knownRegions": ["en", "Base"],
            "mainGroup": main,
            "productRefGroup": products,
            "projectDirPath": "",
            "projectRoot": "",
            "targets": targets,
        },
    )
    return objects, project


def _dependency(objects: Objects) -> str:
    """Of the tests on the app."""
    app = identifier(f"target {APP}")
    proxy = objects.add(
        "proxy",
        {
            "isa": "PBXContainerItemProxy",
            "containerPortal": identifier("project"),
            "proxyType": "1",
            "remoteGlobalIDString": app,
            "remoteInfo": APP,
        },
    )
    return objects.add("dependency", {"isa": "PBXTargetDependency", "target": app, "targetProxy": proxy})


def written(value: Value, depth: int = 0) -> str:
    """As an OpenStep property list, everything quoted, keys sorted."""
    indent, end = "\t" * (depth + 1), "\t" * depth
    if isinstance(value, dict):
        lines = "".join(f"{indent}{written(key)} = {written(value[key], depth + 1)};\n" for key in sorted(value))
        return f"{{\n{lines}{end}}}"
    if isinstance(value, list):
        return "(\n" + "".join(f"{indent}{written(item, depth + 1)},\n" for item in value) + f"{end})"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def project_file() -> str:
    objects, project = build()
    top: dict[str, Value] = {"archiveVersion": "1", "classes": {}, "objectVersion": "56"}
    return "// !$*UTF8*$!\n" + written(top | {"objects": objects.by_id, "rootObject": project}) + "\n"


def scheme() -> str:
    def reference(target: str, product: str) -> str:
        return (
            f'<BuildableReference BuildableIdentifier="primary" BlueprintIdentifier="{identifier(f"target {target}")}" '
            f'BuildableName="{product}" BlueprintName="{target}" ReferencedContainer="container:{APP}.xcodeproj"/>'
        )

    app, tests = reference(APP, f"{APP}.app"), reference(TESTS, f"{TESTS}.xctest")
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Scheme LastUpgradeVersion="1500" version="1.7">
  <BuildAction parallelizeBuildables="YES" buildImplicitDependencies="YES">
    <BuildActionEntries>
      <BuildActionEntry buildForTesting="YES" buildForRunning="YES" buildForProfiling="YES" buildForArchiving="YES"
                        buildForAnalyzing="YES">
        {app}
      </BuildActionEntry>
    </BuildActionEntries>
  </BuildAction>
  <TestAction buildConfiguration="Debug">
    <Testables>
      <TestableReference skipped="NO">
        {tests}
      </TestableReference>
    </Testables>
  </TestAction>
  <LaunchAction buildConfiguration="Release" debugDocumentVersioning="YES">
    <BuildableProductRunnable runnableDebuggingMode="0">
      {app}
    </BuildableProductRunnable>
  </LaunchAction>
  <ProfileAction buildConfiguration="Release" debugDocumentVersioning="YES">
    <BuildableProductRunnable runnableDebuggingMode="0">
      {app}
    </BuildableProductRunnable>
  </ProfileAction>
  <ArchiveAction buildConfiguration="Release" revealArchiveInOrganizer="YES"/>
</Scheme>
"""


def files() -> dict[Path, str]:
    return {
        PROJECT / "project.pbxproj": project_file(),
        PROJECT / "xcshareddata" / "xcschemes" / f"{APP}.xcscheme": scheme(),
    }


def main() -> None:
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
