"""What mobile_core is built from: ncnn and yyjson, taken from their source packages with pip, and kept in the user's cache.

    python3 get_dependencies.py sources                    # prints a folder with ncnn/ and yyjson/
    python3 get_dependencies.py ncnn [--toolchain FILE]    # prints a folder with ncnn built, as cmake/ncnn_options.cmake cuts it
    python3 get_dependencies.py cross-compiler             # prints settings for cmake/aarch64-linux-gnu.cmake, to be exported

Needs pip with setuptools; the second also CMake, Ninja and a C++ compiler, the third Debian 12 and this project's Python package.
Versions and hashes are pinned below.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
OPTIONS = HERE / "cmake" / "ncnn_options.cmake"
AARCH64 = HERE / "cmake" / "aarch64-linux-gnu.cmake"
CROSS = "aarch64-linux-gnu-g++"


@dataclass(frozen=True)
class Package:
    """A source package; ``inside`` is the folder of it that is taken."""

    name: str
    version: str
    sha256: str
    inside: str


PACKAGES = (
    # The version of constraints.txt: what parity was measured with.  MIT and BSD licences.
    Package("ncnn", "1.0.20261020", "ad8cdd63e9755cfa8e23b9b6d9ce46156077d80298a89e7c3ba325ffccfca200", "."),
    # Of this Python package only yyjson 0.10.0's own two C files are used.  MIT licence.
    Package("yyjson", "4.0.6", "fcd4dc15c1e39a30bf9fa85d56903029111506860fc3080ab0d81c6c6dacaa8c", "yyjson"),
)

# ncnn's package takes its version from today's date, and pip refuses one whose version is not that of its name.
CLOCK = """import time
_now = time.localtime
time.localtime = lambda *given: _now(*given) if given else time.strptime("{date}", "%Y%m%d")
"""


def cache() -> Path:
    root = Path(os.environ["XDG_CACHE_HOME"]) if os.environ.get("XDG_CACHE_HOME") else Path("~/.cache").expanduser()
    return (root / "mfs-deploy" / "mobile_core").resolve()  # builds note where it lies


def sources() -> Path:
    """A folder with the sources of each package, in a subfolder of its name."""
    key = _key(*(f"{p.name} {p.version} {p.sha256} {p.inside}" for p in PACKAGES))
    return _once(f"sources-{key}", lambda folder: [_fetch(package, folder / package.name) for package in PACKAGES])


def ncnn(toolchain: Path | None = None) -> Path:
    """A folder with ncnn's headers and static library, for this machine or another.

    Raises:
        SystemExit: a program is missing, or the build failed; says which, and its last words.
    """
    source = sources() / "ncnn"
    settings = cross_compiler() if toolchain == AARCH64 else {}
    version = _run([_compiler(toolchain, settings), "--version"], settings).splitlines()[0]
    text = toolchain.read_text("utf-8") if toolchain else ""
    key = _key(source.parent.name, OPTIONS.read_text("utf-8"), text, version)

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            given = [f"-DMFS_NCNN_SOURCE={source}", f"-DMFS_TARGET={'aarch64' if toolchain else platform.machine()}"]
            given += ["-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG"]
            given += [f"-DCMAKE_TOOLCHAIN_FILE={toolchain}"] if toolchain else []
            given += [f"-DCMAKE_INSTALL_PREFIX={folder}", "-C", str(OPTIONS)]
            compile(source, Path(scratch), given, settings, "install")

    return _once(f"ncnn-{key}", build)


def compile(source: Path, into: Path, options: list[str], settings: dict[str, str], *targets: str) -> None:
    """Configure with CMake and build with Ninja.  Raises SystemExit with their last words."""
    cmake, ninja = program("cmake"), program("ninja")
    _run([cmake, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", "-S", str(source), "-B", str(into), *options], settings)
    _run([cmake, "--build", str(into), "--target", *(targets or ("all",))], settings)


def cross_compiler() -> dict[str, str]:
    """Environment variables with which Debian's compiler for 64-bit ARM runs: none where it is installed, else it is unpacked here.

    Raises:
        SystemExit: this is not Debian 12, or a step failed.
    """
    if shutil.which(CROSS):
        return {}

    def unpack(folder: Path) -> None:
        from mfs_deploy.devices.arm64 import setup
        from mfs_deploy.errors import MfsError

        try:
            setup.check()
            setup.debian(folder, (setup.Packages("amd64", ("g++-aarch64-linux-gnu",), "root", setup.STATUS),))
        except MfsError as exc:
            raise SystemExit(exc.message) from exc

    root = _once("cross-compiler", unpack) / "root"
    return {"MFS_CROSS_ROOT": str(root), "LD_LIBRARY_PATH": f"{root}/usr/lib/x86_64-linux-gnu"}


def _fetch(package: Package, into: Path) -> None:
    with tempfile.TemporaryDirectory(dir=into.parent) as scratch:
        place = Path(scratch)
        (place / "sitecustomize.py").write_text(
            CLOCK.format(date=package.version.rsplit(".", 1)[1]) if package.name == "ncnn" else ""
        )
        pinned = place / "pinned.txt"
        pinned.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-build-isolation",
        ]
        command += ["--no-binary", package.name, "--require-hashes", "--requirement", str(pinned), "--dest", scratch]
        _run(command, {"PYTHONPATH": scratch})
        (archive,) = place.glob("*.tar.gz")
        if hashlib.sha256(archive.read_bytes()).hexdigest() != package.sha256:  # pip has looked; it costs nothing
            raise SystemExit(f"{archive.name} is not the file that was pinned")
        with tarfile.open(archive) as members:
            members.extractall(place / "unpacked", filter="data")
        (top,) = (place / "unpacked").iterdir()
        (top / package.inside).rename(into)
        if package.inside != ".":
            shutil.copy(top / "LICENSE", into)


def _once(name: str, fill: Callable[[Path], object]) -> Path:
    """A folder of the cache, filled once, also when several processes ask at once; put in place whole."""
    cache().mkdir(parents=True, exist_ok=True)
    place = cache() / name
    with open(cache() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            work = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=cache()))
            try:
                fill(work)
                work.rename(place)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return place


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _compiler(toolchain: Path | None, settings: dict[str, str]) -> str:
    """A program whose --version tells of the compiler; of toolchains of others CMake's has to do."""
    if toolchain == AARCH64:
        return f"{settings['MFS_CROSS_ROOT']}/usr/bin/{CROSS}" if settings else CROSS
    return program("cmake") if toolchain else os.environ.get("CXX") or program("c++")


def program(name: str) -> str:
    """Its path: beside this Python, where pip puts CMake and Ninja, or on the PATH.  Raises SystemExit."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is needed and not on the PATH; CMake and Ninja come with: pip install cmake ninja")
    return found


def _run(command: list[str], settings: dict[str, str]) -> str:
    """Raises SystemExit with the program's last words."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env={**os.environ, **settings})
    if done.returncode != 0:
        words = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise SystemExit(f"{' '.join(command[:4])} ... failed:\n{words}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("sources", "ncnn", "cross-compiler"))
    parser.add_argument("--toolchain", type=Path, help="CMake toolchain file of the machine to build for")
    given = parser.parse_args()
    if given.what == "cross-compiler":
        print("\n".join(f"{name}={value}" for name, value in cross_compiler().items()))
    else:
        print(sources() if given.what == "sources" else ncnn(given.toolchain and given.toolchain.resolve()))


if __name__ == "__main__":
    main()
