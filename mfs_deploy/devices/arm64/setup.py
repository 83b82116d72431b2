"""Builds the emulated machine in one folder of the cache: no root, nothing installed into the system.

emulator/   QEMU in user mode, and its libraries that this machine lacks (Debian packages, unpacked)
common/     an arm64 Python 3.11 and the libraries below it (the same)
cpus/X/     links to common/, with the /proc/cpuinfo and cache sizes of processor X.  Without them QEMU 7.2 shows programs the
            host's /proc/cpuinfo, and runtimes choose wrong kernels or crash
packages/   the runtimes' arm64 wheels, in the versions that are installed here
libarmcount.so   the counting plugin
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfs_deploy.backends.machine import Machine
from mfs_deploy.devices.arm64 import machine
from mfs_deploy.devices.arm64.machine import (
    CPUS,
    PLUGIN,
    RECORD,
    NotSetUp,
)
from mfs_deploy.errors import OutputError
from mfs_deploy.progress import SILENT, Progress

CODENAME = "bookworm"  # its QEMU is the one that loads plugins, its Python is 3.11
STATUS = Path("/var/lib/dpkg/status")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
GUEST = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "libgomp1")
WHEELS = ("2014", "_2_17", "_2_24", "_2_27", "_2_28")  # manylinux tags that Debian 12's glibc satisfies
CACHE_SIZES = {"index0": ("1", "Data", "64K"), "index2": ("2", "Unified", "512K"), "index3": ("3", "Unified", "4096K")}


def setup(progress: Progress = SILENT) -> Path:
    """Make the environment, if it does not exist, and try it.

    Raises:
        NotSetUp: this machine cannot run it, or a step failed; the message lists what is missing.
    """
    place = machine.folder()
    if (place / RECORD).is_file():
        return place
    check()
    progress.start(5)
    place.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        progress.step("Debian packages: the emulator and an arm64 Python")
        debian(work, (Packages("amd64", ("qemu-user",), "emulator", STATUS), Packages("arm64", GUEST, "common")))
        progress.step("processors")
        for name in CPUS:
            _processor(work, name)
        progress.step("arm64 wheels of the runtimes")
        _wheels(work / "packages")
        progress.step("the instruction counter")
        counter = _counter(work)
        record = {"versions": machine.versions(), "emulator": _emulator_version(work), "counter": counter}
        (work / RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", "utf-8")
        _replace(work, place)
        progress.step("try it")
        for name in CPUS:
            _try(machine.machine(name))
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        (place / RECORD).unlink(missing_ok=True)
        raise
    progress.finish()
    return place


def check() -> None:
    """Raises NotSetUp where this machine cannot run the environment, with everything that is missing."""
    missing = []
    if sys.platform != "linux" or platform.machine() != "x86_64":
        missing.append(f"Linux on x86-64 (this is {platform.system()} on {platform.machine()})")
    name = _os_release().get("VERSION_CODENAME", "unknown")
    if name != CODENAME:
        missing.append(f"Debian 12, {CODENAME} (this is {name})")
    missing += [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if not KEYRING.exists():
        missing.append(f"{KEYRING} (package debian-archive-keyring)")
    if missing:
        raise NotSetUp(f"the emulated arm64 machine needs {'; '.join(missing)}", hint="run it in a container: python:3.11-bookworm")


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _run(*command: str, what: str, env: Mapping[str, str] | None = None) -> str:
    """Run a program; returns its output.  Raises NotSetUp with its last lines where it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, env={**os.environ, **(env or {})}
        )
    except OSError as exc:
        refused = OutputError.from_os(exc)
        raise refused or NotSetUp(f"{what}: {command[0]} did not run: {exc.strerror}") from exc
    if done.returncode != 0:
        words = " | ".join((done.stderr + done.stdout).strip().splitlines()[-3:])
        raise NotSetUp(
            f"{what} failed: {words}", hint="see that this machine reaches its package sources, and run: mfs arm64 setup"
        )
    return done.stdout


# ---- Debian packages


@dataclass(frozen=True)
class Packages:
    """Debian packages to unpack into a folder, with their dependencies.

    Attributes:
        status: dpkg's list of installed packages, which are not fetched; None fetches everything.
    """

    arch: str
    names: tuple[str, ...]
    into: str
    status: Path | None = None


