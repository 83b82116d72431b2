"""The emulated phone: its processors, the folder of its environment, and the command that starts a worker in it.

The emulator is QEMU 7.2 in user mode, in Debian 12's dynamic build, which can load the plugin that ``count.py`` needs.  It executes
arm64 instructions exactly, so outputs are those of a phone's processor; its times say nothing about a phone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import mfs_deploy
from mfs_deploy import files
from mfs_deploy.backends.machine import Machine
from mfs_deploy.errors import MfsError, UsageError

LAYOUT = 1  # of the environment's folder; part of the folder's name
RECORD = "environment.json"
RUNTIMES = {"onnx": ("onnxruntime", "onnx"), "tflite": ("ai-edge-litert",), "ncnn": ("ncnn",)}  # by backend; Core ML has none
# What the runtimes import, listed so that pip need not resolve for another machine.
SUPPORT = ("numpy", "flatbuffers", "typing_extensions", "tqdm", "backports.strenum", "protobuf", "ml_dtypes", "packaging")
PLUGIN = "libarmcount.so"


@dataclass(frozen=True)
class Cpu:
    """A processor as QEMU and the kernel name it.  Runtimes choose their kernels by ``features`` in /proc/cpuinfo."""

    name: str
    part: str
    features: str

    def cpuinfo(self) -> str:
        fields = {
            "BogoMIPS": "100.00",
            "Features": self.features,
            "CPU implementer": "0x41",
            "CPU architecture": "8",
            "CPU variant": "0x1",
            "CPU part": self.part,
            "CPU revision": "1",
        }
        return "".join(f"{key}\t: {value}\n" for key, value in {"processor": "0", **fields}.items()) + "\n"


_ARMV8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32"
CPUS = {
    cpu.name: cpu
    for cpu in (
        # With float16 and dot products.
        Cpu("cortex-a76", "0xd0b", f"{_ARMV8} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs"),
        # With neither, as phones before 2018.
        Cpu("cortex-a72", "0xd08", f"{_ARMV8} cpuid"),
    )
}


class NotSetUp(MfsError):
    """The emulated machine is not set up."""

    exit_code = 5
    kind = "missing-arm64"


def versions() -> dict[str, str]:
    """Versions of the environment's packages: those installed here, so that only the processor differs.

    Raises:
        NotSetUp: a runtime is not installed here.
    """
    found = {}
    for package in (*(p for packages in RUNTIMES.values() for p in packages), *SUPPORT):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError as exc:
            raise NotSetUp(
                f"the arm64 builds need the versions installed here, and {package} is not installed",
                hint='in the folder of mfs-deploy: pip install -c constraints.txt ".[all]"',
            ) from exc
    return found


def folder() -> Path:
    """The folder of the environment for the versions installed here."""
    key = hashlib.sha256(json.dumps([LAYOUT, versions()], sort_keys=True).encode()).hexdigest()[:16]
    return files.cache_folder("arm64") / key


def check_cpu(name: str) -> None:
    if name not in CPUS:
        raise UsageError(f"no emulated processor {name!r}", hint=f"choose from: {', '.join(CPUS)}")


def machine(cpu: str, *, counts: Path | None = None) -> Machine:
    """A machine that starts workers on an emulated processor.

    Args:
        counts: a file for the counting plugin to write to; None does not load it.

    Raises:
        UsageError: an unknown processor.
        NotSetUp: there is no environment for the versions installed here.
    """
    check_cpu(cpu)
    place = folder()
    if not (place / RECORD).is_file():
        raise NotSetUp("the emulated arm64 machine is not set up for the versions installed here", hint="run: mfs arm64 setup")
    plugin: tuple[str, ...] = ()
    if counts is not None:
        if not (place / PLUGIN).is_file():
            raise NotSetUp(
                "the instruction counter was not built: no C compiler was found", hint="install gcc and run: mfs arm64 setup"
            )
        plugin = ("-plugin", str(place / PLUGIN))
    command = (
        str(place / "emulator/usr/bin/qemu-aarch64"),
        *("-L", str(place / "cpus" / cpu)),
        *("-U", "LD_LIBRARY_PATH"),
        *("-cpu", cpu),
        *plugin,
        str(place / "common/usr/bin/python3.11"),
    )
    environment = {
        "LD_LIBRARY_PATH": str(place / "emulator/usr/lib/x86_64-linux-gnu"),
        "PYTHONPATH": f"{place / 'packages'}:{_package(place)}",
        "PYTHONNOUSERSITE": "1",
        # In the emulator, compiling a runtime's imports takes twice as long as the rest of a start.
        "PYTHONPYCACHEPREFIX": str(place / "bytecode"),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    if counts is not None:
        environment["ARMCOUNT_OUT"] = str(counts)
    return Machine(f"arm64 {cpu}", command, environment)


def _package(place: Path) -> Path:
    """A folder with a link to mfs_deploy, and nothing else from this interpreter's site-packages.

    Each installation has its own folder: several share the environment, and may run at the same time.
    """
    package = Path(mfs_deploy.__file__).resolve().parent
    ours = place / "package" / hashlib.sha256(str(package).encode()).hexdigest()[:16]
    ours.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (ours / "mfs_deploy").symlink_to(package)
    return ours
