"""The main job, start to end: a photo and a checkpoint in, a bundle that matches PyTorch out.  Read ``export`` first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfs_deploy import (
    architecture,
    bundle,
    choosing,
    contents,
    faces,
    images,
    manifest,
    metrics,
    parity,
    quantizing,
    reference_file,
    sample,
    templating,
)
from mfs_deploy.architecture import Architecture
from mfs_deploy.backends import workers
from mfs_deploy.backends.all import BACKENDS
from mfs_deploy.backends.worker import Job
from mfs_deploy.checkpoint import identity_file
from mfs_deploy.checkpoint import load as checkpoints
from mfs_deploy.contract import STAGE_MAX_ERROR
from mfs_deploy.detectors import Detector, open_detector
from mfs_deploy.errors import CheckpointError, ParityError, PhotoError, UsageError
from mfs_deploy.graph import simplify
from mfs_deploy.identity import Identity
from mfs_deploy.models.demo import example
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.quant import headroom, ranges_file
from mfs_deploy.quant import recipe as recipes
from mfs_deploy.quant.recipe import Recipe
from mfs_deploy.stamping.template import Weights, stamp

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

DEMO = "demo"  # as --checkpoint: weights trained on rendered people; as --source: one of them, never seen in training
PARITY_FRAME = 1024  # a larger target photo is shrunk to this for parity and for the reference tensors


@dataclass(frozen=True)
class Request:
    """What the user asked for.  Exactly one of ``source`` and ``identity``; ``DEMO`` may stand for a path."""

    checkpoint: str
    out: Path
    source: str | None = None
    source_where: faces.Where = faces.UNKNOWN
    identity: Path | None = None
    encoder: Path | None = None
    detector: Path | None = None
    target: Path | None = None
    target_where: faces.Where = faces.UNKNOWN
    targets: tuple[str, ...] = ("onnx", "tflite", "ncnn", "coreml")
    recipe: str = "fp16"
    size: int = 224
    arch: str = "mobilefaceswap"
    coreml_io: str = "image"
    tflite_io: str = "float32"
    calibration: quantizing.How = quantizing.NOTHING
    full_conversion: bool = False


@dataclass(frozen=True)
class Models:
    """A checkpoint opened: its networks in eval mode, a face detector if there is one, and where they came from."""

    arch: Architecture
    generator: nn.Module
    encoder: nn.Module | None
    detector: Detector | None
    files: tuple[checkpoints.SourceFile, ...]


@dataclass(frozen=True)
class Person:
    """An identity, and the aligned crop it was read from unless it came from a file."""

    identity: Identity
    crop: images.Image | None


@dataclass(frozen=True)
class Exported:
    """A published bundle and what its manifest says."""

    path: Path
    manifest: dict[str, Any]
    trials: Sequence[choosing.Trial] = ()


@dataclass(frozen=True, eq=False)
class Prepared:
    """A person's network before any converter, and what it gives."""

    models: Models
    person: Person
    cases: list[parity.Case]
    targets: parity.Array
    baked: Mapping[str, Tensor]
    net: nn.Module
    graph: fx.GraphModule
    reference: parity.Outputs


def export(request: Request, progress: Progress = SILENT) -> Exported:
    """Export one person's bundle.

    Raises:
        MfsError: of the kind of what went wrong; then there is no new bundle, and an old one is as it was.
    """
    check(request)
    wanted = wanted_artifacts(request)
    quantizing.check(request.calibration, wanted, request.tflite_io)
    is_static = any(recipe.is_static for _, recipe in wanted)
    progress.start(6 + is_static + len(wanted))
    with bundle.staging(request.out) as folder, workers.scratch() as scratch:
        ready = prepare(request, progress)
        stages = check_stages(ready)
        encode = encode_with(ready.models)

        progress.step("scan the float16 headroom")
        room = headroom.scan(ready.graph, ready.targets)
        calibrated = calibrate(request, ready, progress) if is_static else None

        progress.step(f"make {', '.join(request.targets)}")
        facts = make_facts(request, ready)
        done = make_artifacts(request, ready, make_jobs(request, wanted, room, facts, calibrated), scratch, progress)
        trials: Sequence[choosing.Trial] = ()
        if request.recipe == choosing.AUTO:
            done, trials = choosing.choose(done, ready.cases, ready.reference, encode, scratch, progress)
        judgement = parity.judge(contents.outputs(done), ready.cases, ready.reference, contents.recipes_of(done), encode)
        if judgement.complaints:
            contents.move_artifacts(done, folder)
            reference_file.write(folder / reference_file.NAME, ready.cases, ready.reference)
            kept = bundle.keep_rejected(folder, request.out, judgement.as_dict())
            raise judgement.error(hint=f"the artifacts are kept in {kept}; no bundle was written")

        progress.step("write the bundle")
        source = ready.person.crop
        contents.write(folder, facts, done, judgement.measured, room, stages, source, ready.cases, ready.reference, calibrated)
        bundle.publish(folder, request.out)
    progress.finish()
    return Exported(request.out, manifest.read(request.out), trials)


