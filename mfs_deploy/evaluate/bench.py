"""What a bundle costs to run: milliseconds on this machine or on a phone, or instructions on an emulated one.

Each artifact runs in a process of its own, one after another.  Times are those of a machine and tell which of two artifacts is
faster there; instructions are the same on every machine that counts them.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from mfs_deploy.architectures import INTERFACES
from mfs_deploy.backends import launch as workers
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.backends.worker import Job
from mfs_deploy.bundle import manifest
from mfs_deploy.bundle.manifest_types import Manifest
from mfs_deploy.bundle.schema import parse, schema_error
from mfs_deploy.devices.arm64 import count
from mfs_deploy.devices.arm64 import machine as arm64
from mfs_deploy.devices.phone import (
    Phone,
    Refused,
    Run,
    require_one,
)
from mfs_deploy.devices.report_types import PhoneReport
from mfs_deploy.errors import BundleError, ParityError, UsageError
from mfs_deploy.evaluate import bundle_parity as recheck
from mfs_deploy.evaluate import parity
from mfs_deploy.evaluate import reference as reference_file
from mfs_deploy.evaluate.result_types import (
    CountedEntry,
    InstructionsResult,
    IntervalEntry,
    MeasuredHere,
    OnPhoneEntry,
    PhoneResult,
    TimedEntry,
    TimesResult,
)
from mfs_deploy.export import write_bundle as contents
from mfs_deploy.faces import align, paste_back, pixels
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.quant import recipe as recipes

SCHEMA = 1
STAGE_RUNS = 30
LANES = {"float32": 4, "float16": 8, "int8": 16, "int16": 8}  # multiply-adds of one 128-bit instruction
RESAMPLED, CONFIDENCE = 2000, 95


def host(folder: Path, *, runs: int, threads: int, progress: Progress = SILENT) -> TimesResult:
    """Time every artifact whose runtime is for this machine, and the stages around it.

    Raises:
        BundleError: the bundle is damaged, or holds no reference tensors or nothing that runs here.
    """
    said, cases, jobs = _open(folder, lambda name: BACKENDS[name].RUNS_HERE)
    progress.start(len(jobs) + 1)
    found: dict[str, TimedEntry] = {}
    with workers.scratch() as scratch:
        for name, job in jobs.items():
            here = replace(workers.HERE, threads=threads)
            (done,) = workers.run([replace(job, runs=runs)], parity.inputs(cases[:1]), scratch, machine=here)
            timing = done.result.timing
            assert timing is not None
            median, p90, p99 = (_rounded(value) for value in np.percentile(timing["times_ms"], (50, 90, 99)))
            found[name] = {
                "recipe": job.recipe_name,
                "runtime": done.result.runtime,
                "median_ms": median,
                "p90_ms": p90,
                "p99_ms": p99,
                "first_ms": _rounded(timing["first_ms"]),
                "load_ms": _rounded(timing["load_ms"]),
                "times_ms": timing["times_ms"],
                "peak_mb": None if timing["peak_mb"] is None else _rounded(timing["peak_mb"]),
            }
            progress.step(f"{name}: {median:.1f} ms")
    progress.step("align and paste back")
    about, around = _about(said, list(jobs)), stages(cases[0], said)
    return {**about, "threads": threads, "artifacts": found, "stages": around}  # type: ignore[typeddict-item]  # about has no more


def emulated(folder: Path, cpu: str, *, by_layer: bool, progress: Progress = SILENT) -> InstructionsResult:
    """Count the instructions of a frame of every artifact that an emulated processor runs, and by layer if asked.

    Raises:
        NotSetUp: there is no emulated machine, or no counter in it.
        BundleError: as ``host``.
    """
    said, cases, jobs = _open(folder, lambda name: name in arm64.RUNTIMES)
    arm64.machine(cpu, counts=Path(os.devnull))  # complains now, if it must
    progress.start(len(jobs) * (1 + by_layer))
    macs = _macs(said)
    found: dict[str, CountedEntry] = {}
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
    about = _about(said, list(jobs))
    return {**about, "cpu": cpu, "multiply_adds": macs, "artifacts": found}  # type: ignore[typeddict-item]  # about has no more


def on_phone(folder: Path, phone: Phone, *, runs: int, threads: int, sustained: int, progress: Progress = SILENT) -> PhoneResult:
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
    reports: dict[str, PhoneReport] = {}
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
    return {
        "schema": SCHEMA,
        **manifest.network(said),
        "phone": phone.name,
        "by": phone.way,
        "machine": {
            "processor": machine["cpu"],
            "cores": machine["cores"],
            "system": f"{machine['system']} {machine['architecture']}",
        },
        "threads": any_report["threads"],
        "runs": runs,
        "artifacts": {name: _of_report(report) for name, report in reports.items()},
        "refused": refused,
    }


def _of_report(report: PhoneReport) -> OnPhoneEntry:
    """What is shown of a phone's report."""
    found: OnPhoneEntry = {
        "recipe": report["recipe"],
        "runtime": report["runtime"],
        "precision": report["precision"],
        "open_ms": report["open_ms"],
        "frame": report["frame"],
        "latency_ms": report["latency_ms"],
    }
    if "sustained" in report:
        found["sustained"] = report["sustained"]
    return found


