"""mfs identity: read a photo once, keep the identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mfs_deploy.commands import options
from mfs_deploy.commands.console import Console, output_options

WARNING = (
    "This file is biometric data: it identifies a person as a fingerprint does. Keep it encrypted, share it with nobody, "
    "and delete it when the person asks."
)


@click.command("identity", short_help="Read a photo once, keep the identity.")
@click.argument("photo", metavar="PHOTO")
@options.checkpoint
@options.encoder
@options.location()
@options.detector
@click.option("--out", type=options.PATH, default=Path("identity.safetensors"), show_default=True, help="The file to write.")
@options.arch
@output_options
def command(console: Console, photo: str, out: Path, **kwargs: Any) -> None:
    """Read a person's identity from PHOTO into a file that 'mfs export --identity' takes."""
    from mfs_deploy.bundle.provenance import weights_sha256
    from mfs_deploy.checkpoint import identity_file
    from mfs_deploy.exporter.prepare import find_person, open_models
    from mfs_deploy.exporter.request import Person, check_network, check_person

    network, person = options.pop_network(kwargs), Person(photo, options.pop_location(kwargs))
    check_network(network)
    check_person(person)
    console.start(2)
    models = open_models(network, console)
    identity = find_person(person, models, console).identity
    assert models.encoder is not None  # find_person read the photo with it
    encoder_sha256 = weights_sha256(models.encoder.state_dict())
    identity_file.save(out, identity.embedding, identity.feature_map, encoder_sha256, network.arch)
    console.finish()
    console.result({"identity": str(out), "biometric": True, "notice": WARNING}, f"{out}\n{WARNING}")
