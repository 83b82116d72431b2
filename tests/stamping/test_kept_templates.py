"""Templates are kept for the next person, and known by all that their bytes depend on; a cache that fails costs time only.

The converter here is made up: it writes the network's weights as they are.  Where they come from is real.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mfs_deploy import architectures
from mfs_deploy.backends import launch
from mfs_deploy.backends.base import ArtifactInfo
from mfs_deploy.backends.job import Job, Result
from mfs_deploy.backends.launch import JobResult
from mfs_deploy.bundle import provenance
from mfs_deploy.errors import ConversionError, OutputError
from mfs_deploy.graph import simplify
from mfs_deploy.quant import recipes
from mfs_deploy.stamping import build, locate, template_file

NAME = ("onnx", "fp32")


@pytest.fixture(scope="module")
def arch():
    return architectures.get("mobilefaceswap")


@pytest.fixture(scope="module")
def generator():
    from mfs_deploy.architectures.mobilefaceswap.generator import Generator
    from testing import standin

    generator = Generator().eval()
    standin.fill(generator, 1)
    return generator


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def conversions(cache, monkeypatch, arch) -> list[str]:
    """The made-up converter in place of all; a line for each time that it runs."""
    ran: list[str] = []

    def convert(jobs, weights, targets, folder, *, on_done) -> list[list[JobResult]]:
        return [one(*person, targets, folder / str(n)) for n, person in enumerate(zip(jobs, weights, strict=True))]

    def one(jobs, weights, targets, folder) -> list[JobResult]:
        network = simplify(arch.load(dict(weights)))
        content = b"".join(name.encode() + values.detach().numpy().tobytes() for name, values in network.named_parameters())
        done = []
        for job in jobs:
            place = folder / job.backend
            (place / "out").mkdir(parents=True)
            (place / "out" / "swap.onnx").write_bytes(job.metadata[provenance.WEIGHTS_KEY].encode() + content)
            ran.append(job.backend)
            info = asdict(ArtifactInfo("made up", (), (), {}, 0, {}))
            done.append(JobResult(job, Result(job.backend, "", False, 0, info, None), {"swapped": targets, "mask": targets}, place))
        return done

    monkeypatch.setattr(launch, "convert_people", convert)
    return ran


@pytest.fixture
def get(conversions, arch, generator) -> Callable[..., tuple[dict, dict]]:
    """What is asked otherwise to templates and reasons."""

    def run(**changes) -> tuple[dict, dict]:
        return build.get(jobs(**changes), arch, generator)

    return run


def jobs(**changes) -> build.Jobs:
    recipe = asdict(recipes.load("fp32"))
    job = replace(Job("onnx", "mobilefaceswap", 224, recipe, convert=True, metadata={"checkpoint": "1"}), **changes)
    return lambda digest: [replace(job, metadata={**job.metadata, provenance.WEIGHTS_KEY: digest})]


def files(cache: Path) -> set[Path]:
    return set((cache / "mfs-deploy" / "templates").iterdir())


def test_the_next_person_s_template_comes_from_the_cache_and_no_converter_runs(get, conversions, cache, monkeypatch):
    first, reasons = get()
    assert reasons == {}
    assert len(conversions) == build.PROBE_PEOPLE
    assert len(first[NAME].places) == 19

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("a converter ran")

    monkeypatch.setattr(launch, "convert_people", fail)
    again, reasons = get()
    assert reasons == {}
    assert again.keys() == first.keys()
    assert template_file.pack([again[NAME]], {}, {}) == template_file.pack([first[NAME]], {}, {})
    assert len(files(cache)) == 1


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-1], lambda content: content[:-1] + b"?"])
def test_a_damaged_kept_file_is_built_anew(get, conversions, cache, damage):
    first, _ = get()
    (kept,) = files(cache)
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    conversions.clear()
    again, reasons = get()
    assert len(conversions) == build.PROBE_PEOPLE
    assert (again, reasons) == (first, {})
    assert kept.read_bytes() == whole


def in_the_way(folder: Path) -> Path:
    (folder / "file").write_text("x")
    return folder / "file"


@pytest.mark.parametrize("place", [in_the_way, lambda folder: folder / ("x" * 300)], ids=["a file", "a name too long"])
def test_a_cache_that_cannot_be_written_costs_time_only(get, conversions, monkeypatch, tmp_path, place):
    monkeypatch.setenv("XDG_CACHE_HOME", str(place(tmp_path)))
    for _ in range(2):
        found, reasons = get()
        assert set(found) == {NAME}
        assert reasons == {}
    assert len(conversions) == 2 * build.PROBE_PEOPLE


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": asdict(replace(recipes.load("fp32"), weights="float16"))},
        {"size": 256},
        {"metadata": {"checkpoint": "2"}},
        {"ranges": {"target": (0.0, 1.0)}},
        {"ranges": {"target": (0.0, 0.5)}},
        {"coreml_io": "tensor"},
        {"tflite_io": "int8"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_the_bytes_depend_on_makes_another_file(get, conversions, cache, change):
    get()
    before = files(cache)
    conversions.clear()
    get(**change)
    assert len(conversions) == build.PROBE_PEOPLE
    assert len(files(cache) - before) == 1
    conversions.clear()
    get(**change)
    get()
    assert conversions == []


def test_another_converter_s_version_makes_another_file(get, conversions, cache, monkeypatch):
    get()
    versions = provenance.versions
    monkeypatch.setattr(provenance, "versions", lambda packages: {**versions(packages), "onnx": "0.0"})
    get()
    assert len(files(cache)) == 2


def test_a_template_that_does_not_hold_is_not_kept_and_its_reason_is_given(get, cache, monkeypatch):
    def refuse(*args: object) -> None:
        raise ConversionError("3 bytes differ")

    monkeypatch.setattr(build, "prove", refuse)
    assert get() == ({}, {NAME: "3 bytes differ"})
    assert not cache.exists()


def test_a_generator_whose_weights_are_not_found_is_a_reason_and_no_error(get, conversions, monkeypatch):
    """So that the person is converted in full."""

    def refuse(*args: object) -> None:
        raise ConversionError("a.weight: predicted, but not found")

    monkeypatch.setattr(locate, "factors", refuse)
    assert get() == ({}, {NAME: "a.weight: predicted, but not found"})
    assert conversions == []


def test_a_converter_that_fails_for_random_people_is_a_reason_and_no_error(get, monkeypatch):
    def fail(*args: object, **kwargs: object) -> None:
        raise ConversionError("beyond float16")

    monkeypatch.setattr(launch, "convert_people", fail)
    assert get() == ({}, {NAME: "beyond float16"})


def test_a_full_disk_is_an_error_and_not_a_reason(get, monkeypatch):
    def fail(*args: object, **kwargs: object) -> None:
        raise OutputError("No space left on device")

    monkeypatch.setattr(launch, "convert_people", fail)
    with pytest.raises(OutputError):
        get()
