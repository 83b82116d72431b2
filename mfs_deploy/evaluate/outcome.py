"""Workers' results as parity, the manifest and the preview take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import cast

from mfs_deploy.backends.launch import JobResult
from mfs_deploy.bundle import preview
from mfs_deploy.bundle.manifest_types import CaseEntry, ParityEntry
from mfs_deploy.evaluate import parity
from mfs_deploy.faces import pixels
from mfs_deploy.metrics import rounded
from mfs_deploy.quant import recipes
from mfs_deploy.quant.recipes import Recipe


def outputs_of(done: Sequence[JobResult]) -> dict[str, parity.Outputs]:
    return {one.job.backend: parity.Outputs.of(one.outputs, pixels=one.result.pixels) for one in done}


def recipes_of(done: Sequence[JobResult]) -> dict[str, Recipe]:
    return {one.job.backend: recipes.from_dict(one.job.recipe) for one in done}


def parity_entry(one: JobResult, measured: list[parity.CaseParity]) -> ParityEntry:
    return {"runtime": one.result.runtime, "cases": [_rounded_case(case) for case in measured]}


def _rounded_case(case: parity.CaseParity) -> CaseEntry:
    entry = {key: rounded(value) if isinstance(value, float) else value for key, value in asdict(case).items()}
    if case.quality is not None:
        entry["quality"] = {key: rounded(value) for key, value in asdict(case.quality).items()}
    return cast(CaseEntry, entry)


def preview_row(label: str, target: parity.Case, outputs: parity.Outputs) -> preview.Row:
    composite = parity.composite(target, outputs, 0)
    picture = composite if composite is not None else pixels.to_image(outputs.swapped[:1])
    swapped, mask = outputs.case(0)
    return preview.Row(label, swapped, target.paste.alpha(None, swapped.shape[2])[None, None] if mask is None else mask, picture)
