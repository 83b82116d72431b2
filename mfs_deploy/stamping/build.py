"""Templates made by the real converters, proven before they are used, and kept for the next person.

Three random people are converted.  In the files of the first the weights are found; stamped with the weights of the other two, they
must equal, byte for byte, what the converter made of those.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import mfs_deploy
from mfs_deploy.backends import launch as workers
from mfs_deploy.backends.job import Job
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import provenance
from mfs_deploy.errors import ConversionError, MfsError
from mfs_deploy.files import cache_folder, write
from mfs_deploy.graph import simplify
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.quant.recipe import Range
from mfs_deploy.quant.scales import fit
from mfs_deploy.stamping import encodings as forms
from mfs_deploy.stamping import locate as find
from mfs_deploy.stamping import template_file as store
from mfs_deploy.stamping.template import (
    NOBODY,
    Template,
    Weights,
    stamp,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mfs_deploy.architectures.base import Architecture

PEOPLE = 3  # the probe, and two to prove it by
SEED = 20220222
SUFFIX = ".safetensors"

Jobs = Callable[[str], list[Job]]  # hash of a person's weights to what is to be converted


def get(
    jobs: Jobs, arch: Architecture, generator: nn.Module, progress: Progress = SILENT
) -> tuple[dict[tuple[str, str], Template], dict[tuple[str, str], str]]:
    """Templates by backend and recipe: those of earlier runs, and the others built and kept.

    Returns:
        templates, and for those that cannot be had the reason.
    """
    found: dict[tuple[str, str], Template] = {}
    for job in jobs(NOBODY):
        if (kept := _kept(job)) is not None:
            found[job.key] = kept

    def missing(digest: str) -> list[Job]:
        return [job for job in jobs(digest) if job.key not in found]

    if not missing(NOBODY):
        return found, {}
    progress.note(f"build {len(missing(NOBODY))} templates, once: each converter runs {PEOPLE} times")
    try:
        built, reasons = build(missing, arch, generator, progress)
    except ConversionError as exc:  # of random people; a real person's own conversion may do without what failed here
        return found, {job.key: exc.message for job in missing(NOBODY)}
    for job in missing(NOBODY):
        if job.key in built:
            _keep(job, built[job.key])
    return found | built, reasons


def build(
    jobs: Jobs, arch: Architecture, generator: nn.Module, progress: Progress = SILENT
) -> tuple[dict[tuple[str, str], Template], dict[tuple[str, str], str]]:
    """Run the converters and prove what comes out.

    Returns:
        templates that hold, and for the others what does not.

    Raises:
        ConversionError: a converter failed, or the generator's weights are not found in the simplified network.
        MfsError: as a converter's.
    """
    rng = np.random.default_rng(SEED)
    people = [arch.bake(generator, arch.random_identity(rng)) for _ in range(PEOPLE)]
    people[0] = _random_signs(people[0], people[1], rng)
    simplified = [{name: p.detach().numpy() for name, p in simplify(arch.load(baked)).named_parameters()} for baked in people]
    weights = [Weights(arrays(baked), provenance.weights_sha256(baked)) for baked in people]
    factors = find.sources(weights[0].baked, simplified[0], weights[1].baked, simplified[1])
    todo = [jobs(person.digest) for person in weights]
    target = np.zeros((1, *arch.INTERFACE.contract(todo[0][0].size).input.shape[1:]), np.float32)
    with workers.scratch() as scratch:
        made = workers.convert_people(
            todo, people, target, scratch, on_done=lambda job: progress.note(f"{job.backend} converted {PEOPLE} times")
        )
        files = [{one.job.key: read(one.folder / "out") for one in theirs} for theirs in made]
    built, reasons = {}, {}
    for one in made[0]:
        name = one.job.key
        try:
            template = Template(
                backend=one.job.backend,
                arch=one.job.arch,
                size=one.job.size,
                recipe=one.job.recipe,
                files=files[0][name],
                slots=find.slots(
                    files[0][name], weights[0].baked, factors, weights[0].digest, _steps(one.job), forms.of_backend(one.job.backend)
                ),
                info=one.result.info,
                versions=provenance.versions(BACKENDS[one.job.backend].PACKAGES),
            )
            for person, theirs in zip(weights[1:], files[1:], strict=True):
                prove(template, person, theirs[name])
            built[name] = template
        except ConversionError as exc:
            reasons[name] = exc.message
    return built, reasons


def _random_signs(baked: Mapping[str, Tensor], other: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
    """Weights that differ between two people, with the signs thrown.

    As 8-bit integers, weights of one number a channel are signs alone, and those of real people are mostly plus: nobody could tell
    one such tensor from another.  People on whom a template is proven keep theirs.
    """
    return {
        key: tensor if tensor.equal(other[key]) else tensor * tensor.new_tensor(rng.choice((-1.0, 1.0), tuple(tensor.shape)))
        for key, tensor in baked.items()
    }


def prove(template: Template, weights: Weights, converted: Mapping[str, bytes]) -> None:
    """That stamping gives what the converter gave.

    Raises:
        ConversionError: a byte differs; names the tensor.
    """
    stamped = stamp(template, weights)
    if set(stamped) != set(converted):
        raise ConversionError(f"{template.backend}: other files come out for another person")
    for name, content in converted.items():
        if len(content) != len(stamped[name]):
            raise ConversionError(f"{name} has {len(content)} bytes for another person, not {len(stamped[name])}")
        a, b = (np.frombuffer(data, np.uint8) for data in (bytes(stamped[name]), content))
        if len(different := np.flatnonzero(a != b)):
            at = int(different[0])
            slots = [s.weights for s in template.slots if s.file == name and s.offset <= at < s.offset + s.length]
            where = slots[0] if slots else "outside every known tensor"
            raise ConversionError(f"{name}: {len(different)} bytes differ from the converter's, the first at {at}: {where}")


def arrays(baked: Mapping[str, Tensor]) -> dict[str, Any]:
    return {key: tensor.numpy() for key, tensor in baked.items()}


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _steps(job: Job) -> Iterable[float]:
    """Scales that inputs may have, and with them the steps of biases."""
    return [fit("int8", Range(*pair)).step for pair in job.ranges.values()] + [
        fit("int16", Range(*pair)).step for pair in job.ranges.values()
    ]


# ---- what was built before


def _place(job: Job) -> Path:
    """By everything that the bytes depend on: job, converter versions, ours."""
    facts = {
        "job": asdict(job),
        "versions": provenance.versions(BACKENDS[job.backend].PACKAGES),
        "tool": mfs_deploy.__version__,
        "format": store.VERSION,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return cache_folder("templates") / f"{job.backend}-{job.recipe_name[:40]}-{key[:32]}{SUFFIX}"


def _kept(job: Job) -> Template | None:
    try:
        (template,), _, _ = store.unpack(_place(job))
    except (MfsError, ValueError):
        return None  # missing, or damaged: built anew
    return replace(template, recipe=job.recipe)


def _keep(job: Job, template: Template) -> None:
    with contextlib.suppress(OSError):
        write(_place(job), store.pack([template], {}, {}))
