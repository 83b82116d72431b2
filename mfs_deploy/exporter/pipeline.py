"""The main job, start to end: a photo and a checkpoint in, a bundle that matches PyTorch out.  Read ``export`` first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mfs_deploy.backends import launch
from mfs_deploy.bundle import manifest, provenance, publish
from mfs_deploy.bundle.manifest_types import Manifest
from mfs_deploy.evaluate import outcome, parity
from mfs_deploy.evaluate.reference import write_reference
from mfs_deploy.exporter import artifacts, auto_recipe, calibrate, write_bundle
from mfs_deploy.exporter.prepare import BakedPerson, Models, check_stages, prepare
from mfs_deploy.exporter.request import AUTO, ExportRequest, check
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.quant import float16_headroom, ranges_file


@dataclass(frozen=True)
class Exported:
    """A published bundle, its manifest, and the recipes that ``AUTO`` tried."""

    path: Path
    manifest: Manifest
    trials: Sequence[auto_recipe.Trial] = ()


def export(request: ExportRequest, progress: Progress = SILENT) -> Exported:
    """Export one person's bundle.

    Raises:
        MfsError: of the kind of what went wrong; then there is no new bundle, and an old one is as it was.
    """
    formats = request.formats
    check(request)
    pairs = artifacts.list_artifacts(formats)
    calibrate.check(formats, pairs)
    is_static = any(recipe.is_static for _, recipe in pairs)
    progress.start(6 + is_static + len(pairs))
    with publish.staging(request.out) as folder, launch.scratch() as scratch:
        baked = prepare(request.network, request.person, request.parity, progress)
        stages = {} if request.parity.level == "off" else check_stages(baked)

        progress.step("scan the float16 headroom")
        headroom = float16_headroom.scan(baked.graph, baked.crops)
        calibration = _calibrate(request, baked, progress) if is_static else None

        progress.step(f"make {', '.join(formats.backends)}")
        facts = artifacts.make_facts(baked, request.network.side)
        jobs = artifacts.make_jobs(formats, pairs, headroom, facts, calibration)
        if request.parity.level == "off":
            artifacts.write_stamped(formats, baked, jobs, provenance.common(facts), folder, progress)
            publish.publish(folder, request.out)
            progress.finish()
            return Exported(request.out, manifest.read(request.out))
        encode = encode_with(baked.models)
        done = artifacts.make_artifacts(formats, baked, jobs, scratch, progress)
        trials: Sequence[auto_recipe.Trial] = ()
        if formats.recipe == AUTO:
            done, trials = auto_recipe.choose(done, baked.cases, baked.reference, encode, scratch, progress)
        report = parity.judge(outcome.outputs_of(done), baked.cases, baked.reference, outcome.recipes_of(done), encode)
        if report.violations:
            write_bundle.move_artifacts(done, folder)
            write_reference(folder, baked.cases, baked.reference)
            kept = publish.keep_rejected(folder, request.out, report.as_dict())
            raise report.error(hint=f"the artifacts are kept in {kept}; no bundle was written")

        progress.step("write the bundle")
        write_bundle.write(folder, facts, baked, done, write_bundle.Measurements(report.measured, stages, headroom, calibration))
        publish.publish(folder, request.out)
    progress.finish()
    return Exported(request.out, manifest.read(request.out), trials)


def encode_with(models: Models) -> parity.Encode | None:
    """The identity encoder as parity uses it, or None where the checkpoint brings none."""
    encoder = models.encoder
    return None if encoder is None else lambda crop: models.arch.embed(encoder, crop).embedding


def _calibrate(request: ExportRequest, baked: BakedPerson, progress: Progress) -> ranges_file.Calibration:
    progress.step("calibrate")
    context = calibrate.CalibrationContext(request.network.arch, request.network.side, baked.models.detector)
    return calibrate.calibrate(request.formats.calibration, context, baked.graph, baked.crops[:1], progress)