def _open(folder: Path, runs: Callable[[str], bool]) -> tuple[Manifest, list[parity.Case], dict[str, Job]]:
    said = manifest.read(folder)
    contract = recheck.verify(folder, said)
    if not said["reference"]:
        raise BundleError(f"{folder} holds no reference tensors, so there is no frame to run", hint="mfs export writes them")
    cases, _ = reference_file.read(folder / reference_file.NAME, contract, INTERFACES[contract.arch].paste_back)
    jobs = {name: job for name, job in recheck.jobs_of(folder, said, contract).items() if runs(name)}
    if not jobs:
        raise UsageError(f"{folder} holds no artifact that runs there", hint=f"it holds: {', '.join(said['artifacts'])}")
    return said, cases, jobs


def _about(said: Manifest, names: list[str]) -> MeasuredHere:
    return {
        "schema": SCHEMA,
        **manifest.network(said),
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"},
        "versions": contents.versions(names),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor() or "unknown")


def stages(case: parity.Case, said: Manifest) -> dict[str, float]:
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
    return {name: _rounded(_median_ms(function)) for name, function in work.items()}


def _median_ms(function: Callable[[], object]) -> float:
    times = []
    for _ in range(STAGE_RUNS):
        started = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - started))
    return float(np.median(times))


def _macs(said: Manifest) -> int:
    """Multiply-adds that the network needs, whatever a backend made of it."""
    from mfs_deploy import architectures as architecture
    from mfs_deploy.graph import simplify
    from mfs_deploy.graph.cost import cost

    return cost(simplify(architecture.get(said["architecture"]).blank()), said["contract"]["size"]).macs


def _lanes(job: Job, cpu: str) -> int:
    """Multiply-adds an instruction in the arithmetic that the recipe has by default, where the processor has it."""
    wanted = recipes.from_dict(job.recipe).default.activations
    return LANES["float32"] if "asimdhp" not in arm64.CPUS[cpu].features else LANES[wanted]


def _rounded(value: float) -> float:
    return round(float(value), 4)


# ---- against another run


def compare(old: TimesResult | InstructionsResult, new: TimesResult | InstructionsResult) -> None:
    """Note in ``new``, by artifact, its figures over those of ``old``: of median times, or of instructions.

    Raises:
        UsageError: the two were not measured alike.
    """
    before, now = ({key: one.get(key) for key in ("architecture", "size", "cpu", "threads")} for one in (old, new))
    for key, value in before.items():
        if value != now[key]:
            raise UsageError(f"{key} was {value} and is {now[key]}", hint="compare two runs of the same kind")
    common = [name for name in new["artifacts"] if name in old["artifacts"]]
    if not common:
        raise UsageError("the two runs have no artifact in common", hint=f"the old one has: {', '.join(old['artifacts'])}")
    if "cpu" in new and "cpu" in old:
        counts = [{name: one["artifacts"][name]["instructions"][count.TOTAL] for name in common} for one in (old, new)]
        new["compared"] = {name: {"ratio": round(counts[1][name] / counts[0][name], 4)} for name in common}
    if "threads" in new and "threads" in old:
        new["compared"] = {name: _ratio(old["artifacts"][name]["times_ms"], new["artifacts"][name]["times_ms"]) for name in common}


def _ratio(before: Sequence[float], now: Sequence[float]) -> IntervalEntry:
    """Ratio of medians, and its bootstrap interval."""
    rng = np.random.default_rng(0)
    a, b = (np.median(rng.choice(times, (RESAMPLED, len(times))), axis=1) for times in (before, now))
    low, high = np.percentile(b / a, ((100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2))
    return {"ratio": _rounded(np.median(now) / np.median(before)), "low": _rounded(low), "high": _rounded(high)}


def read(path: Path) -> TimesResult | InstructionsResult:
    """What ``mfs bench --json`` printed of this machine or an emulated one.  Raises UsageError."""
    try:
        found = parse(path.read_text("utf-8"))
        kind: Any = InstructionsResult if isinstance(found, dict) and "cpu" in found else TimesResult
        problem = schema_error(found, kind, "the result")
        if problem is None and found["schema"] != SCHEMA:
            problem = f"schema {found['schema']}"
        if problem is not None:
            raise ValueError(problem)
        for entry in found["artifacts"].values():
            values = entry["times_ms"] if "times_ms" in entry else [entry["instructions"].get(count.TOTAL, 0)]
            if not values or not all(value > 0 for value in values):
                raise ValueError("an artifact without figures")
    except (OSError, ValueError, RecursionError) as exc:
        raise UsageError(
            f"{path} is not what mfs bench --json prints ({exc})", hint="make it with: mfs bench BUNDLE --json > FILE"
        ) from exc
    return cast("TimesResult | InstructionsResult", found)
