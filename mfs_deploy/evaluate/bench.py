"""Times of a bundle's artifacts on this machine, and of the steps around them.

Each artifact runs in a process of its own, one after another.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mfs_deploy.architectures import INTERFACES
from mfs_deploy.backends import launch
from mfs_deploy.backends.job import Job
from mfs_deploy.backends.machine import LOCAL
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import manifest, provenance
from mfs_deploy.bundle.manifest_types import Manifest
from mfs_deploy.errors import BundleError, UsageError
from mfs_deploy.evaluate import bundle_parity, parity
from mfs_deploy.evaluate.bench_results import SCHEMA
from mfs_deploy.evaluate.reference import read_reference
from mfs_deploy.evaluate.result_types import MeasuredHere, TimedEntry, TimesResult
from mfs_deploy.evaluate.verify import verify_bundle
from mfs_deploy.faces import align, paste_back, pixels
from mfs_deploy.progress import SILENT, Progress

STAGE_RUNS = 30


def on_host(folder: Path, *, runs: int, threads: int, progress: Progress = SILENT) -> TimesResult:
    """Time every artifact whose runtime is for this machine, and the stages around it.

    Raises:
        BundleError: the bundle is damaged, or holds no reference tensors or nothing that runs here.
    """
    entries, cases, jobs = open_artifacts(folder, lambda name: BACKENDS[name].RUNS_HERE)
    progress.start(len(jobs) + 1)
    found: dict[str, TimedEntry] = {}
    with launch.scratch() as scratch:
        for name, job in jobs.items():
            here = replace(LOCAL, threads=threads)
            (done,) = launch.run([replace(job, runs=runs)], parity.inputs(cases[:1]), scratch, machine=here)
            timing = done.result.timing
            assert timing is not None
            median, p90, p99 = (_four_decimals(value) for value in np.percentile(timing["times_ms"], (50, 90, 99)))
            found[name] = {
                "recipe": job.recipe_name,
                "runtime": done.result.runtime,
                "median_ms": median,
                "p90_ms": p90,
                "p99_ms": p99,
                "first_ms": _four_decimals(timing["first_ms"]),
                "load_ms": _four_decimals(timing["load_ms"]),
                "times_ms": timing["times_ms"],
                "peak_mb": None if timing["peak_mb"] is None else _four_decimals(timing["peak_mb"]),
            }
            progress.step(f"{name}: {median:.1f} ms")
    progress.step("align and paste back")
    head, around = result_head(entries, list(jobs)), stages(cases[0], entries)
    return {**head, "threads": threads, "artifacts": found, "stages": around}  # type: ignore[typeddict-item]  # head has no more


def open_artifacts(folder: Path, runs: Callable[[str], bool]) -> tuple[Manifest, list[parity.Case], dict[str, Job]]:
    entries = manifest.read(folder)
    contract = verify_bundle(folder, entries)
    if not entries["reference"]:
        raise BundleError(f"{folder} holds no reference tensors, so there is no frame to run", hint="mfs export writes them")
    cases, _ = read_reference(folder, contract)
    jobs = {name: job for name, job in bundle_parity.artifact_jobs(folder, entries, contract).items() if runs(name)}
    if not jobs:
        raise UsageError(f"{folder} holds no artifact that runs there", hint=f"it holds: {', '.join(entries['artifacts'])}")
    return entries, cases, jobs


def result_head(entries: Manifest, names: list[str]) -> MeasuredHere:
    return {
        "schema": SCHEMA,
        **manifest.network(entries),
        "machine": {"processor": processor_name(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"},
        "versions": provenance.versions(package for name in names for package in BACKENDS[name].PACKAGES),
    }


def processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor() or "unknown")


def stages(case: parity.Case, entries: Manifest) -> dict[str, float]:
    """Median milliseconds of the steps around the network in the swap of a photo; empty for a crop without a photo."""
    if case.frame is None or case.landmarks is None or case.back is None:
        return {}
    size, known = entries["contract"]["size"], INTERFACES[entries["architecture"]]
    frame, points, back = case.frame, case.landmarks, case.back
    swapped = pixels.to_tensor(case.crop)
    mask = None if len(entries["contract"]["outputs"]) == 1 else np.ones((1, 1, size, size), np.float32)
    work: dict[str, Callable[[], object]] = {
        "align_ms": lambda: pixels.to_tensor(align.align(frame, points, size, known.alignment)[0]),
        "paste_ms": lambda: paste_back.paste_back(frame, swapped, mask, back, case.paste),
    }
    return {name: _four_decimals(_median_ms(function)) for name, function in work.items()}


def _median_ms(function: Callable[[], object]) -> float:
    times = []
    for _ in range(STAGE_RUNS):
        started = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - started))
    return float(np.median(times))


def _four_decimals(value: float) -> float:
    return round(float(value), 4)