def wanted_artifacts(request: Request) -> list[tuple[str, Recipe]]:
    """Backend and recipe of each artifact to make.  Raises UsageError where a recipe does not exist."""
    if request.recipe == choosing.AUTO:
        return choosing.candidates(request.targets, calibrated=request.calibration.is_given)
    recipe = recipes.load(request.recipe)
    return [(name, recipe) for name in request.targets]


def prepare(request: Request, progress: Progress) -> Prepared:
    models = open_models(request, progress)
    person = find_person(request, models, progress)
    cases = [target_case(request, models), parity.noise_case(request.size)]
    targets = parity.inputs(cases)
    progress.step("bake and simplify")
    baked = models.arch.bake(models.generator, person.identity)
    net = models.arch.load(baked)
    return Prepared(models, person, cases, targets, baked, net, simplify(net), run(net, targets))


def make_artifacts(request: Request, ready: Prepared, jobs: list[Job], scratch: Path, progress: Progress) -> list[workers.Done]:
    """Artifacts, opened and run: from templates where one is to be had, by full conversion otherwise."""
    folders: dict[tuple[str, str], Path] = {}
    if not request.full_conversion and request.recipe != choosing.AUTO:
        stamped = [job for job in jobs if can_be_stamped(request, job)]
        folders = stamp_artifacts(ready, stamped, scratch / "stamped", progress) if stamped else {}
    todo = []
    for job in jobs:
        folder = folders.get((job.backend, job.recipe_name))
        artifact = None if folder is None else str(folder / "out" / BACKENDS[job.backend].FILES[0])
        todo.append(job if artifact is None else replace(job, convert=False, artifact=artifact))
    done = workers.run(todo, ready.targets, scratch, weights=ready.baked, on_done=lambda job: progress.step(made(job)))
    return [replace(one, folder=folders.get((one.job.backend, one.job.recipe_name), one.folder)) for one in done]


def can_be_stamped(request: Request, job: Job) -> bool:
    """Whether all people share its template: not where something depends on this person's values."""
    return not job.keep_float32 and (not job.ranges or request.calibration.ranges is not None)


def stamp_artifacts(ready: Prepared, jobs: list[Job], folder: Path, progress: Progress) -> dict[tuple[str, str], Path]:
    """Write each artifact that there is a template for; by backend and recipe, the folder whose ``out`` holds it."""

    def jobs_of(digest: str) -> list[Job]:
        return [replace(job, metadata={**(job.metadata or {}), contents.WEIGHTS_KEY: digest}) for job in jobs]

    templates, reasons = templating.get(jobs_of, ready.models.arch, ready.models.generator, progress)
    for (backend, recipe), reason in reasons.items():
        progress.note(f"{backend} {recipe} is converted in full, for its template does not hold: {reason}")
    weights = Weights(templating.arrays(ready.baked), contents.weights_sha256(ready.baked))
    places = {name: folder / "-".join(name) for name in templates}
    for name, place in places.items():
        templating.write(stamp(templates[name], weights), place / "out")
    return places


def made(job: Job) -> str:
    return f"{job.backend} {'converted to' if job.convert else 'stamped with'} {job.recipe_name}"


def check(request: Request) -> None:
    """Refuse what cannot work, or would be ignored, before anything is read.

    Raises:
        UsageError: options that do not fit together, or a value that is not allowed.
    """
    arch = architecture.get(request.arch)
    if request.size not in arch.sizes:
        raise UsageError(f"--size {request.size} is not possible", hint=f"choose from: {', '.join(map(str, arch.sizes))}")
    if (request.source is None) == (request.identity is None):
        raise UsageError("give exactly one of --source and --identity")
    if request.source in (None, DEMO) and not request.source_where.is_unknown:
        raise UsageError("--landmarks, --aligned and --face say where the face is in --source PHOTO, and there is no such photo")
    if request.target is None and not request.target_where.is_unknown:
        raise UsageError("--target-landmarks, --target-aligned and --target-face need --target PHOTO")


def open_models(request: Request, progress: Progress = SILENT) -> Models:
    progress.step("read the checkpoint")
    arch = architecture.get(request.arch)
    path, encoder = Path(request.checkpoint), request.encoder
    if request.checkpoint == DEMO:
        path, own = example.weights()
        encoder = encoder or own
    checkpoint = checkpoints.load(path, encoder, progress=progress.note)
    model = request.detector if request.detector is not None else checkpoint.detector
    return Models(
        arch=arch,
        generator=arch.generator(checkpoint),
        encoder=arch.encoder(checkpoint),
        detector=None if model is None else open_detector(model),
        files=checkpoint.files,
    )


