"""What a person costs: full conversion against stamping, in one run, and how a batch grows.

    python -m benchmarks.stamping

writes benchmarks/results/stamping.json and the table in benchmarks/README.md.  Random people (no photo), all four backends at fp16;
w8a8 with the demo's ranges.  Stamping runs with one thread.
"""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import pages
from mfs_deploy.architectures.mobilefaceswap.architecture import random_identity
from mfs_deploy.backends import launch
from mfs_deploy.bundle import provenance
from mfs_deploy.checkpoint import identity_file
from mfs_deploy.checkpoint.identity_file import IdentityArrays
from mfs_deploy.exporter import artifacts
from mfs_deploy.exporter import kit as kits
from mfs_deploy.exporter.calibrate import CalibrationContext, calibrate
from mfs_deploy.exporter.prepare import open_models, prepare
from mfs_deploy.exporter.request import DEMO, CalibrationOptions, Formats, Network, ParityOptions, Person
from mfs_deploy.quant import ranges_file, recipes
from mfs_deploy.stamping import kit as kits_format
from mfs_deploy.stamping.kit import Kit

RESULTS = pages.RESULTS / "stamping.json"
BACKENDS = ("onnx", "tflite", "ncnn", "coreml")
BATCHES = (1, 8, 32)
PEOPLE = 96  # stamped, in the median
GROWTH = (10, 100, 1_000, 10_000)
PAD = 64_000_000  # bytes that the disk is timed on
MFS = [sys.executable, "-m", "mfs_deploy"]


