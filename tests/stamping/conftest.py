"""People of a small network, and a made-up converter, where the real ones would show no more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mfs_deploy.stamping.template import PersonWeights, Template, WeightPlace

SHAPES = {"a.weight": (6, 4, 3, 3), "b.weight": (5, 6, 1, 1), "c.weight": (4, 7)}


@pytest.fixture
def person() -> Callable[[int], PersonWeights]:
    """A seed to the weights of somebody."""

    def make(seed: int) -> PersonWeights:
        rng = np.random.default_rng(seed)
        baked = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in SHAPES.items()}
        return PersonWeights(baked, f"{seed:064x}")

    return make


@pytest.fixture
def convert() -> Callable[[PersonWeights], dict[str, bytes]]:
    """Two files: one tensor in float16 and channels last, one in int8 with a bias's steps, one as it is; and the hash."""
    from mfs_deploy.quant.scales import weights_to_int8

    def make(person: PersonWeights) -> dict[str, bytes]:
        a, b, c = person.baked.values()
        integers, steps = weights_to_int8(b * np.float32(2), 0)
        first = [
            b"head",
            a.transpose(0, 2, 3, 1).astype(np.float16).tobytes(),
            b"between",
            person.digest.encode(),
            integers.tobytes(),
            steps.tobytes(),
            (steps * np.float32(0.3)).tobytes(),
            b"tail",
        ]
        return {"swap.param": b"".join(first), "swap.bin": c.T.tobytes()}

    return make


@pytest.fixture
def template() -> Callable[..., Template]:
    """Files and places to a template as a backend with two files has it."""
    from dataclasses import asdict, fields

    from mfs_deploy.backends.base import ArtifactInfo
    from mfs_deploy.quant import recipes

    info = {f.name: None for f in fields(ArtifactInfo)}

    def make(files: dict[str, bytes], places: tuple[WeightPlace, ...]) -> Template:
        recipe = asdict(recipes.load("fp16"))
        return Template("ncnn", "mobilefaceswap", 224, recipe, files, places, info, {"ncnn": "1.0"})

    return make
