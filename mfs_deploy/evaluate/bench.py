"""What a bundle costs to run: milliseconds on this machine or on a phone, or instructions on an emulated one.

Each artifact runs in a process of its own, one after another.  Times are those of a machine and tell which of two artifacts is
faster there; instructions are the same on every machine that counts them.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mfs_deploy.architectures import INTERFACES
from mfs_deploy.backends import launch as workers
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.backends.worker import Job
from mfs_deploy.bundle import manifest, provenance
from mfs_deploy.devices.arm64 import count
from mfs_deploy.devices.arm64 import machine as arm64
from mfs_deploy.devices.phone import (
    STAGES,
    SUSTAINED,
    Phone,
    Refused,
    Run,
    require_one,
)
from mfs_deploy.errors import BundleError, ParityError, UsageError
from mfs_deploy.evaluate import bundle_parity as recheck
from mfs_deploy.evaluate import parity
from mfs_deploy.evaluate.reference import read_reference
from mfs_deploy.evaluate.verify import verify_bundle
from mfs_deploy.faces import align, paste_back, pixels
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.quant import recipe as recipes

SCHEMA = 1
STAGE_RUNS = 30
LANES = {"float32": 4, "float16": 8, "int8": 16, "int16": 8}  # multiply-adds of one 128-bit instruction
RESAMPLED, CONFIDENCE = 2000, 95


def host(folder: Path, *, runs: int, threads: int, progress: Progress = SILENT) -> dict[str, Any]:
    """Time every artifact whose runtime is for this machine, and the stages around it.

    Raises:
        BundleError: the bundle is damaged, or holds no reference tensors or nothing that runs here.
    """
    said, cases, jobs = _open(folder, lambda name: BACKENDS[name].RUNS_HERE)
    progress.start(len(jobs) + 1)
    found = {}
    with workers.scratch() as scratch:
        for name, job in jobs.items():
            here = replace(workers.HERE, threads=threads)
            (done,) = workers.run([replace(job, runs=runs)], parity.inputs(cases[:1]), scratch, machine=here)
            timing = done.result.timing
            assert timing is not None
            percentiles = dict(zip(("median_ms", "p90_ms", "p99_ms"), np.percentile(timing["times_ms"], (50, 90, 99)), strict=True))
            found[name] = {"recipe": job.recipe_name, "runtime": done.result.runtime, **_rounded(percentiles), **_rounded(timing)}
            progress.step(f"{name}: {percentiles['median_ms']:.1f} ms")
    progress.step("align and paste back")
    return {**_about(said, list(jobs)), "threads": threads, "artifacts": found, "stages": stages(cases[0], said)}


def emulated(folder: Path, cpu: str, *, by_layer: bool, progress: Progress = SILENT) -> dict[str, Any]:
    """Count the instructions of a frame of every artifact that an emulated processor runs, and by layer if asked.

    Raises:
        NotSetUp: there is no emulated machine, or no counter in it.
        BundleError: as ``host``.
    """
    said, cases, jobs = _open(folder, lambda name: name in arm64.RUNTIMES)
    arm64.machine(cpu, counts=Path(os.devnull))  # complains now, if it must
    progress.start(len(jobs) * (1 + by_layer))
    macs = _macs(said)
    found = {}
    with workers.scratch() as scratch:
        for name, job in jobs.items():
            target = parity.inputs(cases[:1])
            counts, place = scratch / f"{name}.counts", scratch / "frame"
            workers.run([replace(job, count=count.FRAMES)], target, place, machine=arm64.machine(cpu, counts=counts))
            frame = count.frame(counts)
            found[name] = {"recipe": job.recipe_name, "instructions": frame, "bound": macs // _lanes(job, cpu)}
            progress.step(f"{name}: {frame[count.TOTAL] / 1e6:.1f} M instructions")
            if by_layer:
                counts, place = scratch / f"{name}.layers", scratch / "layers"
                (done,) = workers.run([replace(job, count_layers=True)], target, place, machine=arm64.machine(cpu, counts=counts))
                found[name]["layers"] = count.layers(counts, done)
                progress.step(f"{name}, by layer")
    return {**_about(said, list(jobs)), "cpu": cpu, "multiply_adds": macs, "artifacts": found}


def on_phone(folder: Path, phone: Phone, *, runs: int, threads: int, sustained: int, progress: Progress = SILENT) -> dict[str, Any]:
    """Time the whole swap of a frame on a phone, with every artifact that it has a runtime for.

    Args:
        sustained: seconds of frames without a pause after the timed ones; 0 for none.

    Raises:
        BundleError: as ``host``.
        DeviceError: the phone is gone, a step failed there, or it runs none of the artifacts.
        ParityError: an artifact does something else there than it should: its times would be worth nothing.
    """
    said, _, jobs = _open(folder, lambda name: name in phone.runs)
    progress.start(len(jobs) + 1)
    reports: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}
    with phone.place(folder) as placed:
        progress.step(f"copied to {phone.name}")
        for name in jobs:
            try:
                report = placed.measure(Run(name, threads=threads, runs=runs, sustained=sustained)).report
            except Refused as exc:
                refused[name] = exc.message
                progress.step(f"{name}: not there")
                continue
            if report["parity"]["complaints"]:
                raise ParityError(
                    f"{name} on {phone.name}: {report['parity']['complaints'][0]}", hint="mfs parity --device says more"
                )
            reports[name] = report
            progress.step(f"{name}: {report['latency_ms']['total']['p50']:.1f} ms")
    require_one(reports, refused)
    any_report = next(iter(reports.values()))  # the machine and its threads are the same in all
    machine = any_report["machine"]
    processor = {"processor": machine["cpu"], "cores": machine["cores"], "system": f"{machine['system']} {machine['architecture']}"}
    return {
        "schema": SCHEMA,
        **manifest.network(said),
        "phone": phone.name,
        "by": phone.way,
        "machine": processor,
        "threads": any_report["threads"],
        "runs": runs,
        "artifacts": {name: _of_report(report, sustained=sustained > 0) for name, report in reports.items()},
        "refused": refused,
    }


def _of_report(report: dict[str, Any], *, sustained: bool) -> dict[str, Any]:
    """What is shown of a phone's report, which may hold more."""
    found = {key: report[key] for key in ("recipe", "runtime", "precision", "open_ms", "frame")}
    found["latency_ms"] = {stage: report["latency_ms"][stage] for stage in STAGES}
    if sustained:
        found["sustained"] = {key: report["sustained"][key] for key in SUSTAINED}
    return found