def somebody(rng: np.random.Generator, encoder: str) -> IdentityArrays:
    someone = random_identity(rng)
    return IdentityArrays(someone.embedding, someone.feature_map, encoder)


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def full_conversion() -> dict[str, float]:
    """Seconds for one person through all four converters, side by side on this machine's cores, and processor seconds of all."""
    models = open_models(Network(DEMO))
    rng = np.random.default_rng(1)
    baked = models.arch.bake(models.generator, models.arch.random_identity(rng))
    facts = provenance.Facts(models.arch.INTERFACE.contract(224), models.files, provenance.weights_sha256(baked))
    pairs = [(name, recipes.load("fp16")) for name in BACKENDS]
    with launch.scratch() as scratch:
        jobs = artifacts.make_jobs(Formats(BACKENDS), pairs, kits.NO_HEADROOM, facts, None)
        target = np.zeros((1, 3, 224, 224), np.float32)
        before = _children_s()
        took = seconds(lambda: launch.run(jobs, target, scratch, weights=baked))
        return {"full_conversion_s": took, "full_conversion_core_s": _children_s() - before}


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def stamping(kit: Kit, folder: Path) -> dict[str, float]:
    """Milliseconds a person: bake by batch, and everything after it (stamp, hash, write, manifest)."""
    rng = np.random.default_rng(2)
    people = [somebody(rng, kit.encoder_sha256) for _ in range(max(BATCHES))]
    list(kit.bake(people[:1]))  # opens the session
    found = {}
    for size in BATCHES:
        times = [seconds(lambda n=size: list(kit.bake(people[:n]))) / size for _ in range(7)]  # type: ignore[misc]
        found[f"bake_ms_batch_{size}"] = 1000 * statistics.median(times)
    times = []
    for i, weights in enumerate(w for _ in range(PEOPLE // max(BATCHES)) for w in kit.bake(people)):
        place = folder / str(i)
        place.mkdir(parents=True)
        times.append(seconds(lambda w=weights, p=place: kits_format.write_bundle(kit.common, kit.templates, w, p)))  # type: ignore[misc]
    found["stamp_ms"] = 1000 * statistics.median(times)
    found["bundle_bytes"] = sum(path.stat().st_size for path in (folder / "0").rglob("*") if path.is_file())
    return found


def limits(folder: Path, bundle_bytes: float) -> dict[str, float]:
    """What one bundle's bytes cost to hash and to write, were there nothing else; milliseconds."""
    content = np.random.default_rng(3).bytes(PAD)
    hashing = seconds(lambda: hashlib.sha256(content))
    writing = min(seconds(lambda i=i: (folder / f"pad{i}").write_bytes(content)) for i in range(3))  # type: ignore[misc]
    return {"hash_ms": 1000 * hashing * bundle_bytes / PAD, "write_ms": 1000 * writing * bundle_bytes / PAD}


def cold(kit_path: Path, folder: Path, kit: Kit) -> float:
    """Seconds from the shell: a saved identity, a kit, all four backends."""
    someone = somebody(np.random.default_rng(4), kit.encoder_sha256)
    identity_file.save(folder / "id.safetensors", someone.embedding, someone.feature_map, kit.encoder_sha256)
    command = [*MFS, "stamp", str(kit_path), "--identity", str(folder / "id.safetensors"), "--out", str(folder / "cold"), "-q"]
    return min(seconds(lambda: subprocess.run(command, check=True)) for _ in range(3))


def growth(kit_path: Path, folder: Path, kit: Kit) -> list[dict[str, float]]:
    """Batches of more and more people: people a second, and the most memory of a worker."""
    rng = np.random.default_rng(5)
    found = []
    for count in GROWTH:
        names, out = folder / f"people{count}", folder / f"out{count}"
        names.mkdir()
        for i in range(count):
            someone = somebody(rng, kit.encoder_sha256)
            identity_file.save(names / f"p{i}.safetensors", someone.embedding, someone.feature_map, kit.encoder_sha256)
        code = (
            "import resource, sys\nfrom mfs_deploy.cli import main\ncode = main(sys.argv[1:])\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\nsys.exit(code)"
        )
        command = [sys.executable, "-c", code, "batch", str(names), "--kit", str(kit_path), "--out", str(out), "-q"]
        began = time.perf_counter()
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        took = time.perf_counter() - began
        shutil.rmtree(out)
        shutil.rmtree(names)
        found.append({"people": count, "seconds": took, "worker_peak_mb": int(said.split()[-1]) / 1024})
    return found


def measure() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="mfs-bench-") as scratch:
        folder = Path(scratch)
        path = folder / "kit.safetensors"
        kits_format.save(path, kits.make(kits.KitRequest(Network(DEMO), BACKENDS, ["fp16"])))
        kit = kits_format.load(path)
        found: dict[str, Any] = {"cores": os.cpu_count(), **full_conversion(), **stamping(kit, folder / "stamp")}
        found |= limits(folder, found["bundle_bytes"])
        found["cold_s"] = cold(path, folder, kit)
        found["w8a8_stamp_ms"] = w8a8(folder)
        found["growth"] = growth(path, folder, kit)
        return found


def w8a8(folder: Path) -> float:
    """Milliseconds after the bake for w8a8 with reused ranges."""
    network = Network(DEMO)
    baked = prepare(network, Person(DEMO), ParityOptions())
    context = CalibrationContext(network.arch, network.side, None)
    stored = calibrate(CalibrationOptions(photos=DEMO), context, baked.graph, baked.crops[:1]).stored
    (folder / "ranges.json").write_text(ranges_file.text(stored))
    request = kits.KitRequest(network, BACKENDS, ["w8a8"], folder / "ranges.json")
    return stamping(kits.make(request), folder / "w8a8")["stamp_ms"]


def table(found: dict[str, Any]) -> str:
    whole = found["bake_ms_batch_32"] + found["stamp_ms"]
    rows: list[tuple[str, str]] = [
        (
            "full conversion, all four backends, side by side",
            f"{found['full_conversion_s']:.1f} s, {found['full_conversion_core_s']:.1f} s of processor time",
        ),
        *((f"generator in ONNX Runtime, {n} at once", f"{found[f'bake_ms_batch_{n}']:.1f} ms") for n in BATCHES),
        ("all after the generator: stamp, hash, write, manifest", f"{found['stamp_ms']:.1f} ms"),
        ("the same for w8a8 with reused ranges", f"{found['w8a8_stamp_ms']:.1f} ms"),
        (
            "in batches of 32, generator included",
            f"{whole:.1f} ms on one core: {1000 * found['full_conversion_core_s'] / whole:.0f} times less processor time",
        ),
        ("of it: hashing the bundle's bytes once", f"{found['hash_ms']:.1f} ms"),
        ("of it: writing them", f"{found['write_ms']:.1f} ms"),
        ("from the shell, with a kit and a saved identity", f"{found['cold_s']:.2f} s"),
    ]
    for one in found["growth"]:
        rate = one["people"] / one["seconds"]
        text = f"{one['seconds']:.1f} s, {rate:.0f} a second, {one['worker_peak_mb']:.0f} MB a worker"
        rows.append((f"mfs batch, {one['people']:,} people, {found['cores']} cores", text))
    slope = (found["growth"][-1]["seconds"] - found["growth"][0]["seconds"]) / (GROWTH[-1] - GROWTH[0])
    rows.append((f"a million people on {found['cores']} such cores, on paper", f"{slope * 1e6 / 3600:.1f} hours"))
    return pages.markdown(("a person", "cost"), rows)


def show(found: dict[str, Any]) -> None:
    """Fill the pages from results."""
    pages.fill("stamping", table(found))


if __name__ == "__main__":
    pages.run(measure, show, RESULTS)
