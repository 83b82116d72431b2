"""What integer recipes need of an export: that a calibration is given, and the ranges measured on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mfs_deploy import architectures
from mfs_deploy.backends.registry import check_recipe
from mfs_deploy.demo import example
from mfs_deploy.errors import UsageError
from mfs_deploy.exporter.request import DEMO, CalibrationOptions, Formats
from mfs_deploy.faces.detectors import Detector
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.quant import calibration_set, ranges, ranges_file
from mfs_deploy.quant.recipes import Recipe

if TYPE_CHECKING:
    from torch import fx


@dataclass(frozen=True)
class CalibrationContext:
    """The network's architecture and size, and how faces are found."""

    arch: str
    size: int
    detector: Detector | None


def check(formats: Formats, pairs: Sequence[tuple[str, Recipe]]) -> None:
    """Check backends and the recipes they are to have.

    Raises:
        UsageError: a backend lacks its recipe, or the recipe a calibration, or an option would be ignored.
    """
    options = formats.calibration
    for name, recipe in pairs:
        check_recipe(name, recipe)
    static = [recipe.name for _, recipe in pairs if recipe.is_static]
    if options.photos is not None and options.ranges is not None:
        raise UsageError("--calibration and --calibration-ranges both say where ranges come from", hint="give one of them")
    if static and not options.is_given:
        raise UsageError(
            f"the recipe {static[0]} computes with integers, whose ranges must be measured",
            hint="give one of --calibration DIR, CLIP or PHOTO ('demo' for rendered people) and --calibration-ranges FILE",
        )
    if options.is_given and not static:
        name = pairs[0][1].name
        raise UsageError(f"the recipe {name} needs no calibration", hint="leave it out, or choose a recipe such as w8a8")
    if formats.tflite_io != "float32" and not all(recipe.is_static for _, recipe in pairs):
        raise UsageError(f"--tflite-io {formats.tflite_io} needs a recipe with integer values, such as w8a8")


def calibrate(
    options: CalibrationOptions,
    context: CalibrationContext,
    graph: fx.GraphModule,
    crops: ranges.Crops,
    progress: Progress = SILENT,
) -> ranges_file.Calibration:
    """Ranges of every value of a simplified graph: measured, or read from a file and checked on ``crops`` (N, 3, S, S).

    Raises:
        CalibrationError: the set is too small or too alike, or the given ranges clip this identity's values.
        UsageError: nothing says where the faces of the set are.
    """
    names = [node.name for node in graph.graph.nodes if node.op != "output"]
    if options.ranges is not None:
        stored = ranges_file.read(options.ranges, context.arch, context.size, names)
        return ranges_file.Calibration(stored, outside=ranges_file.check_transfer(graph, crops, stored.ranges))
    assert options.photos is not None
    if options.photos == DEMO:
        if context.arch != "mobilefaceswap":
            raise UsageError(f"the demo people are cropped for MobileFaceSwap, not {context.arch}", hint="give photos of people")
        measured = calibration_set.from_crops(example.crops(context.size))
    else:
        measured = calibration_set.read(
            Path(options.photos),
            context.size,
            context.detector,
            architectures.interface(context.arch).alignment,
            aligned=options.aligned,
            allow_poor=options.allow_poor,
            progress=progress,
        )
    inputs = measured.tensor()
    observed = ranges.observe(graph, inputs, options.method)
    stored = ranges_file.StoredRanges(context.arch, context.size, options.method, measured.sha256, observed)
    return ranges_file.Calibration(stored, coverage=asdict(measured.coverage), skipped=len(measured.skipped), crops=inputs)
