"""An existing bundle against its own reference tensors; needs neither the checkpoint nor PyTorch's network."""

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
from mfs_deploy.evaluate import agreement as consensus
from mfs_deploy.evaluate import layerwise, outcome, parity
from mfs_deploy.evaluate.reference import read_reference
from mfs_deploy.evaluate.result_types import Agreement
from mfs_deploy.evaluate.verify import verify_bundle
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.quant import recipes


@dataclass(frozen=True)
class Rechecked:
    """What was measured just now.

    Attributes:
        manifest: the bundle's, its parity that of this machine now (no identity cosine: no encoder is at hand).
        elsewhere: parity on another machine, by artifact; empty where none was asked for.
        agreement: see ``consensus.matrix``.  It includes the runtimes of ``registry.OPINIONS``, which are not judged:
            apps do not use them.
    """

    manifest: Manifest
    elsewhere: dict[str, ParityEntry]
    agreement: Agreement


class Elsewhere(Protocol):
    """Another machine that runs artifacts on a bundle's reference crops."""

    @property
    def name(self) -> str: ...

    @property
    def runs(self) -> Collection[str]:
        """Backends whose artifacts it can be given."""

    def run(self, jobs: Sequence[Job], targets: NDArray[np.float32], folder: Path, on_done: launch.OnDone) -> list[JobResult]:
        """Answers in the order of ``jobs``, without those of artifacts that turned out not to run there."""


@dataclass(frozen=True)
class Emulated:
    """A machine that launch are started on."""

    machine: Machine
    runs: Collection[str]

    @property
    def name(self) -> str:
        return self.machine.name

    def run(self, jobs: Sequence[Job], targets: NDArray[np.float32], folder: Path, on_done: launch.OnDone) -> list[JobResult]:
        return launch.run(jobs, targets, folder, on_done=on_done, machine=self.machine)


HERE = Emulated(LOCAL, BACKENDS)


def recheck(folder: Path, progress: Progress = SILENT, other: Elsewhere | None = None) -> Rechecked:
    """Verify checksums, open every artifact and compare it with the reference tensors.

    Args:
        other: a machine to run artifacts on as well.

    Raises:
        BundleError: the bundle is damaged.
        ParityError: an artifact is outside its recipe's tolerance; names the layer that departs first, where that can be seen.
    """
    said = manifest.read(folder)
    there = [name for name in said["artifacts"] if other is not None and name in other.runs]
    opinions = second_opinions(said["artifacts"])
    progress.start(1 + len(said["artifacts"]) + len(opinions) + len(there))
    progress.step("verify checksums")
    contract = verify_bundle(folder, said)
    if not said["reference"]:
        raise BundleError(
            f"{folder} holds no reference tensors: its parity was not measured when it was made",
            hint="mfs export measures parity; mfs stamp and mfs batch do not",
        )
    if other is not None and not there:
        raise UsageError(f"{folder} holds no artifact that runs on {other.name}", hint=f"it can run: {', '.join(other.runs)}")
    cases, reference = read_reference(folder, contract)
    jobs = jobs_of(folder, said, contract)
    targets = parity.inputs(cases)
    ran: dict[str, tuple[JobResult, Elsewhere]] = {}
    with launch.scratch() as scratch:
        for where, names in ((HERE, list(jobs)), *((where, list(where.runs)) for where in opinions), (other, there)):
            if where is not None and names:
                done = where.run(
                    [jobs[name] for name in names],
                    targets,
                    scratch / str(len(ran)),
                    lambda job, where=where: progress.step(f"{job.backend} on {where.name}"),  # type: ignore[misc]
                )
                ran |= {label(one.job.backend, where): (one, where) for one in done}
        outputs = {name: parity.Outputs.of(one.outputs, pixels=one.result.pixels) for name, (one, _) in ran.items()}
        judged = {name: output for name, output in outputs.items() if ran[name][1] not in opinions}
        recipe_of = {name: recipes.from_dict(ran[name][0].job.recipe) for name in judged}
        judgement = parity.judge(judged, cases, reference, recipe_of, encode=None)
        if judgement.complaints:
            found = departures({name: ran[name] for name in judgement.failed}, targets, scratch)
            raise judgement.error(hint="; ".join((*found, "export the bundle again, and compare tool versions")))
    entries = {name: outcome.parity_entry(ran[name][0], judgement.measured[name]) for name in judged}
    for name in jobs:
        said["artifacts"][name]["parity"] = entries[label(name, HERE)]
    elsewhere = {name: entries[label(name, other)] for name in there if other is not None and label(name, other) in entries}
    return Rechecked(said, elsewhere, consensus.matrix(reference, outputs))


def second_opinions(artifacts: Collection[str]) -> list[Emulated]:
    """Other runtimes that are installed here, each with the artifact that it can run."""
    machines = {name: OPINIONS[name]() for name in artifacts if name in OPINIONS}
    return [Emulated(machine, (name,)) for name, machine in machines.items() if machine is not None]


def jobs_of(folder: Path, said: Manifest, contract: Contract) -> dict[str, Job]:
    """By artifact, a job that runs it as it is."""
    found = {}
    for name, entry in said["artifacts"].items():
        recipe = {"name": entry["recipe"], **said["recipes"][entry["recipe"]]}
        found[name] = Job.of_artifact(folder, name, contract.arch, contract.size, recipe)
    return found


def label(backend: str, where: Elsewhere) -> str:
    return backend if where is HERE else f"{backend} on {where.name}"


def departures(failed: Mapping[str, tuple[JobResult, Elsewhere]], targets: NDArray[np.float32], scratch: Path) -> list[str]:
    """For each failed artifact, the layer at which it departs from PyTorch, in words; not where only the whole network runs."""
    found = []
    for name, (one, where) in failed.items():
        if one.job.backend not in LAYERED or not isinstance(where, Emulated):
            continue
        try:
            (shown,) = where.run([replace(one.job, layers=True)], targets[:1], scratch / f"layers of {name}", lambda job: None)
            weights = LAYERED[one.job.backend].weights(Path(one.job.artifact))
            with np.load(shown.folder / LAYERS) as arrays:
                layers = layerwise.compare(one.job.arch, weights, dict(arrays), targets[:1])
        except MfsError as exc:  # the artifact may be damaged beyond that; its failure is told already
            found.append(f"{name} cannot be compared layer by layer: {exc.message}")
            continue
        first = layerwise.first_departure(layers, layerwise.rounding(recipes.from_dict(one.job.recipe)))
        found.append(f"{name}: " + (f"the first layer that departs is {first}" if first else "no single layer departs"))
    return found
