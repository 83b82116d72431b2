"""A contact sheet of rendered people: ``python -m models.demo.training.sheet OUT.png [SEED]``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from mfs_deploy.demo.rendering.attributes import Attributes, sample_attributes
from mfs_deploy.demo.rendering.people import People, sample_people
from mfs_deploy.demo.rendering.render import (
    crop_view,
    render,
    render_swap,
    scene_landmarks,
)


def _aligned(people: People, attributes: Attributes, size: int) -> Tensor:
    return render(people, attributes, size, crop_view(scene_landmarks(people, attributes), size)).image


def sheet(seed: int = 0, size: int = 224) -> Tensor:
    """(3, H, W) in [0, 1].  Rows: frames; then target, source, result, mask; one identity; one set of attributes."""
    people, others = sample_people(8, seed), sample_people(8, seed + 1)
    scenes, more = sample_attributes(8, seed), sample_attributes(8, seed + 1)
    target, result = render_swap(people, others, scenes, size, crop_view(scene_landmarks(people, scenes), size))
    rows = [
        render(people, scenes, size).image,
        target.image,
        _aligned(others, more, size),
        result.image,
        target.mask.expand(-1, 3, -1, -1),
        _aligned(people.take([0] * 8), more, size),
        _aligned(others, scenes.take([0] * 8), size),
    ]
    return torch.cat([torch.cat(list(row), 2) for row in rows], 1)


def main() -> None:
    from PIL import Image

    out, seed = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    pixels = (sheet(seed).permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(out)


if __name__ == "__main__":
    main()