def debian(work: Path, wanted: Sequence[Packages]) -> None:
    """Fetch and unpack into ``work``, by an apt with a state of its own: the sources this machine uses, for two architectures.

    Raises:
        NotSetUp: a step failed; with the program's last lines.
    """
    apt = work / "apt"
    for name in ("lists/partial", "cache/archives/partial", "state"):
        (apt / name).mkdir(parents=True)
    (apt / "empty").touch()
    (apt / "sources.list").write_text(f"deb [arch=amd64,arm64 signed-by={KEYRING}] {_source()} {CODENAME} main\n", "utf-8")
    options = {
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": apt / "state",
        "Dir::State::lists": apt / "lists",
        "Dir::Cache": apt / "cache",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    common = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in options.items())]
    both = ["-oAPT::Architectures::=amd64", "-oAPT::Architectures::=arm64"]
    _run(*common, *both, "update", what="reading Debian's package lists")
    for part in wanted:
        own = [f"-oAPT::Architecture={part.arch}", f"-oAPT::Architectures::={part.arch}"]
        own.append(f"-oDir::State::status={part.status or apt / 'empty'}")
        _run(
            *common,
            *own,
            "install",
            "--yes",
            "--download-only",
            "--reinstall",
            *part.names,
            what=f"fetching Debian's {part.arch} packages",
        )
        archives = sorted((apt / "cache/archives").glob("*.deb"))
        for archive in archives:
            _run("dpkg-deb", "--extract", str(archive), str(work / part.into), what=f"unpacking {archive.name}")
            archive.unlink()
    shutil.rmtree(apt)


def _source() -> str:
    """This machine's own Debian mirror."""
    listed = _run("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", what="asking apt for its sources")
    uris = sorted({line.split()[0] for line in listed.splitlines() if line.split()[1:] == [CODENAME]})
    if not uris:
        raise NotSetUp(f"apt has no source for {CODENAME}", hint="add Debian's main archive to /etc/apt/sources.list")
    return uris[0]


def _processor(work: Path, name: str) -> None:
    root = work / "cpus" / name
    (root / "proc").mkdir(parents=True)
    for part in (work / "common").iterdir():
        (root / part.name).symlink_to(Path("../../common", part.name))
    (root / "proc/cpuinfo").write_text(CPUS[name].cpuinfo(), "utf-8")
    for index, (level, kind, size) in CACHE_SIZES.items():  # otherwise the host's sizes decide how runtimes cut their work
        place = root / "sys/devices/system/cpu/cpu0/cache" / index
        place.mkdir(parents=True)
        for file, value in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", "0")):
            (place / file).write_text(value + "\n", "utf-8")


def _emulator_version(work: Path) -> str:
    libraries = {"LD_LIBRARY_PATH": str(work / "emulator/usr/lib/x86_64-linux-gnu")}
    printed = _run(str(work / "emulator/usr/bin/qemu-aarch64"), "--version", what="starting QEMU", env=libraries)
    return printed.splitlines()[0]


# ---- Python packages, counter, trial


def _wheels(place: Path) -> None:
    tags = [part for tag in WHEELS for part in ("--platform", f"manylinux{tag}_aarch64")]
    wanted = [f"{package}=={version}" for package, version in machine.versions().items()]
    settings = [
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-compile",
        "--only-binary=:all:",
        "--root-user-action=ignore",
    ]
    python = ["--python-version", "3.11", "--implementation", "cp"]
    pip = [sys.executable, "-m", "pip", "install", *settings, *tags, *python, "--target", str(place)]
    _run(*pip, *wanted, what="fetching arm64 wheels")


def _counter(work: Path) -> bool:
    """Compile the plugin.  Returns whether there is a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return False
    source = Path(__file__).with_name("armcount.c")
    _run(compiler, "-O2", "-fPIC", "-shared", "-o", str(work / PLUGIN), str(source), what="compiling the instruction counter")
    return True


def _replace(work: Path, place: Path) -> None:
    if (place / RECORD).is_file():  # another process was faster and may be using it
        shutil.rmtree(work)
        return
    if place.exists():  # left by an interrupted attempt
        shutil.rmtree(place)
    os.chmod(work, 0o755)
    os.rename(work, place)


def _try(there: Machine) -> None:
    """Import every runtime and this package's worker: each crashes where /proc/cpuinfo is wrong."""
    code = "import numpy, onnxruntime, ncnn, ai_edge_litert.interpreter, mfs_deploy.backends.worker, mfs_deploy.backends.registry"
    _run(*there.command, "-c", code, what=f"importing the runtimes on {there.name}", env=there.environment)
