"""Integer recipes on their way through an export: what they need, and the ranges they get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mfs_deploy import architectures
from mfs_deploy.backends.registry import check_recipe
from mfs_deploy.demo import example
from mfs_deploy.errors import UsageError
from mfs_deploy.faces import find
from mfs_deploy.faces.detectors import Detector
from mfs_deploy.progress import Progress
from mfs_deploy.quant import calibration_set as calibration
from mfs_deploy.quant import ranges, ranges_file
from mfs_deploy.quant.recipe import Recipe

if TYPE_CHECKING:
    from torch import fx

DEMO = "demo"  # as --calibration: rendered people


@dataclass(frozen=True, eq=False)
class How:
    """Where ranges come from: measured on ``photos`` (a folder, a clip, a photo, or ``DEMO``), or kept in ``ranges``."""

    photos: str | None = None
    where: find.Where = find.UNKNOWN
    method: str = "percentile"
    accept: bool = False
    ranges: Path | None = None

    @property
    def is_given(self) -> bool:
        return (self.photos, self.ranges) != (None, None)


NOTHING = How()


@dataclass(frozen=True)
class Place:
    """The network's architecture and size, and how faces are found."""

    arch: str
    size: int
    detector: Detector | None


def check(how: How, wanted: Sequence[tuple[str, Recipe]], tflite_io: str) -> None:
    """Of backends and the recipes they are to have.

    Raises:
        UsageError: a backend lacks its recipe, or the recipe a calibration, or an option would be ignored.
    """
    for name, recipe in wanted:
        check_recipe(name, recipe)
    static = [recipe.name for _, recipe in wanted if recipe.is_static]
    if how.photos is not None and how.ranges is not None:
        raise UsageError("--calibration and --calibration-ranges both say where ranges come from", hint="give one of them")
    if static and not how.is_given:
        raise UsageError(
            f"the recipe {static[0]} computes with integers, whose ranges must be measured",
            hint="give one of --calibration DIR, CLIP or PHOTO ('demo' for rendered people) and --calibration-ranges FILE",
        )
    if how.is_given and not static:
        name = wanted[0][1].name
        raise UsageError(f"the recipe {name} needs no calibration", hint="leave it out, or choose a recipe such as w8a8")
    if tflite_io != "float32" and not all(recipe.is_static for _, recipe in wanted):
        raise UsageError(f"--tflite-io {tflite_io} needs a recipe with integer values, such as w8a8")


def calibrate(how: How, place: Place, graph: fx.GraphModule, targets: ranges.Crops, progress: Progress) -> ranges_file.Calibration:
    """Ranges of every value of a simplified graph: measured, or given and checked on ``targets`` (N, 3, S, S).

    Raises:
        CalibrationError: the set is too small or too alike, or the given ranges cut off this identity's values.
        UsageError: nothing says where the faces of the set are.
    """
    names = [node.name for node in graph.graph.nodes if node.op != "output"]
    if how.ranges is not None:
        kept = ranges_file.read(how.ranges, place.arch, place.size, names)
        return ranges_file.Calibration(kept, outside=ranges_file.check_transfer(graph, targets, kept.ranges))
    assert how.photos is not None
    if how.photos == DEMO:
        if place.arch != "mobilefaceswap":
            raise UsageError(f"the demo people are cropped for MobileFaceSwap, not for {place.arch}", hint="give photos of people")
        chosen = calibration.from_crops(example.crops(place.size))
    else:
        template = architectures.interface(place.arch).alignment
        chosen = calibration.read(
            Path(how.photos), place.size, how.where, place.detector, template, accept=how.accept, progress=progress
        )
    crops = chosen.tensor()
    seen = ranges.observe(graph, crops, how.method)
    kept = ranges_file.Calibrated(place.arch, place.size, how.method, chosen.sha256, seen)
    return ranges_file.Calibration(kept, coverage=asdict(chosen.coverage), skipped=len(chosen.skipped), crops=crops)
