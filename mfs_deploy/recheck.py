"""An existing bundle against its own reference tensors; needs neither the checkpoint nor PyTorch's network."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mfs_deploy import contents, manifest, parity, reference_file
from mfs_deploy.architecture import INTERFACES
from mfs_deploy.backends import workers
from mfs_deploy.backends.all import BACKENDS
from mfs_deploy.backends.worker import Job
from mfs_deploy.contract import Contract
from mfs_deploy.errors import BundleError, UsageError
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.quant import ranges_file
from mfs_deploy.quant import recipe as recipes


def recheck(folder: Path, progress: Progress = SILENT) -> dict[str, Any]:
    """Verify checksums, open every artifact and compare it with the reference tensors.

    Returns:
        the manifest, with the parity just measured in place of the recorded one (no identity cosine: no encoder is at hand).

    Raises:
        BundleError: the bundle is damaged.
        ParityError: an artifact is outside its recipe's tolerance.
    """
    said = manifest.read(folder)
    progress.start(1 + len(said["artifacts"]))
    progress.step("verify checksums")
    contract = verify(folder, said)
    if not said["reference"]:
        raise BundleError(
            f"{folder} holds no reference tensors: its parity was not measured when it was made",
            hint="mfs export measures parity; mfs stamp and mfs batch do not",
        )
    cases, reference = reference_file.read(folder / reference_file.NAME, contract, INTERFACES[contract.arch].paste_back)
    jobs = [
        Job.of_artifact(folder, name, contract.arch, contract.size, {"name": entry["recipe"], **said["recipes"][entry["recipe"]]})
        for name, entry in said["artifacts"].items()
    ]
    with workers.scratch() as scratch:
        done = workers.run(jobs, parity.inputs(cases), scratch, on_done=lambda job: progress.step(job.backend))
    judgement = parity.judge(contents.outputs(done), cases, reference, contents.recipes_of(done), encode=None)
    if judgement.complaints:
        raise judgement.error(hint="export the bundle again, and compare tool versions")
    for one in done:
        said["artifacts"][one.job.backend]["parity"] = contents.parity_entry(one, judgement.measured[one.job.backend])
    return said


def verify(folder: Path, said: dict[str, Any]) -> Contract:
    """That a bundle is what its manifest says, and its manifest what this version would write.

    Returns:
        the contract of its artifacts.

    Raises:
        BundleError: a file is missing, changed or unaccounted for, or an entry that apps rely on is not as it should be.
    """
    problems = manifest.verify(folder, said)
    artifacts, arch, size = said["artifacts"], said["architecture"], said["contract"]["size"]
    if not artifacts or not set(artifacts) <= set(BACKENDS):
        problems.append(f"artifacts are {sorted(artifacts)}; at least one is needed, of {', '.join(BACKENDS)}")
    if arch not in INTERFACES or size not in INTERFACES[arch].sizes:
        problems.append(f"{arch!r} at {size} is not known")
    for name, table in said["recipes"].items():
        try:
            recipe = recipes.from_table(name, table)
            if name in recipes.names() and recipe != recipes.load(name):
                problems.append(f"recipe {name!r} is not what this version means by it")
        except UsageError as exc:
            problems.append(exc.message)
    if {artifact["recipe"] for artifact in artifacts.values()} != set(said["recipes"]):
        problems.append("the artifacts' recipes are not those that the manifest explains")
    if problems:
        raise damaged(folder, problems)
    known = INTERFACES[arch]
    contract = known.contract(size)
    files = {reference_file.NAME, contents.PREVIEW, ranges_file.NAME, *(name for a in artifacts for name in BACKENDS[a].FILES)}
    problems += [f"{name!r} belongs to no artifact" for name in said["files"] if name.split("/")[0] not in files]
    expected = {
        "contract": contract.as_dict(),
        "alignment": asdict(known.alignment),
        "paste_back": asdict(known.paste_back),
        "synthetic_media": manifest.DISCLOSURE,
    }
    for name, value in expected.items():
        if said[name] != json.loads(json.dumps(value)):
            problems.append(f"the manifest's {name} is not what this version writes")
    if problems:
        raise damaged(folder, problems)
    return contract


def damaged(folder: Path, problems: list[str]) -> BundleError:
    rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return BundleError(f"{folder}: {problems[0]}{rest}", hint="copy or export the bundle again")
