"""mfs arm64: set up the emulated phone processor for parity and instruction counts."""

from __future__ import annotations

import json

import click

from mfs_deploy.commands.console import Console, output_options


@click.group("arm64", short_help="Set up an emulated arm64 machine.")
def command() -> None:
    """Phones' processors without a phone: for mfs parity --on arm64 and mfs bench --on arm64."""


@command.command("setup")
@output_options
def setup(console: Console) -> None:
    """Fetch an emulator, an arm64 Python and the runtimes' arm64 builds into the cache (half a minute, 0.5 GB; no root needed).

    Packages come from where apt and pip already get theirs; the runtimes in the versions installed here.
    """
    from mfs_deploy.devices.arm64 import machine
    from mfs_deploy.devices.arm64 import setup as arm64

    place = arm64.setup(console)
    console.finish()
    record = json.loads((place / machine.RECORD).read_text("utf-8"))
    counter = "" if record["counter"] else "; no C compiler was found, so mfs bench --on arm64 cannot count"
    text = f"{record['emulator']} with {', '.join(machine.CPUS)} is in {place}{counter}"
    console.result({"folder": str(place), "cpus": list(machine.CPUS), **record}, text)
