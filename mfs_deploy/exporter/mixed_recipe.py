"""A recipe of mixed number formats for one identity: searched in simulation, then measured in the runtimes.

Runtimes round at other places than the simulation, so every artifact is converted and measured.  Where one is below the PSNR asked
for, the search continues with an aim that is higher by the difference.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from mfs_deploy import files
from mfs_deploy.backends import launch
from mfs_deploy.contract import Tolerance
from mfs_deploy.errors import ParityError, UsageError
from mfs_deploy.evaluate import outcome, parity
from mfs_deploy.exporter import artifacts, calibrate, write_bundle
from mfs_deploy.exporter.prepare import prepare
from mfs_deploy.exporter.request import Formats, Network, ParityOptions, Person, check_formats, check_network, check_person
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.quant import float16_headroom, mixed_search, recipes
from mfs_deploy.quant.mixed_search import Sensitivity, Step
from mfs_deploy.quant.recipes import Recipe

if TYPE_CHECKING:
    from torch import Tensor


CROPS = 8  # of the calibration set, evenly spaced, that PSNR is measured on
ROUNDS = 10
MIN_RAISE_DB = 1.0  # of the aim, after a runtime was below the PSNR asked for


@dataclass(frozen=True)
class Mixture:
    """A recipe, PSNR in dB to the float network and artifact size by backend, and the steps of the search."""

    recipe: Recipe
    measured_psnr_db: dict[str, float]
    bytes: dict[str, int]
    sensitivity: list[Sensitivity]
    steps: tuple[Step, ...]


def mix(network: Network, person: Person, formats: Formats, min_psnr_db: float, progress: Progress = SILENT) -> Mixture:
    """Search from the recipe of ``formats``, whose every operation may be put back into floating point.

    Raises:
        UsageError: that recipe has no integers to mix.
        ParityError: no mixture keeps ``min_psnr_db``.
        MfsError: as an export's.
    """
    start = recipes.load(formats.recipe)
    if not start.is_static:
        raise UsageError(
            f"the recipe {formats.recipe} has no integer values to mix with floating point", hint="choose w8a8 or w8a16"
        )
    check_network(network)
    check_person(person)
    check_formats(formats)
    calibrate.check(formats, [(name, start) for name in formats.backends])
    progress.start(5 + len(formats.backends))
    baked = prepare(network, person, ParityOptions(), progress)
    graph, target = baked.graph, baked.crops[:1]
    progress.step("calibrate")
    context = calibrate.CalibrationContext(network.arch, network.side, baked.models.detector)
    calibration = calibrate.calibrate(formats.calibration, context, graph, target, progress)
    ranges = calibration.stored.ranges
    crops = target if calibration.crops is None else calibration.crops[:: max(1, len(calibration.crops) // CROPS)]
    probe = torch.cat([torch.from_numpy(target), torch.from_numpy(crops)])

    progress.step("measure each operation")
    facts = artifacts.make_facts(baked, network.side)
    key = _key(facts.weights_sha256, start, ranges, probe)
    sensitivity = _cached(key, lambda: mixed_search.sensitivity(graph, start, ranges, probe, progress.note))
    order = [one.name for one in sensitivity]
    costs = mixed_search.costs(graph, network.side)
    measure = mixed_search.meter(graph, start, ranges, probe, costs)
    headroom = float16_headroom.scan(graph, baked.crops)
    aim = min_psnr_db
    steps: tuple[Step, ...] = ()
    for _ in range(ROUNDS):
        result = mixed_search.search(start, measure, costs, aim, order, progress.note)
        steps = (*steps, *result.steps)
        recipe = _named(result.recipe, min_psnr_db)
        pairs = [(name, recipe) for name in formats.backends]
        with launch.scratch() as scratch:
            jobs = artifacts.make_jobs(formats, pairs, headroom, facts, calibration)
            done = launch.run(
                jobs, baked.crops, scratch, weights=baked.weights, on_done=lambda job: progress.note(artifacts.made(job))
            )
            sizes = {one.job.backend: write_bundle.artifact_bytes(one) for one in done}
        measured = parity.judge(outcome.outputs_of(done), baked.cases, baked.reference, dict(pairs), None).measured
        psnr = {name: measured[name][0].swapped_psnr_db if name in measured else float("nan") for name in sizes}
        worst = min(psnr, key=lambda name: psnr[name])
        if all(value >= min_psnr_db for value in psnr.values()):
            progress.finish()
            return Mixture(recipe, psnr, sizes, sensitivity, steps)
        aim += max(min_psnr_db - psnr[worst], MIN_RAISE_DB)
    raise ParityError(
        f"{worst} reaches {psnr[worst]:.1f} dB with the best mixture found, {min_psnr_db:g} dB were asked for",
        hint="ask for less with --min-psnr, or leave that backend out of --backends",
    )


def _named(recipe: Recipe, min_psnr_db: float) -> Recipe:
    """``recipe`` under a name of its own, with the PSNR asked for as its tolerance."""
    base = recipe.gate
    gate = Tolerance(min_psnr_db, base.swapped_max, base.mask_mean, min(base.composite_psnr_db, min_psnr_db), base.identity_cosine)
    layers = ", ".join(recipe.layers) or "no operation"
    return replace(recipe, name="mixed", description=f"{recipe.name} with {layers} in floating point", gate=gate)


# ---- cache of sensitivities


def _key(weights: str, recipe: Recipe, ranges: Any, probe: Tensor) -> str:
    facts = {"weights": weights, "recipe": asdict(recipe), "ranges": {n: [r.low, r.high] for n, r in sorted(ranges.items())}}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    digest.update(probe.numpy().tobytes())
    return digest.hexdigest()


def _cached(key: str, measure: Callable[[], list[Sensitivity]]) -> list[Sensitivity]:
    """Sensitivities of an earlier run with the same weights, recipe, ranges and crops, or measured and stored."""
    path = files.cache_folder("sensitivity") / f"{key}.json"
    try:
        return [Sensitivity(**one) for one in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, TypeError):
        pass  # absent or damaged: measured again
    measured = measure()
    with contextlib.suppress(OSError):
        files.write(path, json.dumps([asdict(one) for one in measured]).encode())
    return measured
