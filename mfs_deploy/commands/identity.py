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
@options.where()
@options.detector
@click.option("--out", type=options.PATH, default=Path("identity.safetensors"), show_default=True, help="The file to write.")
@options.arch
@output_options
def command(console: Console, photo: str, out: Path, **kwargs: Any) -> None:
    """Read a person's identity from PHOTO into a file that 'mfs export --identity' takes."""
    from mfs_deploy.bundle.provenance import weights_sha256
    from mfs_deploy.checkpoint import identity_file
    from mfs_deploy.export import prepare as preparing

    where = options.make_where(kwargs.pop("landmarks"), kwargs.pop("aligned"), kwargs.pop("face"))
    request = preparing.Request(source=photo, source_where=where, out=out, **kwargs)
    preparing.check(request)
    console.start(2)
    models = preparing.open_models(request, console)
    person = preparing.find_person(request, models, console).identity
    assert models.encoder is not None  # find_person read the photo with it
    identity_file.save(out, person.embedding, person.feature_map, weights_sha256(models.encoder.state_dict()), request.arch)
    console.finish()
    console.result({"identity": str(out), "biometric": True, "notice": WARNING}, f"{out}\n{WARNING}")
