"""mfs report: one HTML page of a bundle and its results."""

from __future__ import annotations

from pathlib import Path

import click

from mfs_deploy.commands import options
from mfs_deploy.commands.console import Console, output_options


@click.command("report", short_help="One HTML page of a bundle and of what was measured on it.")
@click.argument("paths", metavar="BUNDLE|RESULTS...", nargs=-1, required=True, type=options.PATH)
@click.option("--out", type=options.PATH, default=Path("report.html"), show_default=True, help="The page to write.")
@output_options
def command(console: Console, paths: tuple[Path, ...], out: Path) -> None:
    """Write one HTML page, complete in itself, of a BUNDLE, of RESULTS (what mfs parity --json and mfs bench --json printed), or of
    a bundle and its results.

    Of a bundle every artifact is run once more, for its picture and a map of its error.  One that is outside its recipe's tolerance
    is told on the page and here; the gate is mfs parity.  The page shows the faces that the bundle's preview shows.
    """
    from mfs_deploy.report import page

    page.check_place(out, paths)
    made = page.make(paths, console)
    console.finish()
    for problem in made.problems:
        console.note(problem)
    page.write(made, out)
    console.result({"out": str(out), "problems": list(made.problems)}, str(out))
