"""mfs export: one person's bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mfs_deploy.commands import options
from mfs_deploy.commands.console import Console, output_options
from mfs_deploy.commands.tables import parity_table, table

if TYPE_CHECKING:
    from mfs_deploy.bundle.manifest_types import CalibrationEntry
    from mfs_deploy.exporter.auto_recipe import Trial
    from mfs_deploy.exporter.pipeline import Exported


@click.command("export", short_help="Export one person's bundle (start here).")
@options.person
@click.option("--target", type=options.PATH, help="A photo to measure parity on, instead of a sample.")
@options.location("target", "the target photo")
@click.option("--out", type=options.PATH, required=True, help="The bundle's folder; a bundle that is there is replaced.")
@options.backends
@click.option(
    "--recipe",
    default="fp16",
    show_default=True,
    help="The number format by name, a .toml file, or auto: the fastest on this machine.",
)
@options.size
@click.option(
    "--coreml-io",
    type=click.Choice(["image", "tensor"]),
    default="image",
    show_default=True,
    help="Core ML takes and gives pixel buffers, or arrays.",
)
@options.calibration
@click.option(
    "--tflite-io",
    type=click.Choice(["float32", "int8", "uint8"]),
    default="float32",
    show_default=True,
    help="TFLite takes and gives these numbers; integers need an integer recipe.",
)
@click.option(
    "--parity",
    type=click.Choice(["full", "sample", "off"]),
    default="full",
    show_default=True,
    help="Measure on the target and on noise, on the target alone, or not at all (stamped artifacts only).",
)
@click.option("--full-conversion", is_flag=True, help="Run the converters even where a template is to be had; same bytes.")
@options.arch
@output_options
def command(console: Console, backends: str, out: Path, **kwargs: Any) -> None:
    """Bake a person's weights into the phone network, export it, and prove each file matches PyTorch.

    \b
    mfs-export --checkpoint checkpoints.tar --source photo.jpg --out bundles/face01
    """
    from mfs_deploy.exporter.request import AUTO, DEMO, ExportRequest, Formats, ParityOptions

    parity = ParityOptions(kwargs.pop("parity"), kwargs.pop("target"), options.pop_location(kwargs, "target"))
    network, person = options.pop_network(kwargs), options.pop_person(kwargs)
    formats = Formats(options.parse_backends(backends), calibration=options.pop_calibration(kwargs), **kwargs)
    request = ExportRequest(network, person, out, formats, parity)
    if network.checkpoint == DEMO:
        console.note("note: the demo weights know rendered faces only; do not judge photos of people by them")
    if formats.recipe == AUTO and not formats.calibration.is_given:
        console.note("note: recipes with integer values are tried only with --calibration")
    from mfs_deploy.exporter import pipeline

    exported = pipeline.export(request, console)
    data = {"bundle": str(out), "manifest": exported.manifest, "trials": [vars(trial) for trial in exported.trials]}
    console.result(data, summary(exported))


def summary(exported: Exported) -> str:
    manifest = exported.manifest
    lines = [f"recognised {f['name']}: {f['recognised']}" for f in manifest["checkpoint"] if f["recognised"]]
    for stage, error in manifest["stages"].items():
        lines.append(f"{stage.replace('_', ' ')}: largest error {error:.2g}")
    if room := manifest["float16"]:
        lines.append(f"float16: largest value {room['largest_value']:g} at {room['at']}, headroom {room['headroom']:g}x")
    if manifest["calibration"]:
        lines.append(calibration_line(manifest["calibration"]))
    if exported.trials:
        lines += ["", trials_table(exported.trials)]
    if not manifest["reference"]:
        return "\n".join([*lines, f"bundle: {exported.path} (parity not measured)"])
    lines += ["", parity_table(manifest["artifacts"]), "", f"bundle: {exported.path}", f"picture: {exported.path / 'preview.png'}"]
    return "\n".join(lines)


def trials_table(trials: Sequence[Trial]) -> str:
    """The recipes that ``--recipe auto`` tried, and chose."""
    rows = []
    for trial in trials:
        verdict = "taken" if trial.chosen else trial.complaint or ""
        if trial.chosen and trial.frame_ms is None and trial.complaint is None:
            verdict = "taken: its runtime is not on this machine, so nothing could be timed"
        time = "-" if trial.frame_ms is None else f"{trial.frame_ms:.2f} ms"
        psnr = "-" if trial.psnr_db is None else f"{trial.psnr_db:.1f} dB"
        rows.append((trial.backend, trial.recipe, f"{trial.bytes / 1e6:.2f} MB", psnr, time, verdict))
    return table(("tried", "recipe", "size", "PSNR", "frame, one thread", ""), rows)


def calibration_line(entry: CalibrationEntry) -> str:
    """The calibration set as a line of text."""
    if entry["reused"]:
        return f"calibration: ranges of another identity; at most {entry['largest_share_outside']:.2%} of any value's are clipped"
    coverage = entry["coverage"]
    parts = [f"{coverage['crops']} crops, {coverage['different']} different"]
    for name, (low, high) in (("brightness", coverage["brightness"]), ("contrast", coverage["contrast"])):
        parts.append(f"{name} {low:.0f} to {high:.0f} of 255")
    if coverage["turned"] is not None:
        low, high = coverage["turned"]
        parts.append(f"nose tip {low:+.2f} to {high:+.2f} eye distances off centre")
    if entry["skipped"]:
        parts.append(f"{entry['skipped']} left out")
    return f"calibration ({entry['method']}): {', '.join(parts)}"
