"""mfs doctor: what works here."""

from __future__ import annotations

from dataclasses import asdict

import click

from mfs_deploy.commands.console import Console, output_options
from mfs_deploy.commands.tables import table


@click.command("doctor", short_help="Try every backend on this machine.")
@output_options
def command(console: Console) -> int:
    """Try every backend: is it installed, does it convert and run, and if not, what to do.

    Exit code 6 if an installed backend does not work.
    """
    from mfs_deploy import diagnosis

    found = diagnosis.examine(console)
    console.finish()
    rows = [(d.backend, "yes" if d.installed else "no", d.versions or "-", d.state, d.advice or "-") for d in found]
    text = table(("backend", "installed", "versions", "works", "to do"), rows)
    console.result({"backends": [asdict(d) for d in found]}, text)
    return 6 if any(d.installed and not d.works for d in found) else 0
