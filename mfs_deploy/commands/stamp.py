"""mfs stamp: one person's bundle from a kit, in milliseconds and without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mfs_deploy.commands import options
from mfs_deploy.commands.console import Console, output_options
from mfs_deploy.commands.tables import table


@click.command("stamp", short_help="A photo or identity and a kit to a bundle, in milliseconds.")
@click.argument("kit", type=options.PATH)
@click.option("--source", type=options.PATH, metavar="PHOTO", help="A photo of the person.")
@click.option("--identity", type=options.PATH, help="Instead of --source: a file that 'mfs identity' wrote.")
@options.location(whose="the source photo")
@options.detector
@click.option("--out", type=options.PATH, required=True, help="The bundle's folder; a bundle that is there is replaced.")
@options.backends
@options.kit_recipe
@output_options
def command(console: Console, kit: Path, backends: str, **kwargs: Any) -> None:
    """Stamp a person's weights into the templates of KIT (see mfs kit pack).

    Parity is not measured: that the bytes are the converter's was proven when the templates were built. 'mfs export' measures it.
    """
    from mfs_deploy.stamping import person

    request = person.StampRequest(
        kit=kit, backends=options.parse_backends(backends), location=options.pop_location(kwargs), **kwargs
    )
    entries = person.export(request, console)
    rows = [(name, entry["recipe"], f"{entry['bytes'] / 1e6:.2f} MB") for name, entry in entries["artifacts"].items()]
    text = table(("artifact", "recipe", "size"), rows) + f"\n\nbundle: {request.out} (parity not measured)"
    console.result({"bundle": str(request.out), "manifest": entries}, text)