def find_person(request: Request, models: Models, progress: Progress = SILENT) -> Person:
    progress.step("read the face")
    if request.identity is not None:
        arrays = identity_file.load(request.identity)
        if models.encoder is not None and arrays.encoder_sha256 != contents.weights_sha256(models.encoder.state_dict()):
            raise CheckpointError(
                f"{request.identity.name} was read by another identity encoder than this checkpoint's; it means nothing here",
                hint="read the photo again with mfs identity and this checkpoint",
                kind="identity",
            )
        return Person(Identity(arrays.embedding, arrays.feature_map), None)
    assert request.source is not None
    if request.source == DEMO:
        photo = example.source()
        face = faces.align(photo.image, images.SOURCE_SIZE, faces.Where(photo.landmarks), None)
    else:
        face = faces.source(Path(request.source), request.source_where, models.detector)
    if models.encoder is None:
        raise UsageError(
            "the checkpoint brings no identity encoder, so a photo cannot be read",
            hint="pass --identity-encoder arcface.pdparams, or --identity FILE",
        )
    return Person(models.arch.encode(models.encoder, face.crop), face.crop)


def target_case(request: Request, models: Models) -> parity.Case:
    """The photo that parity is measured on: the user's; for the demo person a rendered one, with the truth; else a portrait."""
    if request.target is None and request.source == DEMO:
        scene = example.scene()
        face = faces.align(scene.target.image, request.size, faces.Where(scene.target.landmarks), None)
        truth, _ = images.align(scene.truth, scene.target.landmarks, request.size)
        return parity.Case("target", face.crop, face.photo, face.back, face.landmarks, truth)
    if request.target is None:
        face = faces.align(sample.portrait(), request.size, faces.Where(sample.LANDMARKS), None)
    else:
        try:
            face = faces.read(request.target, request.size, request.target_where, models.detector)
        except (PhotoError, UsageError) as exc:  # speaks of a photo's options, which have other names for the target
            for option in ("landmarks", "aligned", "face"):
                exc.hint = exc.hint.replace(f"--{option}", f"--target-{option}")
                exc.message = exc.message.replace(f"--{option}", f"--target-{option}")
            raise
        face = faces.shrink(face, PARITY_FRAME, request.size)
    return parity.Case("target", face.crop, face.photo, face.back, face.landmarks)


def run(net: nn.Module, targets: parity.Array) -> parity.Outputs:
    """A network on (N, 3, S, S) targets, one at a time as a phone does it."""
    import torch

    with torch.inference_mode():
        outputs = [net(torch.from_numpy(target[None])) for target in targets]
    swapped, mask = zip(*outputs, strict=True)
    return parity.Outputs(np.concatenate([t.numpy() for t in swapped]), np.concatenate([t.numpy() for t in mask]))


def check_stages(ready: Prepared) -> dict[str, float]:
    """The two steps before any converter, told apart: generator to baked network, baked network to simplified graph.

    Returns:
        largest error of either output, by stage.

    Raises:
        ParityError: one is above ``STAGE_MAX_ERROR``, or not a number.
    """
    arch, generator = ready.models.arch, ready.models.generator
    unbaked = run(arch.reference(generator, ready.person.identity), ready.targets)  # type: ignore[arg-type]
    simplified = run(ready.graph, ready.targets)
    stages = {
        "generator_to_baked": _largest_error(unbaked, ready.reference),
        "baked_to_simplified": _largest_error(ready.reference, simplified),
    }
    for stage, error in stages.items():
        if not error <= STAGE_MAX_ERROR:
            raise ParityError(
                f"{stage}: largest error {error:.3g}, limit {STAGE_MAX_ERROR:.3g}",
                hint="no converter was run yet: look at the checkpoint's and the identity's values (mfs inspect)",
            )
    return stages


def _largest_error(a: parity.Outputs, b: parity.Outputs) -> float:
    return float(np.maximum(metrics.max_error(a.swapped, b.swapped), metrics.max_error(a.mask, b.mask)))


def encode_with(models: Models) -> parity.Encode | None:
    """The identity encoder as parity uses it, or None where the checkpoint brings none."""
    encoder = models.encoder
    return None if encoder is None else lambda crop: models.arch.encode(encoder, crop).embedding


def calibrate(request: Request, ready: Prepared, progress: Progress) -> ranges_file.Calibration:
    progress.step("calibrate")
    place = quantizing.Place(request.arch, request.size, ready.models.detector)
    return quantizing.calibrate(request.calibration, place, ready.graph, ready.targets[:1], progress)


def make_facts(request: Request, ready: Prepared) -> contents.Facts:
    return contents.Facts(ready.models.arch.contract(request.size), ready.models.files, contents.weights_sha256(ready.baked))


def make_jobs(
    request: Request,
    wanted: Sequence[tuple[str, Recipe]],
    room: headroom.Headroom,
    facts: contents.Facts,
    calibrated: ranges_file.Calibration | None,
) -> list[Job]:
    seen = {} if calibrated is None else calibrated.kept.ranges
    return [
        Job(
            backend=name,
            arch=request.arch,
            size=request.size,
            recipe=asdict(recipe),
            convert=True,
            keep_float32=tuple(sorted(room.keep_float32)) if recipe.may_overflow else (),
            metadata=contents.metadata(facts, recipe),
            coreml_io=request.coreml_io,
            tflite_io=request.tflite_io,
            ranges={node: (r.low, r.high) for node, r in seen.items()} if recipe.is_static else {},
        )
        for name, recipe in wanted
    ]
