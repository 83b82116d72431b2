"""A worker's job and its result, which pass between ``launch.py`` and ``worker.py`` as files.

A job is a folder:

    job.json             Job, as JSON
    weights.safetensors  the baked network, where something is to be converted
    targets.npy          crops (N, 3, S, S) float32
    out/                 the artifact
    outputs/             an array for each of the contract's outputs, (N, C, S, S) float32, under its name
    layers.npz           the value of each layer for the first crop, where that is asked for
    sections.json        names of the marked sections, in order, where that is asked for
    result.json | error.json
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from numpy.typing import NDArray

OUTPUTS = "outputs"
LAYERS = "layers.npz"
SECTIONS = "sections.json"


@dataclass(frozen=True)
class Job:
    """One artifact to convert, open and run.

    Attributes:
        recipe: what ``recipes.from_dict`` takes.
        ranges: lowest and highest by name of node; empty where the recipe needs none.
        convert: false to run the artifact at ``artifact`` without converting.
        artifact: path of the artifact's first file; set by the worker where it converts.
        time: whether to measure how long a frame takes.
        runs: frames to time one by one, after a warm-up.
        layers: whether to save the value of every layer for the first crop.
        count_layers: whether to run the sections of the artifact, each behind a mark.
        count: frames to run between marks for the counting plugin (``devices/arm64/armcount.c``).
    """

    backend: str
    arch: str
    size: int
    recipe: dict[str, Any]
    convert: bool
    artifact: str = ""
    keep_float32: tuple[str, ...] = ()
    metadata: dict[str, str] | None = None
    coreml_io: str = "image"
    tflite_io: str = "float32"
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    time: bool = False
    runs: int = 0
    layers: bool = False
    count: int = 0
    count_layers: bool = False

    @property
    def recipe_name(self) -> str:
        return str(self.recipe["name"])

    @property
    def key(self) -> tuple[str, str]:
        """Backend and recipe: one of each for every artifact of a person."""
        return self.backend, self.recipe_name

    @classmethod
    def of_artifact(cls, folder: Path, backend: str, arch: str, size: int, recipe: dict[str, Any]) -> Job:
        """To run the artifact in ``folder`` without converting."""
        return cls(backend=backend, arch=arch, size=size, recipe=recipe, convert=False).as_runnable(folder)

    def as_runnable(self, folder: Path) -> Job:
        """This job once it is converted: its artifact is in ``folder``."""
        from mfs_deploy.backends.registry import BACKENDS

        return replace(self, convert=False, artifact=str((folder / BACKENDS[self.backend].FILES[0]).resolve()))


class FrameTiming(TypedDict):
    """``first_ms`` of the first frame, ``times_ms`` of each of ``Job.runs`` frames after a warm-up, and ``peak_mb``, the process's
    peak memory in MiB, Python included; None where the system does not tell it."""

    first_ms: float
    times_ms: list[float]
    peak_mb: float | None


class Timing(FrameTiming):
    """``load_ms``: to open the artifact."""

    load_ms: float


@dataclass(frozen=True)
class Result:
    """What a worker reports: ``info`` is ``ArtifactInfo`` as a dict, ``pixels`` as in ``Runner``; the last two where asked for."""

    backend: str
    runtime: str
    pixels: bool
    convert_s: float
    info: dict[str, Any]
    frame_ms: float | None
    timing: Timing | None = None


def save_array(path: Path, array: NDArray[Any]) -> None:
    """As ``np.save``, but through Python's own writes: numpy's lose the error number of a full disk."""
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array)
    path.write_bytes(buffer.getbuffer())
