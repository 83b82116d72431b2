"""mfs kit: convert the graph once, so that a person takes milliseconds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mfs_deploy.commands import options
from mfs_deploy.commands.console import Console, output_options
from mfs_deploy.commands.tables import table

if TYPE_CHECKING:
    from mfs_deploy.stamping.template import Template


@click.group("kit", short_help="Convert the graph once, so that a person takes milliseconds.")
def command() -> None:
    """Kits: one file with templates, generator and encoder, for mfs stamp and mfs batch.

    A template is a converted network into which any person's weights are written, byte for byte as the converter would.
    """


def what(function: Any) -> Any:
    """The options that say which templates."""
    parts = (
        options.checkpoint,
        options.encoder,
        options.backends,
        click.option("--recipe", "recipes", multiple=True, default=["fp16"], show_default=True, help="May be given several times."),
        click.option("--calibration-ranges", "ranges", type=options.PATH, help="Of integer recipes: the ranges.json of a bundle."),
        options.size,
        options.arch,
        output_options,
    )
    for part in reversed(parts):
        function = part(function)
    return function


@command.command("build")
@what
def build(console: Console, **kwargs: Any) -> None:
    """Run the converters, find the weights in what they give, prove it on two more people, and keep it in the cache."""
    from mfs_deploy.exporter import kit as kits

    found = kits.templates(
        kits.KitRequest(options.pop_network(kwargs), options.parse_backends(kwargs.pop("backends")), **kwargs), console
    )
    console.finish()
    refused = [{"backend": b, "recipe": r, "why": why} for (b, r), why in found.reasons.items()]
    lines = [summary(found.templates), *(f"no template for {one['backend']} {one['recipe']}: {one['why']}" for one in refused)]
    console.result({"templates": [as_dict(t) for t in found.templates], "refused": refused}, "\n".join(lines))


@command.command("pack")
@what
@click.option("--out", type=options.PATH, required=True, help="The kit to write, as .safetensors.")
def pack(console: Console, out: Path, **kwargs: Any) -> None:
    """Write a kit: templates, generator and identity encoder, for servers that have numpy and ONNX Runtime alone.

    \b
    mfs kit pack --checkpoint C --recipe fp16 --out kit.safetensors
    mfs stamp kit.safetensors --identity F --out bundles/face01
    """
    from mfs_deploy.errors import OutputError
    from mfs_deploy.exporter import kit as kits
    from mfs_deploy.stamping import kit as stamping_kit

    if out.is_dir():
        raise OutputError(f"{out} is a folder", hint="name a file: --out kit.safetensors")
    made = kits.make(
        kits.KitRequest(options.pop_network(kwargs), options.parse_backends(kwargs.pop("backends")), **kwargs), console
    )
    stamping_kit.save(out, made)
    console.finish()
    data = {"kit": str(out), "bytes": out.stat().st_size, "templates": [as_dict(t) for t in made.templates]}
    console.result(data, f"{summary(made.templates)}\n\n{out}: {out.stat().st_size / 1e6:.0f} MB")


@command.command("unpack")
@click.argument("kit", type=options.PATH)
@click.option("--out", type=options.PATH, required=True, help="A folder that is not there yet.")
@output_options
def unpack(console: Console, kit: Path, out: Path) -> None:
    """Write the contents of KIT into a folder: both networks as ONNX, and the artifacts of the probe."""
    from mfs_deploy.errors import OutputError
    from mfs_deploy.stamping import kit as stamping_kit
    from mfs_deploy.stamping.template import write_files

    if out.exists():
        raise OutputError(f"{out} is there already", hint="choose another --out")
    held = stamping_kit.load(kit)
    out.mkdir(parents=True)
    networks = {stamping_kit.GENERATOR: held.generator, stamping_kit.ENCODER: held.encoder}
    for name, content in networks.items():
        if content is not None:
            (out / name).write_bytes(content)
    for number, template in enumerate(held.templates, 1):
        write_files(template.files, out / f"{number}-{template.backend}")  # the recipe's name is untrusted
    console.result({"folder": str(out), "templates": [as_dict(t) for t in held.templates]}, summary(held.templates))


def summary(templates: Iterable[Template]) -> str:
    rows = [
        (t["backend"], t["recipe"], str(t["size"]), f"{t['bytes'] / 1e6:.2f} MB", str(t["slots"])) for t in map(as_dict, templates)
    ]
    return table(("template", "recipe", "size", "bytes", "places"), rows)


def as_dict(template: Template) -> dict[str, Any]:
    return {
        "backend": template.backend,
        "recipe": template.recipe["name"],
        "size": template.size,
        "bytes": sum(map(len, template.files.values())),
        "slots": len(template.places),
    }
