"""Parity of a sample of a batch's bundles.  Needs PyTorch and the runtimes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mfs_deploy import architectures
from mfs_deploy.backends import launch
from mfs_deploy.backends.job import Job
from mfs_deploy.batch import stores
from mfs_deploy.batch.chunk import BatchRequest, read_person
from mfs_deploy.batch.people import PersonEntry
from mfs_deploy.bundle import manifest
from mfs_deploy.checkpoint.identity_file import IdentityArrays
from mfs_deploy.errors import ParityError
from mfs_deploy.evaluate import outcome, parity
from mfs_deploy.evaluate.reference import run_pytorch
from mfs_deploy.faces import find, portrait
from mfs_deploy.faces.detectors import open_detector
from mfs_deploy.stamping import kit as kits
from mfs_deploy.stamping import person


@dataclass(frozen=True)
class PersonParity:
    """One person: the lowest PSNR to PyTorch among their artifacts, and what is outside the recipe's tolerances."""

    id: str
    psnr_db: float
    complaints: tuple[str, ...]


def spread(entries: Sequence[PersonEntry], count: int) -> list[PersonEntry]:
    """``count`` of the entries, evenly spread."""
    step = max(1, len(entries) // max(1, count))
    return list(entries[::step][:count])


def measure(request: BatchRequest, entries: Sequence[PersonEntry]) -> Iterator[PersonParity]:
    """Bake each person again, run PyTorch on the portrait, and compare every artifact of their bundle with it.

    Raises:
        ParityError: a bundle has other weights than its entry gives.
    """
    import torch

    store = stores.open_store(request.out)
    kit = kits.load(request.kit)
    templates = person.choose(kit, request.backends, request.recipe)
    detector = None if request.detector is None else open_detector(request.detector)
    arch = architectures.get(kit.common["architecture"])
    interface = kit.interface
    face = find.align_face(
        portrait.read_portrait(), templates[0].size, find.FaceLocation(portrait.LANDMARKS), None, interface.alignment
    )
    cases = [parity.Case("target", face.crop, face.photo, face.back, face.landmarks, paste=interface.paste_back)]
    targets = parity.inputs(cases)
    for entry in entries:
        found = read_person(entry, kit, detector)
        (weights,) = kit.bake([found if isinstance(found, IdentityArrays) else kit.embed([found])[0]])
        with store.fetched(entry.id) as folder, launch.scratch() as scratch:
            if manifest.read(folder)["weights"]["sha256"] != weights.digest:
                raise ParityError(
                    f"the bundle of {entry.id} has other weights than its entry gives now", hint="run mfs batch again"
                )
            net = arch.load({key: torch.from_numpy(value.copy()) for key, value in weights.baked.items()})
            jobs = [Job.of_artifact(folder, t.backend, t.arch, t.size, t.recipe) for t in templates]
            done = launch.run(jobs, targets, scratch)
            reference = run_pytorch(net, targets)
            report = parity.judge(outcome.outputs_of(done), cases, reference, outcome.recipes_of(done), None)
        worst = min((measured[0].swapped_psnr_db for measured in report.measured.values()), default=float("nan"))
        yield PersonParity(entry.id, worst, tuple(report.violations))
