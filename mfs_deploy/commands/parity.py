"""mfs parity: does a bundle still do what PyTorch did when it was made?"""

from __future__ import annotations

from pathlib import Path

import click

from mfs_deploy.commands import options
from mfs_deploy.commands.console import Console, output_options
from mfs_deploy.commands.tables import parity_table


@click.command("parity", short_help="Re-check a bundle; for CI.")
@click.argument("bundle", type=options.PATH)
@output_options
def command(console: Console, bundle: Path) -> None:
    """Re-check BUNDLE: its checksums, then every artifact against its reference tensors.

    Exit code 0 if all holds, 7 if an artifact departs from PyTorch, 8 if a file was changed.
    """
    from mfs_deploy import recheck

    manifest = recheck.recheck(bundle, console)
    console.finish()
    artifacts = {name: {"recipe": artifact["recipe"], **artifact["parity"]} for name, artifact in manifest["artifacts"].items()}
    console.result({"bundle": str(bundle), "artifacts": artifacts}, parity_table(manifest))
