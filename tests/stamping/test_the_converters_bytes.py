"""Stamped files of a person whom no template has seen are, byte for byte, what each converter makes of that person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from mfs_deploy import architectures, files
from mfs_deploy.backends import launch
from mfs_deploy.backends.job import Job
from mfs_deploy.bundle import provenance
from mfs_deploy.quant import ranges, recipes
from mfs_deploy.stamping import build, template_file
from mfs_deploy.stamping.template import (
    PersonWeights,
    Template,
    stamp,
    write_files,
)

SEED = 1
# Between them every form of weights but those of six bits and of float16 scales: recipes share a converter's way of storing them.
WANTED = [
    *[(backend, "fp16") for backend in ("onnx", "tflite", "ncnn", "coreml")],
    *[(backend, "w8a8") for backend in ("onnx", "ncnn", "coreml")],
    ("coreml", "pal4"),
]

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def jobs(graph, crop) -> Callable[[str], list[Job]]:
    seen = {name: (r.low, r.high) for name, r in ranges.observe(graph, crop).items()}

    def make(digest: str) -> list[Job]:
        return [
            Job(
                backend=backend,
                arch="mobilefaceswap",
                size=224,
                recipe=asdict(recipe := recipes.load(name)),
                convert=True,
                metadata={"name": "somebody", provenance.WEIGHTS_KEY: digest},
                ranges=seen if recipe.is_static else {},
            )
            for backend, name in WANTED
        ]

    return make


@pytest.fixture(scope="module")
def portrait_weights(net) -> PersonWeights:
    baked = net.state_dict()
    return PersonWeights(build.arrays(baked), provenance.weights_sha256(baked))


@pytest.fixture(scope="module")
def made(once, jobs, net, portrait_weights) -> Callable[[str, str], tuple[Template, dict[str, bytes]]]:
    """Backend and recipe to the template, read back from its file, and what the converter made of the portrait."""
    from mfs_deploy.architectures.mobilefaceswap.generator import Generator
    from testing import standin

    def convert_and_stamp(folder: Path) -> None:
        generator = Generator().eval()
        standin.fill(generator, SEED)
        built, reasons = build.build(jobs, architectures.get("mobilefaceswap"), generator)
        assert reasons == {}
        for name, template in built.items():
            files.write(folder / f"{'-'.join(name)}.safetensors", template_file.pack([template], {}, {}))
        target = np.zeros((1, 3, 224, 224), np.float32)
        with launch.scratch() as scratch:
            for one in launch.run(jobs(portrait_weights.digest), target, scratch, weights=net.state_dict()):
                artifact = f"{one.job.backend}-{one.job.recipe_name}"
                write_files(build.read(one.folder / "out"), folder / "converted" / artifact)

    folder = once("stamped-and-converted", convert_and_stamp)

    def read(backend: str, recipe: str) -> tuple[Template, dict[str, bytes]]:
        (template,), _, _ = template_file.unpack(folder / f"{backend}-{recipe}.safetensors")
        return template, build.read(folder / "converted" / f"{backend}-{recipe}")

    return read


@pytest.mark.parametrize(("backend", "recipe"), WANTED)
def test_stamped_files_are_the_converter_s_byte_for_byte(made, portrait_weights, backend, recipe):
    template, converted = made(backend, recipe)
    assert not any(converted[name] == content for name, content in template.files.items() if name.endswith((".bin", ".onnx")))
    stamped = stamp(template, portrait_weights)
    assert stamped.keys() == converted.keys()
    for name, content in converted.items():
        assert bytes(stamped[name]) == content, name


@pytest.mark.parametrize(("backend", "recipe"), WANTED)
def test_nothing_of_the_probe_is_left_in_a_stamped_file(made, portrait_weights, backend, recipe):
    """A template carries the weights of a random person; stamped, none of that person's may remain."""
    template, _ = made(backend, recipe)
    stamped = stamp(template, portrait_weights)
    for place in template.places:
        before = template.files[place.file][place.offset : place.offset + place.length]
        assert bytes(stamped[place.file]).find(before) == -1, place.weights
