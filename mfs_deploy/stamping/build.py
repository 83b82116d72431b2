"""Builds templates with the real converters, proves them, and caches them for the next person.

Three random people are converted.  The weights are located in the files of the first.  Stamped with the weights of the other two,
these files must equal, byte for byte, what the converter wrote for those.
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
from mfs_deploy.backends import launch
from mfs_deploy.backends.job import Job
from mfs_deploy.backends.launch import JobResult
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import provenance
from mfs_deploy.errors import ConversionError, MfsError
from mfs_deploy.files import cache_folder, write
from mfs_deploy.graph import simplify
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.quant.recipes import Range
from mfs_deploy.quant.scales import scale_of_range
from mfs_deploy.stamping import encodings, locate, template_file
from mfs_deploy.stamping.template import (
    NO_WEIGHTS_SHA256,
    PersonWeights,
    Template,
    stamp,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mfs_deploy.architectures.base import Architecture

PROBE_PEOPLE = 3  # the probe, and two to prove it by
SEED = 20220222
SUFFIX = ".safetensors"

Jobs = Callable[[str], list[Job]]  # hash of a person's weights to what is to be converted


def get(
    jobs: Jobs, arch: Architecture, generator: nn.Module, progress: Progress = SILENT
) -> tuple[dict[tuple[str, str], Template], dict[tuple[str, str], str]]:
    """Templates by backend and recipe: cached ones, and the others built and cached.

    Returns:
        templates, and the reasons why others cannot be built.
    """
    found: dict[tuple[str, str], Template] = {}
    for job in jobs(NO_WEIGHTS_SHA256):
        if (cached := _cached(job)) is not None:
            found[job.key] = cached

    def missing(digest: str) -> list[Job]:
        return [job for job in jobs(digest) if job.key not in found]

    if not missing(NO_WEIGHTS_SHA256):
        return found, {}
    progress.note(f"build {len(missing(NO_WEIGHTS_SHA256))} templates, once: each converter runs {PROBE_PEOPLE} times")
    try:
        built, reasons = build(missing, arch, generator, progress)
    except ConversionError as exc:  # for random people; a real person's conversion may still succeed
        return found, {job.key: exc.message for job in missing(NO_WEIGHTS_SHA256)}
    for job in missing(NO_WEIGHTS_SHA256):
        if job.key in built:
            _cache(job, built[job.key])
    return found | built, reasons


def build(
    jobs: Jobs, arch: Architecture, generator: nn.Module, progress: Progress = SILENT
) -> tuple[dict[tuple[str, str], Template], dict[tuple[str, str], str]]:
    """Run the converters and prove the templates.

    Returns:
        proven templates, and the reasons why others failed.

    Raises:
        ConversionError: a converter failed, or the generator's weights are not found in the simplified network.
        MfsError: what a converter raises.
    """
    rng = np.random.default_rng(SEED)
    people = [arch.bake(generator, arch.random_identity(rng)) for _ in range(PROBE_PEOPLE)]
    people[0] = _random_signs(people[0], people[1], rng)
    simplified = [{name: p.detach().numpy() for name, p in simplify(arch.load(baked)).named_parameters()} for baked in people]
    weights = [PersonWeights(arrays(baked), provenance.weights_sha256(baked)) for baked in people]
    factors = locate.factors(weights[0].baked, simplified[0], weights[1].baked, simplified[1])
    todo = [jobs(person.digest) for person in weights]
    target = np.zeros((1, *arch.INTERFACE.contract(todo[0][0].size).input.shape[1:]), np.float32)
    with launch.scratch() as scratch:
        converted = launch.convert_people(
            todo, people, target, scratch, on_done=lambda job: progress.note(f"{job.backend} converted {PROBE_PEOPLE} times")
        )
        files = [{result.job.key: read(result.folder / "out") for result in results} for results in converted]
    built, reasons = {}, {}
    for result in converted[0]:
        key = result.job.key
        try:
            template = _template(result, files[0][key], weights[0], factors)
            for person, files_of_person in zip(weights[1:], files[1:], strict=True):
                prove(template, person, files_of_person[key])
            built[key] = template
        except ConversionError as exc:
            reasons[key] = exc.message
    return built, reasons


def _template(result: JobResult, files: Mapping[str, bytes], person: PersonWeights, factors: Mapping[str, float]) -> Template:
    """Raises ConversionError where a person's weights are not found in the converted files, or in several places."""
    job = result.job
    return Template(
        backend=job.backend,
        arch=job.arch,
        size=job.size,
        recipe=job.recipe,
        files=files,
        places=locate.places(files, person.baked, factors, person.digest, _steps(job), encodings.of_backend(job.backend)),
        info=result.result.info,
        versions=provenance.versions(BACKENDS[job.backend].PACKAGES),
    )


def _random_signs(baked: Mapping[str, Tensor], other: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
    """Weights that differ between two people, with random signs.

    As 8-bit integers, weights with one number a channel are only signs, and real people's are mostly positive, so such tensors
    would be equal.  The people that prove a template keep their signs.
    """
    return {
        key: tensor if tensor.equal(other[key]) else tensor * tensor.new_tensor(rng.choice((-1.0, 1.0), tuple(tensor.shape)))
        for key, tensor in baked.items()
    }


def prove(template: Template, weights: PersonWeights, converted: Mapping[str, bytes]) -> None:
    """Check that stamping gives the converter's bytes.

    Raises:
        ConversionError: a byte differs; the message names the tensor.
    """
    stamped = stamp(template, weights)
    if set(stamped) != set(converted):
        raise ConversionError(f"{template.backend}: another person gives other files")
    for name, content in converted.items():
        if len(content) != len(stamped[name]):
            raise ConversionError(f"{name} has {len(content)} bytes for another person, not {len(stamped[name])}")
        a, b = (np.frombuffer(data, np.uint8) for data in (bytes(stamped[name]), content))
        if len(different := np.flatnonzero(a != b)):
            at = int(different[0])
            tensors = [s.weights for s in template.places if s.file == name and s.offset <= at < s.offset + s.length]
            where = tensors[0] if tensors else "outside every known tensor"
            raise ConversionError(f"{name}: {len(different)} bytes differ from the converter's, the first at {at}: {where}")


def arrays(baked: Mapping[str, Tensor]) -> dict[str, Any]:
    return {key: tensor.numpy() for key, tensor in baked.items()}


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _steps(job: Job) -> Iterable[float]:
    """Steps that inputs may have; a bias's steps are multiples of one."""
    return [scale_of_range("int8", Range(*pair)).step for pair in job.ranges.values()] + [
        scale_of_range("int16", Range(*pair)).step for pair in job.ranges.values()
    ]


# ---- cache


def cache_path(job: Job) -> Path:
    """Named by a hash of everything that the bytes depend on: the job, the converter's versions, ours."""
    facts = {
        "job": asdict(job),
        "versions": provenance.versions(BACKENDS[job.backend].PACKAGES),
        "tool": mfs_deploy.__version__,
        "format": template_file.VERSION,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return cache_folder("templates") / f"{job.backend}-{job.recipe_name[:40]}-{key[:32]}{SUFFIX}"


def _cached(job: Job) -> Template | None:
    try:
        (template,), _, _ = template_file.unpack(cache_path(job))
    except (MfsError, ValueError):
        return None  # missing or damaged: build it
    return replace(template, recipe=job.recipe)


def _cache(job: Job, template: Template) -> None:
    with contextlib.suppress(OSError):
        write(cache_path(job), template_file.pack([template], {}, {}))
