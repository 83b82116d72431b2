"""What goes into a bundle's folder: artifacts, reference tensors, the preview, and the manifest that accounts for them."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata as distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mfs_deploy
from mfs_deploy import architectures
from mfs_deploy.architectures.card import DEMO, GENERATOR, SourceFile, card
from mfs_deploy.backends.launch import Done
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import manifest, preview
from mfs_deploy.contract import FLOAT16_MAX, Contract
from mfs_deploy.evaluate import parity
from mfs_deploy.evaluate import reference as reference_file
from mfs_deploy.faces import pixels
from mfs_deploy.quant import ranges_file
from mfs_deploy.quant import recipe as recipes
from mfs_deploy.quant.recipe import Recipe
from mfs_deploy.stamping.kit import artifact_entry, digest

if TYPE_CHECKING:
    from torch import Tensor

    from mfs_deploy.quant.float16_headroom import Headroom

PREVIEW = "preview.png"
WEIGHTS_KEY = "mfs.weights_sha256"  # of an artifact's metadata
TOOLS = ("torch", "numpy", "opencv-python-headless")

Report = dict[str, list[parity.CaseParity]]  # by backend


@dataclass(frozen=True)
class Facts:
    """What an artifact carries of its own making."""

    contract: Contract
    files: tuple[SourceFile, ...]
    weights_sha256: str


def weights_sha256(baked: Mapping[str, Tensor]) -> str:
    """A hash of a baked network: names and bytes of every tensor, in order of names."""
    return digest({name: tensor.numpy() for name, tensor in baked.items()})


def metadata(facts: Facts, recipe: Recipe) -> dict[str, str]:
    """Strings for a format's own metadata."""
    checkpoint = {f.role: f.sha256 for f in facts.files}
    return {
        "name": f"{facts.contract.arch} {facts.contract.size} {recipe.name}",
        "version": mfs_deploy.__version__,
        "mfs.architecture": facts.contract.arch,
        "mfs.recipe": recipe.name,
        "mfs.contract": json.dumps(facts.contract.as_dict(), sort_keys=True),
        "mfs.checkpoint_sha256": json.dumps(checkpoint, sort_keys=True),
        WEIGHTS_KEY: facts.weights_sha256,
        "mfs.synthetic_media": manifest.DISCLOSURE["disclosure"],
    }


def outputs(done: Sequence[Done]) -> dict[str, parity.Outputs]:
    return {one.job.backend: parity.Outputs.of(one.outputs, pixels=one.result.pixels) for one in done}


def recipes_of(done: Sequence[Done]) -> dict[str, Recipe]:
    return {one.job.backend: recipes.from_dict(one.job.recipe) for one in done}


def size(one: Done) -> int:
    """Bytes of an artifact that has not been moved yet."""
    return sum(path.stat().st_size for path in (one.folder / "out").rglob("*") if path.is_file())


def move_artifacts(done: Sequence[Done], folder: Path) -> None:
    for one in done:
        for name in BACKENDS[one.job.backend].FILES:
            _move(one.folder / "out" / name, folder / name)


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


def write(
    folder: Path,
    facts: Facts,
    done: Sequence[Done],
    report: Report,
    room: Headroom,
    stages: dict[str, float],
    source: pixels.Image | None,
    cases: list[parity.Case],
    reference: parity.Outputs,
    calibrated: ranges_file.Calibration | None = None,
) -> None:
    """Fill ``folder``; the manifest comes last, so that it can account for all the rest."""
    move_artifacts(done, folder)
    target = cases[0]
    reference_file.write(folder / reference_file.NAME, cases, reference)
    rows = [preview_row("PyTorch", target, reference)]
    for one in done:
        label = f"{BACKENDS[one.job.backend].TITLE}\n{one.job.recipe_name}\n{report[one.job.backend][0].swapped_psnr_db:.1f} dB"
        rows.append(preview_row(label, target, parity.Outputs.of(one.outputs)))
    preview.write(folder / PREVIEW, source, target.frame if target.frame is not None else target.crop, rows, target.truth)
    if calibrated is not None:
        (folder / ranges_file.NAME).write_text(ranges_file.text(calibrated.kept), "utf-8")
    said = _manifest(folder, facts, done, report, room, stages)
    manifest.write(folder, said | {"calibration": {} if calibrated is None else calibrated.as_dict()})


def preview_row(label: str, target: parity.Case, outputs: parity.Outputs) -> preview.Row:
    composite = parity.composite(target, outputs, 0)
    picture = composite if composite is not None else pixels.to_image(outputs.swapped[:1])
    swapped, mask = outputs.case(0)
    return preview.Row(label, swapped, target.paste.alpha(None, swapped.shape[2])[None, None] if mask is None else mask, picture)


def _manifest(
    folder: Path, facts: Facts, done: Sequence[Done], report: Report, room: Headroom, stages: dict[str, float]
) -> dict[str, Any]:
    files = manifest.list_files(folder)
    artifacts = {one.job.backend: _artifact(one, report[one.job.backend], files) for one in done}
    return {
        **common(facts),
        "recipes": {one.job.recipe_name: recipes.without_name(one.job.recipe) for one in done},
        "artifacts": artifacts,
        "reference": {"file": reference_file.NAME},
        "stages": {name: _rounded(error) for name, error in stages.items()},
        "float16": {
            "largest_value": _rounded(FLOAT16_MAX / room.ratio),
            "at": room.worst,
            "headroom": _rounded(room.ratio),
            "kept_in_float32": sorted({name for one in done for name in one.job.keep_float32}),
        },
        "weights": {"sha256": facts.weights_sha256},
        "versions": versions([one.job.backend for one in done]),
        "files": files,
    }


def common(facts: Facts) -> dict[str, Any]:
    """What the manifests of all people say alike."""
    is_demo = any(f.role == GENERATOR and f.recognised == DEMO for f in facts.files)
    weights = card("demo" if is_demo else facts.contract.arch)
    known = architectures.interface(facts.contract.arch)
    return {
        "schema": manifest.SCHEMA,
        "tool": f"mfs-deploy {mfs_deploy.__version__}",
        "architecture": facts.contract.arch,
        "contract": facts.contract.as_dict(),
        "alignment": asdict(known.alignment),
        "paste_back": asdict(known.paste_back),
        "checkpoint": [asdict(f) for f in facts.files],
        "licences": {"code": card(facts.contract.arch)["code_licence"], "weights": weights["weights_licence"]},
        "synthetic_media": manifest.DISCLOSURE,
    }


def _artifact(one: Done, measured: list[parity.CaseParity], files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    own = {name: facts for name, facts in files.items() if name.split("/")[0] in BACKENDS[one.job.backend].FILES}
    entry = artifact_entry(one.job.backend, one.job.recipe_name, own, one.result.info)
    return {**entry, "parity": parity_entry(one, measured)}


def parity_entry(one: Done, measured: list[parity.CaseParity]) -> dict[str, Any]:
    return {"runtime": one.result.runtime, "cases": [_rounded_case(case) for case in measured]}


def _rounded_case(case: parity.CaseParity) -> dict[str, Any]:
    rounded = {key: _rounded(value) if isinstance(value, float) else value for key, value in asdict(case).items()}
    if case.quality is not None:
        rounded["quality"] = {key: _rounded(value) for key, value in asdict(case.quality).items()}
    return rounded


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def versions(backends: list[str]) -> dict[str, str]:
    wanted = {*TOOLS, *(package for name in backends for package in BACKENDS[name].PACKAGES)}
    return {package: distributions.version(package) for package in sorted(wanted)}
