"""Fills a bundle's folder: artifacts, reference tensors, the preview, and the manifest that lists them."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mfs_deploy.backends.launch import JobResult
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import manifest, preview, reference_file
from mfs_deploy.bundle.manifest_types import (
    ArtifactEntry,
    CalibrationEntry,
    ContractEntry,
    FileEntry,
    Manifest,
    RecipeEntry,
)
from mfs_deploy.bundle.provenance import PREVIEW, Facts, artifact_entry, common, versions
from mfs_deploy.contract import FLOAT16_MAX
from mfs_deploy.evaluate import outcome, parity
from mfs_deploy.evaluate.reference import write_reference
from mfs_deploy.metrics import rounded
from mfs_deploy.quant import ranges_file, recipes

if TYPE_CHECKING:
    from mfs_deploy.exporter.prepare import BakedPerson
    from mfs_deploy.quant.float16_headroom import Headroom


def artifact_bytes(result: JobResult) -> int:
    """Bytes of an artifact that has not been moved yet."""
    return sum(path.stat().st_size for path in (result.folder / "out").rglob("*") if path.is_file())


def move_artifacts(done: Sequence[JobResult], folder: Path) -> None:
    for result in done:
        for name in BACKENDS[result.job.backend].FILES:
            _move(result.folder / "out" / name, folder / name)


def _move(start: Path, end: Path) -> None:
    """As ``shutil.move``, but across file systems a full disk keeps its error number, which ``copytree`` drops."""
    try:
        start.rename(end)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        for path in (start, *sorted(start.rglob("*"))):
            place = end / path.relative_to(start)
            if path.is_dir():
                place.mkdir()
            else:
                shutil.copyfile(path, place)


@dataclass(frozen=True)
class Measurements:
    """What an export measured beside its artifacts.

    Attributes:
        parity: by backend.
        stages: largest error of each step before the converters.
        calibration: None where no recipe needs ranges.
    """

    parity: Mapping[str, list[parity.CaseParity]]
    stages: Mapping[str, float]
    headroom: Headroom
    calibration: ranges_file.Calibration | None = None


def write(folder: Path, facts: Facts, baked: BakedPerson, done: Sequence[JobResult], measured: Measurements) -> None:
    """Fill ``folder``; the manifest is written last, since it lists all other files."""
    move_artifacts(done, folder)
    target = baked.cases[0]
    write_reference(folder, baked.cases, baked.reference)
    rows = [outcome.preview_row("PyTorch", target, baked.reference)]
    for result in done:
        psnr_db = measured.parity[result.job.backend][0].swapped_psnr_db
        label = f"{BACKENDS[result.job.backend].TITLE}\n{result.job.recipe_name}\n{psnr_db:.1f} dB"
        rows.append(outcome.preview_row(label, target, parity.Outputs.of(result.outputs)))
    picture = target.frame if target.frame is not None else target.crop
    preview.write(folder / PREVIEW, baked.person.crop, picture, rows, target.truth)
    if measured.calibration is not None:
        (folder / ranges_file.NAME).write_text(ranges_file.text(measured.calibration.stored), "utf-8")
    manifest.write(folder, _manifest(folder, facts, done, measured))


def _manifest(folder: Path, facts: Facts, done: Sequence[JobResult], measured: Measurements) -> Manifest:
    files, headroom, shared = manifest.list_files(folder), measured.headroom, common(facts)
    return {
        **shared,
        "recipes": {result.job.recipe_name: cast(RecipeEntry, recipes.without_name(result.job.recipe)) for result in done},
        "calibration": {} if measured.calibration is None else cast(CalibrationEntry, measured.calibration.as_dict()),
        "artifacts": {
            result.job.backend: _artifact(result, measured.parity[result.job.backend], files, shared["contract"]) for result in done
        },
        "reference": {"file": reference_file.NAME},
        "stages": {name: rounded(error) for name, error in measured.stages.items()},
        "float16": {
            "largest_value": rounded(FLOAT16_MAX / headroom.ratio),
            "at": headroom.worst,
            "headroom": rounded(headroom.ratio),
            "kept_in_float32": sorted({name for result in done for name in result.job.keep_float32}),
        },
        "weights": {"sha256": facts.weights_sha256},
        "versions": versions(package for result in done for package in BACKENDS[result.job.backend].PACKAGES),
        "files": files,
    }


def _artifact(
    result: JobResult, cases: list[parity.CaseParity], files: Mapping[str, FileEntry], contract: ContractEntry
) -> ArtifactEntry:
    backend = BACKENDS[result.job.backend]
    listed = {name: facts for name, facts in files.items() if name.split("/")[0] in backend.FILES}
    entry = artifact_entry(backend.FILES, backend.LAYOUT, result.job.recipe_name, listed, result.result.info, contract)
    return {**entry, "parity": outcome.parity_entry(result, cases)}
