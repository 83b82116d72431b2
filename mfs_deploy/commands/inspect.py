"""mfs inspect: describe a file or folder."""

from __future__ import annotations

from pathlib import Path

import click

from mfs_deploy.commands import options
from mfs_deploy.commands.console import Console, output_options


@click.command("inspect", short_help="What a checkpoint, identity, artifact or bundle is.")
@click.argument("path", type=options.PATH)
@output_options
def command(console: Console, path: Path) -> None:
    """Say what PATH is: a checkpoint, an identity, an artifact or a bundle; verify a bundle's checksums."""
    from mfs_deploy.evaluate import inspect as inspection

    found = inspection.inspect(path, console)
    console.result(found, "\n".join(lines(found)))


def lines(data: object, indent: str = "") -> list[str]:
    """Nested data as indented ``key: value`` lines."""
    if isinstance(data, dict):
        found = []
        for key, value in data.items():
            if isinstance(value, (dict, list, tuple)) and value:
                found += [f"{indent}{key}:", *lines(value, indent + "  ")]
            else:
                found.append(f"{indent}{key}: {_text(value)}")
        return found
    if isinstance(data, (list, tuple)):
        return [line for item in data for line in _item(item, indent)]
    return [f"{indent}{_text(data)}"]


def _item(item: object, indent: str) -> list[str]:
    if isinstance(item, dict):
        return [f"{indent}- " + ", ".join(f"{k}: {_text(v)}" for k, v in item.items())]
    return [f"{indent}- {_text(item)}"]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if value in (None, "", [], (), {}) else str(value)
