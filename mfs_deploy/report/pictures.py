"""Pictures of a bundle: its reference, and the output of each artifact, run again, with a map of its error."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from mfs_deploy.backends import launch
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import preview, provenance
from mfs_deploy.bundle.manifest_types import Manifest
from mfs_deploy.contract import Contract
from mfs_deploy.errors import MfsError
from mfs_deploy.evaluate import bundle_parity, outcome, parity
from mfs_deploy.evaluate.reference import read_reference
from mfs_deploy.faces import pixels
from mfs_deploy.faces.opencv import cv2
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.quant import recipes

PHOTO_SIDE = 448  # of a photo, at most; crops keep their size
DECADES = 7  # the error map's colours go from 1e-7, the resolution of float32, to 1, the largest error


@dataclass(frozen=True)
class Picture:
    """``uri`` is the whole picture, as a data URI."""

    title: str
    alt: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Ran:
    """An artifact run again: its output on the first reference input, and its error to PyTorch's.

    ``problems``: what is outside its tolerance, or why it could not be run; then there may be no pictures.
    """

    name: str
    recipe: str
    runtime: str
    problems: tuple[str, ...]
    cases: tuple[parity.CaseParity, ...] = ()
    swapped: Picture | None = None
    error: Picture | None = None


@dataclass(frozen=True)
class Shown:
    """``scale`` shows the colours of all error maps, over ``decades`` powers of ten; ``level`` is where 1/255 lies on it."""

    reference: list[Picture]
    ran: list[Ran]
    scale: Picture
    decades: int = DECADES
    level: str = f"{100 * (DECADES - math.log10(255)) / DECADES:.3f}%"


def show(folder: Path, entries: Manifest, contract: Contract, progress: Progress = SILENT) -> Shown | None:
    """Run a bundle's artifacts, each in a process of its own, and draw their outputs; None without reference tensors.

    Args:
        folder, entries, contract: a bundle that ``verify_bundle`` let through.

    Raises:
        BundleError: reference tensors or preview are not what an export writes.
    """
    if not entries["reference"]:
        return None
    cases, reference = read_reference(folder, contract)
    jobs = bundle_parity.artifact_jobs(folder, entries, contract)
    progress.start(len(jobs))
    ran = []
    with launch.scratch() as scratch:
        for name, job in jobs.items():
            try:
                (done,) = launch.run([job], parity.inputs(cases), scratch)
                ran.append(_compared(done, cases, reference))
            except MfsError as exc:  # the page shows the error, and the other artifacts
                ran.append(Ran(name, job.recipe_name, "", (f"{name} could not be run: {exc.message}",)))
            progress.step(f"run {name}")
    return Shown(_reference(folder, cases[0], reference), ran, scale())


def _compared(done: launch.JobResult, cases: list[parity.Case], reference: parity.Outputs) -> Ran:
    name, recipe = done.job.backend, recipes.from_dict(done.job.recipe)
    outputs = parity.Outputs.of(done.outputs, pixels=done.result.pixels)
    parity_report = parity.judge({name: outputs}, cases, reference, {name: recipe}, encode=None)
    measured = tuple(parity_report.measured.get(name, ()))
    if outputs.swapped.shape != reference.swapped.shape:
        return Ran(name, recipe.name, done.result.runtime, tuple(parity_report.violations))
    title = f"{BACKENDS[name].TITLE} {recipe.name}"
    error = np.abs(outputs.swapped[0].astype(np.float64) - reference.swapped[0]).max(axis=0)
    known = f"largest {measured[0].swapped_max:.1e}, PSNR {measured[0].swapped_psnr_db:.1f} dB" if measured else "not finite"
    return Ran(
        name,
        recipe.name,
        done.result.runtime,
        tuple(parity_report.violations),
        measured,
        _png(f"{title}: swapped", f"Face crop as {title} swaps it", pixels.to_image(np.nan_to_num(outputs.swapped[:1]))),
        _png(f"{title}: error", f"Map of {title}'s error against PyTorch: {known}", error_map(error)),
    )


def error_map(error: NDArray[np.float64]) -> pixels.Image:
    """(H, W) errors, 1 being the whole range of a colour, to (H, W, 3) colours on a logarithmic scale; NaN counts as 1."""
    known = np.nan_to_num(error, nan=1.0, posinf=1.0)
    decades = np.log10(np.maximum(known, 10.0**-DECADES)) + DECADES
    levels = np.clip(np.rint(255 * decades / DECADES), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)[..., ::-1], np.uint8)


def scale() -> Picture:
    """The colours of ``error_map``, from the smallest error to the largest."""
    row = 10.0 ** np.linspace(-DECADES, 0, 256)
    return _png("Scale of the error maps", f"Colours from dark violet, 1e-{DECADES}, to yellow, 1", error_map(row[None]))


def _reference(folder: Path, case: parity.Case, reference: parity.Outputs) -> list[Picture]:
    """The pictures of the first case, in the order of the swap's steps."""
    source = preview.source(folder / provenance.PREVIEW)
    found = [_photo("Source", "The person whose face the weights carry, as the bundle's preview shows it", source)]
    target = case.frame if case.frame is not None else case.crop
    found.append(_photo("Target", "The photo that the face is put into", target))
    if case.frame is not None:
        found.append(_png("Crop", "The target's aligned crop, which the network reads", case.crop))
    row = outcome.preview_row("PyTorch", case, reference)
    found.append(_png("Swapped", "The crop as PyTorch swaps it", pixels.to_image(row.swapped)))
    if case.truth is not None:
        found.append(_png("Truth", "What a perfect swap gives", case.truth))
    found.append(
        _png("Mask", "Where the swapped crop is used, white for all of it", pixels.to_image(np.repeat(row.mask, 3, axis=1)))
    )
    if case.frame is not None:
        found.append(_photo("Finished", "The target with the swapped crop pasted back", row.composite))
    return found


def _png(title: str, alt: str, image: pixels.Image) -> Picture:
    return _picture(title, alt, image, "PNG", optimize=True)


def _photo(title: str, alt: str, image: pixels.Image) -> Picture:
    height, width = image.shape[:2]
    factor = min(1.0, PHOTO_SIDE / max(height, width))
    small = pixels.shrink(image, max(1, round(width * factor)), max(1, round(height * factor)))
    return _picture(title, alt, small, "JPEG", quality=90)


def _picture(title: str, alt: str, image: pixels.Image, kind: str, **how: Any) -> Picture:
    file = io.BytesIO()
    PillowImage.fromarray(image).save(file, kind, **how)
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return Picture(title, alt, f"data:image/{kind.lower()};base64,{text}", image.shape[1], image.shape[0])
