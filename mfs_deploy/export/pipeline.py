"""The main job, start to end: a photo and a checkpoint in, a bundle that matches PyTorch out.  Read ``export`` first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mfs_deploy.backends import launch as workers
from mfs_deploy.bundle import manifest, provenance
from mfs_deploy.bundle import publish as bundle
from mfs_deploy.bundle.manifest_types import Manifest
from mfs_deploy.evaluate import outcome, parity
from mfs_deploy.evaluate.reference import write_reference
from mfs_deploy.export import artifacts, write_bundle
from mfs_deploy.export import auto_recipe as choosing
from mfs_deploy.export import calibrate as quantizing
from mfs_deploy.export import prepare as preparing
from mfs_deploy.export.prepare import Models, Prepared, Request
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.quant import float16_headroom as headroom
from mfs_deploy.quant import ranges_file


@dataclass(frozen=True)
class Exported:
    """A published bundle and what its manifest says."""

    path: Path
    manifest: Manifest
    trials: Sequence[choosing.Trial] = ()


def export(request: Request, progress: Progress = SILENT) -> Exported:
    """Export one person's bundle.

    Raises:
        MfsError: of the kind of what went wrong; then there is no new bundle, and an old one is as it was.
    """
    preparing.check(request)
    wanted = artifacts.wanted_artifacts(request)
    quantizing.check(request.calibration, wanted, request.tflite_io)
    is_static = any(recipe.is_static for _, recipe in wanted)
    progress.start(6 + is_static + len(wanted))
    with bundle.staging(request.out) as folder, workers.scratch() as scratch:
        ready = preparing.prepare(request, progress)
        stages = preparing.check_stages(ready)
        encode = encode_with(ready.models)

        progress.step("scan the float16 headroom")
        room = headroom.scan(ready.graph, ready.targets)
        calibrated = calibrate(request, ready, progress) if is_static else None

        progress.step(f"make {', '.join(request.targets)}")
        facts = artifacts.make_facts(request, ready)
        jobs = artifacts.make_jobs(request, wanted, room, facts, calibrated)
        if request.parity == "off":
            artifacts.write_stamped(request, ready, jobs, provenance.common(facts), folder, progress)
            bundle.publish(folder, request.out)
            progress.finish()
            return Exported(request.out, manifest.read(request.out))
        done = artifacts.make_artifacts(request, ready, jobs, scratch, progress)
        trials: Sequence[choosing.Trial] = ()
        if request.recipe == choosing.AUTO:
            done, trials = choosing.choose(done, ready.cases, ready.reference, encode, scratch, progress)
        judgement = parity.judge(outcome.outputs_of(done), ready.cases, ready.reference, outcome.recipes_of(done), encode)
        if judgement.complaints:
            write_bundle.move_artifacts(done, folder)
            write_reference(folder, ready.cases, ready.reference)
            kept = bundle.keep_rejected(folder, request.out, judgement.as_dict())
            raise judgement.error(hint=f"the artifacts are kept in {kept}; no bundle was written")

        progress.step("write the bundle")
        write_bundle.write(folder, facts, ready, done, write_bundle.Measurements(judgement.measured, stages, room, calibrated))
        bundle.publish(folder, request.out)
    progress.finish()
    return Exported(request.out, manifest.read(request.out), trials)


def encode_with(models: Models) -> parity.Encode | None:
    """The identity encoder as parity uses it, or None where the checkpoint brings none."""
    encoder = models.encoder
    return None if encoder is None else lambda crop: models.arch.encode(encoder, crop).embedding


def calibrate(request: Request, ready: Prepared, progress: Progress) -> ranges_file.Calibration:
    progress.step("calibrate")
    place = quantizing.Place(request.arch, request.side, ready.models.detector)
    return quantizing.calibrate(request.calibration, place, ready.graph, ready.targets[:1], progress)
