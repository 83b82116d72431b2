"""Blind matching: can a person who knows nothing of the pictures tell whose face was put into each?

    python -m models.demo.blind sheets --out SHEETS --key key.json
    python -m models.demo.blind score --key key.json --answers answers.json

A sheet shows one swapped face and four photos, A to D, of which one is the source.  Names of files tell nothing, and the key lies
elsewhere.  ``answers.json`` maps names of sheets to letters.  By chance a quarter is right.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from models.demo.training.samples import make

FIRST_SEED = 900_200_000  # held out, and not among the people that other figures are of
SIZE = 224
LETTERS = "ABCD"
GAP, HEADER = 16, 30


@click.group()
def main() -> None:
    """Blind matching of swapped faces and sources."""


@main.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the sheets; new or empty.")
@click.option("--key", type=click.Path(path_type=Path), required=True, help="File for the right answers, outside of --out.")
@click.option("--count", type=click.IntRange(1), default=60, show_default=True)
@click.option("--truth", is_flag=True, help="Show the exact results instead of the network's: what a perfect network would score.")
def sheets(out: Path, key: Path, count: int, truth: bool) -> None:
    """Draw the sheets."""
    if out.exists() and any(out.iterdir()):
        raise click.ClickException(f"{out} holds files; give a new folder")
    if key.resolve().is_relative_to(out.resolve()):
        raise click.ClickException(f"--key {key} lies beside the sheets; give a place outside of {out}")
    out.mkdir(parents=True, exist_ok=True)
    sources, target, result, _ = make(count, FIRST_SEED, SIZE, source_size=SIZE)
    shown = result if truth else swapped(sources, target)
    right = {}
    rng = np.random.default_rng(FIRST_SEED)
    for i in range(count):
        others = rng.choice([j for j in range(count) if j != i], len(LETTERS) - 1, replace=False)
        order = rng.permutation([i, *others])
        name = f"sheet-{i + 1:02}"
        right[name] = LETTERS[int(np.flatnonzero(order == i)[0])]
        sheet(shown[i], [sources[j] for j in order]).save(out / f"{name}.png", optimize=True)
    key.write_text(json.dumps(right, indent=1) + "\n", "utf-8")
    click.echo(f"{count} sheets in {out}; answer with {{sheet name: letter}} as JSON")


@main.command()
@click.option("--key", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--answers", type=click.Path(path_type=Path, exists=True), required=True)
def score(key: Path, answers: Path) -> None:
    """Print the share of right answers, with its 95% interval, and the sheets that were told wrong."""
    right, given = (_letters(path) for path in (key, answers))
    if right.keys() != given.keys():
        raise click.ClickException(f"answers are of other sheets: {sorted(right.keys() ^ given.keys())[:5]} are in one file alone")
    wrong = [name for name in sorted(right) if right[name] != given[name]]
    n = len(right)
    low, high = wilson(n - len(wrong), n)
    click.echo(f"{n - len(wrong)} of {n} right: {1 - len(wrong) / n:.1%} (95% interval {low:.1%} to {high:.1%})")
    for name in wrong:
        click.echo(f"{name}: {given[name]}, right is {right[name]}")


def swapped(sources: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(N, 3, S, S) uint8 by the shipped weights, from sources at 224 as users' photos are."""
    from mfs_deploy.architectures.mobilefaceswap import architecture
    from mfs_deploy.architectures.mobilefaceswap.generator import Generator
    from mfs_deploy.checkpoint import load
    from mfs_deploy.demo import example
    from models.demo.training.evaluate import predict

    checkpoint = load.load(*example.weights(), arch="mobilefaceswap")
    assert checkpoint.encoder is not None
    generator, encoder = architecture.generator(checkpoint.generator), architecture.encoder(checkpoint.encoder)
    assert isinstance(generator, Generator)
    made = []
    for source, target in zip(sources, targets, strict=True):
        predicted = predict(generator, encoder, np.ascontiguousarray(source.permute(1, 2, 0).numpy()))
        with torch.inference_mode():
            made.append(generator.swap(predicted, target[None].float() / 255)[0])
    return (torch.cat(made).clamp(0, 1) * 255).round().byte()


def sheet(face: torch.Tensor, people: list[torch.Tensor]) -> Image.Image:
    """One swapped face on the left, at twice its size; four photos on the right."""
    side = 2 * SIZE + GAP
    picture = Image.new("RGB", (side + 2 * SIZE + 4 * GAP, 2 * (SIZE + HEADER) + 3 * GAP), (255, 255, 255))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(20)
    draw.text((GAP, GAP), "who is this?", (0, 0, 0), font)
    picture.paste(_image(face).resize((2 * SIZE, 2 * SIZE), Image.Resampling.BICUBIC), (GAP, GAP + HEADER))
    for i, person in enumerate(people):
        x, y = side + 2 * GAP + (i % 2) * (SIZE + GAP), GAP + (i // 2) * (SIZE + HEADER + GAP)
        draw.text((x, y), LETTERS[i], (0, 0, 0), font)
        picture.paste(_image(person), (x, y + HEADER))
    return picture


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927)."""
    share = right / n
    centre, spread = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)


def _image(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))


def _letters(path: Path) -> dict[str, str]:
    try:
        content: Any = json.loads(path.read_text("utf-8"))
    except ValueError as exc:
        raise click.ClickException(f"{path} is not JSON: {exc}") from exc
    if not isinstance(content, dict) or not content or not all(value in tuple(LETTERS) for value in content.values()):
        raise click.ClickException(f"{path} must map names of sheets to one of {', '.join(LETTERS)}")
    return content


if __name__ == "__main__":
    main()
