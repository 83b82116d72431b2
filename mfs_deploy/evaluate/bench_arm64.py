"""Instructions that a bundle's artifacts execute on an emulated arm64 processor, per frame and per layer."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from mfs_deploy.backends import launch
from mfs_deploy.backends.job import Job
from mfs_deploy.bundle.manifest_types import Manifest
from mfs_deploy.devices.arm64 import count
from mfs_deploy.devices.arm64 import machine as arm64
from mfs_deploy.evaluate import parity
from mfs_deploy.evaluate.bench import open_artifacts, result_head
from mfs_deploy.evaluate.result_types import CountedEntry, InstructionsResult
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.quant import recipes

LANES = {"float32": 4, "float16": 8, "int8": 16, "int16": 8}  # multiply-adds of one 128-bit instruction


def on_arm64(folder: Path, cpu: str, *, by_layer: bool, progress: Progress = SILENT) -> InstructionsResult:
    """Count the instructions of a frame of every artifact that an emulated processor runs, and by layer if asked.

    Raises:
        NotSetUp: there is no emulated machine, or no counter in it.
        BundleError: as ``bench.on_host``.
    """
    entries, cases, jobs = open_artifacts(folder, lambda name: name in arm64.RUNTIMES)
    arm64.machine(cpu, counts=Path(os.devnull))  # raises NotSetUp before any work
    progress.start(len(jobs) * (1 + by_layer))
    macs = _macs(entries)
    found: dict[str, CountedEntry] = {}
    with launch.scratch() as scratch:
        for name, job in jobs.items():
            target = parity.inputs(cases[:1])
            counts, place = scratch / f"{name}.counts", scratch / "frame"
            launch.run([replace(job, count=count.FRAMES)], target, place, machine=arm64.machine(cpu, counts=counts))
            frame = count.frame(counts)
            found[name] = {"recipe": job.recipe_name, "instructions": frame, "bound": macs // _lanes(job, cpu)}
            progress.step(f"{name}: {frame[count.TOTAL] / 1e6:.1f} M instructions")
            if by_layer:
                counts, place = scratch / f"{name}.layers", scratch / "layers"
                (done,) = launch.run([replace(job, count_layers=True)], target, place, machine=arm64.machine(cpu, counts=counts))
                found[name]["layers"] = count.layers(counts, done)
                progress.step(f"{name}, by layer")
    head = result_head(entries, list(jobs))
    return {**head, "cpu": cpu, "multiply_adds": macs, "artifacts": found}  # type: ignore[typeddict-item]  # head has no more


def _macs(entries: Manifest) -> int:
    """Multiply-adds of the simplified network, before any backend."""
    from mfs_deploy import architectures
    from mfs_deploy.graph import simplify
    from mfs_deploy.graph.cost import cost

    return cost(simplify(architectures.get(entries["architecture"]).blank()), entries["contract"]["size"]).macs


def _lanes(job: Job, cpu: str) -> int:
    """Multiply-adds per instruction in the recipe's default arithmetic; in float32 if the processor has no float16."""
    wanted = recipes.from_dict(job.recipe).default.activations
    return LANES["float32"] if "asimdhp" not in arm64.CPUS[cpu].features else LANES[wanted]
