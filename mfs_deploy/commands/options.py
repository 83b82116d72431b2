"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mfs_deploy.faces import Where

PATH = click.Path(path_type=Path)
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

checkpoint = click.option(
    "--checkpoint",
    required=True,
    metavar="PATH",
    help="checkpoints.tar, a folder with its files, or one .pdparams/.pth/.safetensors file; 'demo' for weights that know rendered "
    "faces.",
)
encoder = click.option("--identity-encoder", "encoder", type=PATH, help="The identity encoder's file, where it lies elsewhere.")
detector = click.option("--detector", type=PATH, help="A face detector with five landmarks, as ONNX: SCRFD or YuNet.")
arch = click.option("--arch", default="mobilefaceswap", show_default=True, help="The network's architecture.")


def where(prefix: str = "", whose: str = "the photo") -> Decorator:
    """--[prefix]landmarks, --[prefix]aligned and --[prefix]face: how the face in a photo is known."""
    dash = f"{prefix}-" if prefix else ""
    parts = (
        click.option(f"--{dash}landmarks", metavar="x1,y1,...,x5,y5", help=f"Eyes, nose tip, mouth corners in {whose}, pixels."),
        click.option(f"--{dash}aligned", is_flag=True, help=f"{whose.capitalize()} is an aligned crop already."),
        click.option(
            f"--{dash}face", type=click.IntRange(1), metavar="N", help=f"Which face of several in {whose}, left to right."
        ),
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for part in reversed(parts):
            command = part(command)
        return command

    return decorate


def make_where(landmarks: str | None, aligned: bool, face: int | None) -> Where:
    from mfs_deploy.errors import UsageError
    from mfs_deploy.faces import Where
    from mfs_deploy.landmarks import parse

    if landmarks is not None and (aligned or face is not None):
        raise UsageError("landmarks are given, so --aligned and --face say something else", hint="give one of them")
    return Where(None if landmarks is None else parse(landmarks), aligned, face)
