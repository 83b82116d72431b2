"""Training samples: the source's crop, the target's crop, the exact result of the swap and its mask, rendered by seed.

The source's face is shown on a head of its own; what identifies a person here is the face that travels in a swap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mfs_deploy import files
from mfs_deploy.demo.rendering.attributes import Attributes, sample_attributes
from mfs_deploy.demo.rendering.people import People, sample_people
from mfs_deploy.demo.rendering.render import (
    crop_view,
    render,
    render_swap,
    scene_landmarks,
)

SOURCE_SIZE = 112
HELD_OUT = 900_000_000  # seeds from here on are never trained on
SHARD = 64  # samples a file


@dataclass(frozen=True)
class Triplets:
    """N samples, uint8: source (N, 3, 112, 112) unless said otherwise; target and result (N, 3, S, S); mask (N, 1, S, S)."""

    source: Tensor
    target: Tensor
    result: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.source)

    def take(self, index: Tensor) -> Triplets:
        return Triplets(self.source[index], self.target[index], self.result[index], self.mask[index])

    def floats(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four as float32 in [0, 1]."""
        return tuple(t.to(device).float() / 255 for t in (self.source, self.target, self.result, self.mask))  # type: ignore[return-value]


def make(n: int, seed: int, size: int, device: torch.device | str = "cpu", source_size: int = SOURCE_SIZE) -> Triplets:
    """Render ``n`` triplets; the same seed gives the same ones."""
    sources, targets = (side.to(device) for side in people(seed, n))
    scenes, shown = (sample_attributes(n, 2 * seed + i).to(device) for i in range(2))
    return rendered(sources, shown, targets, sources, scenes, size, source_size)


def rendered(
    sources: People, shown: Attributes, targets: People, faces: People, scenes: Attributes, size: int, source_size: int
) -> Triplets:
    """Sources as ``shown``, and targets in their ``scenes`` before and after they are given ``faces``."""
    before, after = render_swap(targets, faces, scenes, size, crop_view(scene_landmarks(targets, scenes), size))
    face = render(sources, shown, source_size, crop_view(scene_landmarks(sources, shown), source_size))
    return Triplets(*((t * 255).round().byte().cpu() for t in (face.image, before.image, after.image, before.mask)))


def targets(n: int, seed: int, size: int) -> Tensor:
    """(N, 3, S, S) in [0, 1]: the targets' crops of ``make``, without rendering the rest."""
    _, them = people(seed, n)
    scenes = sample_attributes(n, 2 * seed)
    return render(them, scenes, size, crop_view(scene_landmarks(them, scenes), size)).image


def people(seed: int, n: int = SHARD) -> tuple[People, People]:
    """The sources and the targets of ``make``."""
    return sample_people(n, 2 * seed), sample_people(n, 2 * seed + 1)


def cached(folder: Path, first: int, shards: int, size: int) -> Iterator[Triplets]:
    """Shards of ``SHARD`` triplets from seed ``first`` on, rendered once and then read from ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + shards):
        path = folder / f"{size}-{seed}.npz"
        if not path.exists():
            made = make(SHARD, seed, size)
            with files.replacing(path) as temporary:
                np.savez(temporary, **{name: getattr(made, name).numpy() for name in ("source", "target", "result", "mask")})
        with np.load(path) as arrays:
            yield Triplets(*(torch.from_numpy(arrays[name]) for name in ("source", "target", "result", "mask")))
