"""Parity of some of a batch's bundles, measured where PyTorch and the runtimes are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mfs_deploy import architectures
from mfs_deploy.backends import launch as workers
from mfs_deploy.backends.worker import Job
from mfs_deploy.batch import run as batch
from mfs_deploy.batch import stores
from mfs_deploy.batch.people import Row
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
class Measured:
    """One person: the worst of their artifacts' PSNR to PyTorch, and what is outside the recipe's gate."""

    id: str
    psnr_db: float
    complaints: tuple[str, ...]


def spread(rows: Sequence[Row], count: int) -> list[Row]:
    """``count`` of the rows, as far apart as can be."""
    step = max(1, len(rows) // max(1, count))
    return list(rows[::step][:count])


def measure(request: batch.Request, rows: Sequence[Row]) -> Iterator[Measured]:
    """Bake each person again, run PyTorch on the sample portrait, and hold every artifact of their bundle against it.

    Raises:
        ParityError: a bundle is not of the person that the row names.
    """
    import torch

    store = stores.at(request.out)
    kit = kits.load(request.kit)
    templates = person.choose(kit, request.targets, request.recipe)
    detector = None if request.detector is None else open_detector(request.detector)
    arch = architectures.get(kit.common["architecture"])
    known = kit.interface
    face = find.align_face(portrait.read_portrait(), templates[0].size, find.Where(portrait.LANDMARKS), None, known.alignment)
    cases = [parity.Case("target", face.crop, face.photo, face.back, face.landmarks, paste=known.paste_back)]
    targets = parity.inputs(cases)
    for row in rows:
        found = batch.read_person(row, kit, detector)
        (weights,) = kit.bake([found if isinstance(found, IdentityArrays) else kit.encode([found])[0]])
        with store.reading(row.id) as folder, workers.scratch() as scratch:
            if manifest.read(folder)["weights"]["sha256"] != weights.digest:
                raise ParityError(
                    f"the bundle of {row.id} was made of other weights than the row gives now", hint="run mfs batch again"
                )
            net = arch.load({key: torch.from_numpy(value.copy()) for key, value in weights.baked.items()})
            jobs = [Job.of_artifact(folder, t.backend, t.arch, t.size, t.recipe) for t in templates]
            done = workers.run(jobs, targets, scratch)
            reference = run_pytorch(net, targets)
            judged = parity.judge(outcome.outputs_of(done), cases, reference, outcome.recipes_of(done), None)
        worst = min((measured[0].swapped_psnr_db for measured in judged.measured.values()), default=float("nan"))
        yield Measured(row.id, worst, tuple(judged.complaints))
