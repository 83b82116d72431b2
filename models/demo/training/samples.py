"""Rendered samples, kept as one memory-mapped array a kind, so that each is rendered once and a step only reads."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfs_deploy import files
from mfs_deploy.demo.rendering import triplets
from mfs_deploy.demo.rendering.attributes import milder, portrait, sample_attributes, soft_lens
from mfs_deploy.demo.rendering.people import People
from mfs_deploy.demo.rendering.triplets import SHARD, SOURCE_SIZE, people
from models.demo.training.state import refusing

SCENES = "milder scenes, portraits, 60% of the head's tone, soft lens"  # what a folder of samples must be of
TONE = 0.6  # share of the head's skin tone that a face takes on: a face of one tone on a head of another is what looks wrong
CONSTANTS_FROM = 500_000_000  # seed of the people over whom a number has mean 0 and deviation 1
UNREADABLE = ("texture", "moles", "scar")  # a place in the noise atlas, and lists without an order
IMAGES = ("source", "target", "result", "mask")


@dataclass(frozen=True)
class Samples:
    """N samples in memory-mapped arrays, uint8: source (N, 3, 112, 112); target, result (N, 3, S, S); mask (N, 1, S, S).

    ``numbers`` (2, N, D) float32: what makes the faces of sources and of targets (``face_numbers``).
    """

    folder: Path
    images: Mapping[str, Tensor]
    numbers: Tensor

    def __len__(self) -> int:
        return int(self.numbers.shape[1])

    def take(self, rows: Tensor, names: tuple[str, ...], *, mirrored: bool = False) -> list[Tensor]:
        """Float32 in [0, 1]."""
        taken = [self.images[name][rows].float() / 255 for name in names]
        return [image.flip(3) for image in taken] if mirrored else taken


def open_samples(folder: Path, n: int, size: int, first_seed: int) -> Samples:
    """Samples of the seeds from ``first_seed`` on, rendered where they are not there yet; a stopped run goes on.

    Raises:
        click.ClickException: the folder holds something else.
    """
    facts = {"scenes": SCENES, "samples": n, "size": size, "first_seed": first_seed}
    shapes = {"source": (n, 3, SOURCE_SIZE, SOURCE_SIZE)} | dict.fromkeys(("target", "result"), (n, 3, size, size))
    shapes["mask"] = (n, 1, size, size)
    if not (folder / "facts.json").exists():
        if folder.exists() and any(folder.iterdir()):
            raise click.ClickException(f"{folder} holds other files; move them away")
        folder.mkdir(parents=True, exist_ok=True)
        for name, shape in shapes.items():
            np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, shape)
        files.write(folder / "facts.json", json.dumps(facts).encode())
        files.write(folder / "done.json", b"0")
    with refusing(folder):
        if json.loads((folder / "facts.json").read_text("utf-8")) != facts:
            raise ValueError(f"its samples are not {facts}")
        done = json.loads((folder / "done.json").read_text("utf-8"))
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+", allow_pickle=False) for name in IMAGES}
        for name, array in arrays.items():
            if array.shape != shapes[name] or array.dtype != np.uint8:
                raise ValueError(f"{name}.npy is {array.dtype} {array.shape}")
        if type(done) is not int or not 0 <= done <= n:
            raise ValueError(f"done.json says {done!r}")
    _render(folder, arrays, done, first_seed, size)
    who = [people(seed) for seed in range(first_seed, first_seed + -(-n // SHARD))]
    numbers = torch.stack([torch.cat([face_numbers(pair[i]) for pair in who])[:n] for i in range(2)])
    return Samples(folder, {name: torch.from_numpy(array) for name, array in arrays.items()}, numbers)


def _render(folder: Path, arrays: Mapping[str, NDArray[np.uint8]], done: int, first_seed: int, size: int) -> None:
    n = len(arrays["mask"])
    if done == n:
        return
    for start in range(done - done % SHARD, n, SHARD):
        count = min(SHARD, n - start)
        for array, images in zip(arrays.values(), make(count, first_seed + start // SHARD, size), strict=True):
            array[start : start + count] = images.numpy()
        if start // SHARD % 20 == 0 or start + count == n:
            for array in arrays.values():
                array.flush()  # type: ignore[attr-defined]
            files.write(folder / "done.json", str(start + count).encode())
            click.echo(f"{folder.name}: {start + count}/{n} rendered", err=True)


def make(n: int, seed: int, size: int, source_size: int = SOURCE_SIZE) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Source, target, exact result and mask of ``n`` samples, uint8; the same seed gives the same ones."""
    sources, targets = people(seed, n)
    scenes = soft_lens(milder(sample_attributes(n, 2 * seed)), size)
    shown = soft_lens(portrait(sample_attributes(n, 2 * seed + 1)))
    toned = replace(sources, skin=torch.lerp(sources.skin, targets.skin, TONE))
    made = triplets.rendered(sources, shown, targets, toned, scenes, size, source_size)
    return made.source, made.target, made.result, made.mask


def face_numbers(faces: People) -> Tensor:
    """(N, D) what makes the faces, each number with mean 0 and deviation 1 over many people."""
    mean, deviation = _constants()
    return ((_raw(faces) - mean) / deviation).clamp(-4, 4)


def number_names() -> list[str]:
    """Of each column of ``face_numbers``."""
    (one, _) = people(0, 1)
    counts = {name: getattr(one, name).reshape(1, -1).shape[1] for name in _fields()}
    return [f"{name}.{i}" if count > 1 else name for name, count in counts.items() for i in range(count)]


@functools.cache
def _constants() -> tuple[Tensor, Tensor]:
    raw = torch.cat([_raw(people(CONSTANTS_FROM + i)[0]) for i in range(32)])
    return raw.mean(0), raw.std(0).clamp_min(1e-6)


def _raw(faces: People) -> Tensor:
    return torch.cat([getattr(faces, name).float().reshape(len(faces), -1) for name in _fields()], 1)


def _fields() -> list[str]:
    names = [f.name for f in fields(People)]
    return [name for name in names[names.index("skin") :] if name not in UNREADABLE]
