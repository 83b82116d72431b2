"""mfs doctor: try every backend."""

from __future__ import annotations

from dataclasses import asdict

import click

from mfs_deploy.commands.console import Console, output_options
from mfs_deploy.commands.tables import table


@click.command("doctor", short_help="Try every backend on this machine.")
@output_options
def command(console: Console) -> int:
    """Try every backend: is it installed, does it convert and run, and if not, what to do; then which recipes each has.

    Exit code 6 if an installed backend does not work.
    """
    from mfs_deploy.evaluate import doctor as diagnosis

    found = diagnosis.examine(console)
    console.finish()
    rows = [(d.backend, "yes" if d.installed else "no", d.versions or "-", d.state, d.advice or "-") for d in found]
    text = table(("backend", "installed", "versions", "works", "to do"), rows)
    recipes = diagnosis.recipes_by_backend()
    grid = [(name, *("yes" if has else "-" for has in backends.values())) for name, backends in recipes.items()]
    text += "\n\n" + table(("recipe", *(d.backend for d in found)), grid)
    console.result({"backends": [asdict(d) for d in found], "recipes": recipes}, text)
    return 6 if any(d.installed and not d.works for d in found) else 0
