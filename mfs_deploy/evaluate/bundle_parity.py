"""Parity of a bundle's artifacts with its own reference tensors; needs neither the checkpoint nor PyTorch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.backends import launch
from mfs_deploy.backends.job import LAYERS, Job
from mfs_deploy.backends.launch import JobResult
from mfs_deploy.backends.machine import LOCAL, Machine
from mfs_deploy.backends.registry import BACKENDS, LAYERED, OPINIONS
from mfs_deploy.bundle import manifest
from mfs_deploy.bundle.manifest_types import Manifest, ParityEntry
from mfs_deploy.contract import Contract
from mfs_deploy.errors import BundleError, MfsError, UsageError
from mfs_deploy.evaluate import agreement, layerwise, outcome, parity
from mfs_deploy.evaluate.reference import read_reference
from mfs_deploy.evaluate.result_types import Agreement
from mfs_deploy.evaluate.verify import verify_bundle
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.quant import recipes


@dataclass(frozen=True)
class BundleParity:
    """Parity of a bundle, measured now.

    Attributes:
        manifest: the bundle's, with the parity of this machine (no identity cosine, since there is no encoder).
        on_other: parity on another machine, by artifact; empty without one.
        agreement: see ``agreement.pairwise_psnr``.  It includes the runtimes of ``registry.OPINIONS``, which are not judged, since
            apps do not use them.
    """

    manifest: Manifest
    on_other: dict[str, ParityEntry]
    agreement: Agreement


class ParityMachine(Protocol):
    """A machine that runs artifacts on a bundle's reference crops."""

    @property
    def name(self) -> str: ...

    @property
    def runs(self) -> Collection[str]:
        """Backends whose artifacts it can run."""

    def run(self, jobs: Sequence[Job], targets: NDArray[np.float32], folder: Path, on_done: launch.OnDone) -> list[JobResult]:
        """Run jobs on (N, 3, S, S) targets.  Results are in the order of ``jobs``, without artifacts that cannot run there."""


@dataclass(frozen=True)
class WorkerMachine:
    """A machine that workers are started on."""

    machine: Machine
    runs: Collection[str]

    @property
    def name(self) -> str:
        return self.machine.name

    def run(self, jobs: Sequence[Job], targets: NDArray[np.float32], folder: Path, on_done: launch.OnDone) -> list[JobResult]:
        return launch.run(jobs, targets, folder, on_done=on_done, machine=self.machine)


HERE = WorkerMachine(LOCAL, BACKENDS)


def check_bundle(folder: Path, progress: Progress = SILENT, other: ParityMachine | None = None) -> BundleParity:
    """Verify checksums, open every artifact and compare it with the reference tensors.

    Args:
        other: a machine to run artifacts on as well.

    Raises:
        BundleError: the bundle is damaged, or holds no reference tensors.
        UsageError: no artifact runs on the other machine.
        ParityError: an artifact is outside its recipe's tolerance; names the first bad layer, where layers are visible.
    """
    entries = manifest.read(folder)
    there = [name for name in entries["artifacts"] if other is not None and name in other.runs]
    opinions = second_opinions(entries["artifacts"])
    progress.start(1 + len(entries["artifacts"]) + len(opinions) + len(there))
    progress.step("verify checksums")
    contract = verify_bundle(folder, entries)
    if not entries["reference"]:
        raise BundleError(
            f"{folder} holds no reference tensors: its parity was not measured when it was made",
            hint="mfs export measures parity; mfs stamp and mfs batch do not",
        )
    if other is not None and not there:
        raise UsageError(f"{folder} holds no artifact that runs on {other.name}", hint=f"it can run: {', '.join(other.runs)}")
    cases, reference = read_reference(folder, contract)
    jobs = artifact_jobs(folder, entries, contract)
    crops = parity.inputs(cases)
    machines: list[tuple[ParityMachine, list[str]]] = [(HERE, list(jobs)), *((machine, list(machine.runs)) for machine in opinions)]
    if other is not None:
        machines.append((other, there))
    results: dict[str, tuple[JobResult, ParityMachine]] = {}
    with launch.scratch() as scratch:
        for machine, names in machines:
            done = machine.run(
                [jobs[name] for name in names],
                crops,
                scratch / str(len(results)),
                lambda job, machine=machine: progress.step(f"{job.backend} on {machine.name}"),  # type: ignore[misc]
            )
            results |= {result_name(result.job.backend, machine): (result, machine) for result in done}
        outputs = {name: parity.Outputs.of(result.outputs, pixels=result.result.pixels) for name, (result, _) in results.items()}
        judged = {name: output for name, output in outputs.items() if results[name][1] not in opinions}
        recipe_of = {name: recipes.from_dict(results[name][0].job.recipe) for name in judged}
        report = parity.judge(judged, cases, reference, recipe_of, encode=None)
        if report.violations:
            layers = first_bad_layers({name: results[name] for name in report.failed}, crops, scratch)
            raise report.error(hint="; ".join((*layers, "export the bundle again, and compare tool versions")))
    measured = {name: outcome.parity_entry(results[name][0], report.measured[name]) for name in judged}
    for name in jobs:
        entries["artifacts"][name]["parity"] = measured[result_name(name, HERE)]
    names_there = {name: result_name(name, other) for name in there if other is not None}
    on_other = {name: measured[result] for name, result in names_there.items() if result in measured}
    return BundleParity(entries, on_other, agreement.pairwise_psnr(reference, outputs))


def second_opinions(artifacts: Collection[str]) -> list[WorkerMachine]:
    """Other runtimes that are installed here, each with the artifact that it can run."""
    machines = {name: OPINIONS[name]() for name in artifacts if name in OPINIONS}
    return [WorkerMachine(machine, (name,)) for name, machine in machines.items() if machine is not None]


def artifact_jobs(folder: Path, entries: Manifest, contract: Contract) -> dict[str, Job]:
    """A job to run each artifact as it is, by backend."""
    jobs = {}
    for name, entry in entries["artifacts"].items():
        recipe = {"name": entry["recipe"], **entries["recipes"][entry["recipe"]]}
        jobs[name] = Job.of_artifact(folder, name, contract.arch, contract.size, recipe)
    return jobs


def result_name(backend: str, machine: ParityMachine) -> str:
    return backend if machine is HERE else f"{backend} on {machine.name}"


def first_bad_layers(failed: Mapping[str, tuple[JobResult, ParityMachine]], crops: NDArray[np.float32], scratch: Path) -> list[str]:
    """For each failed artifact whose layers are visible, a line that names the first layer with an error of its own."""
    lines = []
    for name, (result, machine) in failed.items():
        job = result.job
        if job.backend not in LAYERED or not isinstance(machine, WorkerMachine):
            continue
        try:
            (shown,) = machine.run([replace(job, layers=True)], crops[:1], scratch / f"layers of {name}", lambda job: None)
            weights = LAYERED[job.backend].weights(Path(job.artifact))
            with np.load(shown.folder / LAYERS) as arrays:
                layers = layerwise.compare(job.arch, weights, dict(arrays), crops[:1])
        except MfsError as exc:  # the artifact may be damaged; that it failed is reported anyway
            lines.append(f"{name} cannot be compared layer by layer: {exc.message}")
            continue
        first = layerwise.first_bad_layer(layers, layerwise.rounding(recipes.from_dict(job.recipe)))
        lines.append(f"{name}: " + (f"the first layer that departs is {first}" if first else "no single layer departs"))
    return lines