def _open(folder: Path, runs: Callable[[str], bool]) -> tuple[dict[str, Any], list[parity.Case], dict[str, Job]]:
    said = manifest.read(folder)
    contract = verify_bundle(folder, said)
    if not said["reference"]:
        raise BundleError(f"{folder} holds no reference tensors, so there is no frame to run", hint="mfs export writes them")
    cases, _ = read_reference(folder, contract)
    jobs = {name: job for name, job in recheck.jobs_of(folder, said, contract).items() if runs(name)}
    if not jobs:
        raise UsageError(f"{folder} holds no artifact that runs there", hint=f"it holds: {', '.join(said['artifacts'])}")
    return said, cases, jobs


def _about(said: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        **manifest.network(said),
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"},
        "versions": provenance.versions(package for name in names for package in BACKENDS[name].PACKAGES),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor() or "unknown")


def stages(case: parity.Case, said: dict[str, Any]) -> dict[str, float]:
    """Median milliseconds of what stands around the network in the whole swap of a photo; none for a crop without one."""
    if case.frame is None or case.landmarks is None or case.back is None:
        return {}
    size, known = said["contract"]["size"], INTERFACES[said["architecture"]]
    frame, points, back = case.frame, case.landmarks, case.back
    swapped = pixels.to_tensor(case.crop)
    mask = None if len(said["contract"]["outputs"]) == 1 else np.ones((1, 1, size, size), np.float32)
    work: dict[str, Callable[[], object]] = {
        "align_ms": lambda: pixels.to_tensor(align.align(frame, points, size, known.alignment)[0]),
        "paste_ms": lambda: paste_back.paste_back(frame, swapped, mask, back, case.paste),
    }
    return _rounded({name: _median_ms(function) for name, function in work.items()})


def _median_ms(function: Callable[[], object]) -> float:
    times = []
    for _ in range(STAGE_RUNS):
        started = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - started))
    return float(np.median(times))


def _macs(said: dict[str, Any]) -> int:
    """Multiply-adds that the network needs, whatever a backend made of it."""
    from mfs_deploy import architectures
    from mfs_deploy.graph import simplify
    from mfs_deploy.graph.cost import cost

    return cost(simplify(architectures.get(said["architecture"]).blank()), said["contract"]["size"]).macs


def _lanes(job: Job, cpu: str) -> int:
    """Multiply-adds an instruction in the arithmetic that the recipe has by default, where the processor has it."""
    wanted = recipes.from_dict(job.recipe).default.activations
    return LANES["float32"] if "asimdhp" not in arm64.CPUS[cpu].features else LANES[wanted]


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: round(float(value), 4) if isinstance(value, float) else value for name, value in values.items()}


# ---- against another run


def compare(old: dict[str, Any], new: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """New over old by artifact: of median times with an interval that holds the true ratio with 95% confidence, or of instructions.

    Raises:
        UsageError: the two were not measured alike.
    """
    for key in ("architecture", "size", "cpu", "threads"):
        if old.get(key) != new.get(key):
            raise UsageError(f"{key} was {old.get(key)} and is {new.get(key)}", hint="compare two runs of the same kind")
    found = {}
    for name in new["artifacts"]:
        if name in old["artifacts"]:
            before, now = old["artifacts"][name], new["artifacts"][name]
            if "times_ms" in now:
                ratio, low, high = _ratio(before["times_ms"], now["times_ms"])
                found[name] = {"ratio": ratio, "low": low, "high": high}
            else:
                found[name] = {"ratio": round(now["instructions"][count.TOTAL] / before["instructions"][count.TOTAL], 4)}
    if not found:
        raise UsageError("the two runs have no artifact in common", hint=f"the old one has: {', '.join(old['artifacts'])}")
    return found


def _ratio(before: Sequence[float], now: Sequence[float]) -> tuple[float, float, float]:
    """Ratio of medians, and its bootstrap interval."""
    rng = np.random.default_rng(0)
    a, b = (np.median(rng.choice(times, (RESAMPLED, len(times))), axis=1) for times in (before, now))
    low, high = np.percentile(b / a, ((100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2))
    return round(float(np.median(now) / np.median(before)), 4), round(float(low), 4), round(float(high), 4)


def read(path: Path) -> dict[str, Any]:
    """What ``mfs bench --json`` printed.  Raises UsageError."""
    try:
        found = json.loads(path.read_text("utf-8"))
        if found["schema"] != SCHEMA or not isinstance(found["artifacts"], dict):
            raise ValueError(f"schema {found['schema']}")
        for entry in found["artifacts"].values():
            values = entry["times_ms"] if "times_ms" in entry else [entry["instructions"][count.TOTAL]]
            if not values or not all(isinstance(value, (int, float)) and value > 0 for value in values):
                raise ValueError("an artifact without figures")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise UsageError(
            f"{path} is not what mfs bench --json prints ({exc})", hint="make it with: mfs bench BUNDLE --json > FILE"
        ) from exc
    return dict(found)
