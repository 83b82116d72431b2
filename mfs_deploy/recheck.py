"""An existing bundle against its own reference tensors; needs neither the checkpoint nor PyTorch's network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mfs_deploy import contents, manifest, parity
from mfs_deploy.backends import workers
from mfs_deploy.backends.all import BACKENDS
from mfs_deploy.backends.worker import Job
from mfs_deploy.errors import BundleError
from mfs_deploy.progress import SILENT, Progress


def recheck(folder: Path, progress: Progress = SILENT) -> dict[str, Any]:
    """Verify checksums, open every artifact and compare it with the reference tensors.

    Returns:
        the manifest, with the parity just measured in place of the recorded one (no identity cosine: no encoder is at hand).

    Raises:
        BundleError: the bundle is damaged.
        ParityError: an artifact is outside its recipe's tolerance.
    """
    said = manifest.read(folder)
    backends = list(said["artifacts"])
    progress.start(1 + len(backends))
    progress.step("verify checksums")
    verify(folder, said)
    cases, reference = contents.read_reference(folder / contents.REFERENCE)
    jobs = [
        Job(
            backend=name,
            arch=said["architecture"],
            size=said["contract"]["size"],
            recipe=said["recipe"]["name"],
            convert=False,
            artifact=str((folder / BACKENDS[name].FILES[0]).resolve()),
        )
        for name in backends
    ]
    with workers.scratch() as scratch:
        done = workers.run(jobs, parity.inputs(cases), scratch, on_done=lambda job: progress.step(job.backend))
    recipe = said["recipe"]["name"]
    judgement = parity.judge(contents.outputs(done), cases, reference, recipe, encode=None)
    if judgement.complaints:
        raise judgement.error(recipe, hint="export the bundle again, and compare tool versions")
    for one in done:
        said["artifacts"][one.job.backend]["parity"] = contents.parity_entry(one, judgement.measured[one.job.backend])
    return said


def verify(folder: Path, said: dict[str, Any]) -> None:
    problems = manifest.verify(folder, said)
    if problems:
        rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise BundleError(f"{folder}: {problems[0]}{rest}", hint="copy or export the bundle again")
