"""mfs quantize: find which operations must stay in floating point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mfs_deploy.commands import options
from mfs_deploy.commands.console import Console, output_options
from mfs_deploy.commands.tables import table

if TYPE_CHECKING:
    from mfs_deploy.exporter.mixed_recipe import Mixture


@click.command("quantize", short_help="Find the cheapest mixture of number formats that keeps a quality.")
@options.person
@options.backends
@click.option("--recipe", type=click.Choice(["mixed"]), hidden=True, expose_value=False)  # it had one choice
@options.renamed(
    "--base-recipe",
    "base",
    former="--from",
    default="w8a8",
    show_default=True,
    help="The recipe whose operations may be put back into floats.",
)
@click.option("--min-psnr", type=float, default=38.0, show_default=True, metavar="DB", help="To the float network, in dB.")
@options.size
@options.calibration
@click.option(
    "--out", type=options.PATH, default=Path("mixed.toml"), show_default=True, help="The recipe; a plot is put beside it."
)
@options.arch
@output_options
def command(console: Console, backends: str, out: Path, base: str, min_psnr: float, **kwargs: Any) -> None:
    """Find which operations must stay in floating point, prove it in each runtime, and write it as a recipe.

    \b
    mfs quantize --checkpoint C --source photo.jpg --calibration photos/ --min-psnr 38 --out mine.toml
    mfs export   --checkpoint C --source photo.jpg --calibration photos/ --recipe mine.toml --out bundles/face01
    """
    from mfs_deploy.errors import OutputError, UsageError
    from mfs_deploy.exporter import mixed_recipe
    from mfs_deploy.exporter.request import Formats
    from mfs_deploy.quant.recipes import to_toml

    if out.suffix != ".toml":
        raise UsageError(f"--out {out.name}: a recipe is written as .toml")
    if not out.parent.is_dir():
        raise OutputError(f"{out.parent} is not a folder", hint="create it, or choose another --out")
    formats = Formats(options.parse_backends(backends), base, calibration=options.pop_calibration(kwargs))
    found = mixed_recipe.mix(options.pop_network(kwargs), options.pop_person(kwargs), formats, min_psnr, console)
    out.write_text(to_toml(found.recipe), "utf-8")
    picture = plot(found, min_psnr, out.with_suffix(".png"))
    data = {
        "recipe": str(out),
        "plot": picture,
        "psnr_db": found.measured_psnr_db,
        "bytes": found.bytes,
        "layers": [vars(one) for one in found.sensitivity],
        "steps": [vars(one) for one in found.steps],
        "floats": list(found.recipe.layers),
    }
    console.result(data, summary(found, out, picture))


def summary(found: Mixture, out: Path, picture: str | None) -> str:
    floats = set(found.recipe.layers)
    header = ("operation", "kind", "alone", "all but it", "format")
    rows = [
        (s.name, s.kind, f"{s.alone_psnr_db:.1f} dB", f"{s.others_psnr_db:.1f} dB", "float" if s.name in floats else "integer")
        for s in found.sensitivity
    ]
    lines = [table(header, rows), ""]
    lines += [f"{name}: {psnr:.1f} dB, {found.bytes[name] / 1e6:.2f} MB" for name, psnr in found.measured_psnr_db.items()]
    lines.append(f"recipe: {out}" + ("" if picture is None else f", picture: {picture}"))
    return "\n".join(lines)


def plot(found: Mixture, min_psnr: float, path: Path) -> str | None:
    """The trade-off as a picture, or None where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([s.cost / 3 for s in found.steps], [s.psnr_db for s in found.steps], "o-", label="tried in simulation")
    axes.axhline(min_psnr, linestyle="--", linewidth=1, label="asked for")
    axes.set(xlabel="share of the network in floating point (bytes, multiply-adds, values)", ylabel="PSNR to the float network, dB")
    axes.legend()
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return str(path)
