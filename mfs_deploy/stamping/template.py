"""Templates: a converted network, and the places of one person's weights in its files.  NumPy only.

All identities of a checkpoint share one graph, so two converted files differ only in the bytes of the weights that the generator
predicts.  A template is the files of one of them, with a list of places: which weights are where, in which encoding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.errors import ConversionError
from mfs_deploy.stamping.encodings import REPRESENTATIONS, quantized

Array = NDArray[Any]
NO_WEIGHTS_SHA256 = "0" * 64  # where there is no person whose weights could be hashed
DIGEST = "sha256"  # as a ``WeightPlace.weights``: the hash of all weights, in hexadecimal


@dataclass(frozen=True)
class WeightPlace:
    """One array in one file.

    Attributes:
        file, offset, length: where, in bytes.
        weights: key of the baked network, or ``DIGEST``.
        factor: what the rewrites multiply those weights by; exact.
        representation, part: which array of ``encodings.REPRESENTATIONS``; for a quantized bias, which of ``encodings.BIASES``.
        axes: the order of its axes in the file.
        times: the factor of steps where they are a bias's.
        counted_by: for a quantized bias, the key of the weights whose int8 steps, times ``times``, are its steps.
    """

    file: str
    offset: int
    length: int
    weights: str
    factor: float = 1.0
    representation: str = ""
    part: int = 0
    axes: tuple[int, ...] = ()
    times: float | None = None
    counted_by: str = ""


@dataclass(frozen=True)
class Template:
    """One backend's artifact at one recipe.

    Attributes:
        files: relative POSIX path to content; the places hold the weights of the person it was made from.
        info: the artifact's ``ArtifactInfo``, as a dict.
        versions: of the packages that converted it.
    """

    backend: str
    arch: str
    size: int
    recipe: dict[str, Any]
    files: Mapping[str, bytes]
    places: tuple[WeightPlace, ...]
    info: dict[str, Any]
    versions: dict[str, str]


@dataclass
class PersonWeights:
    """One person's baked weights, float32 by key, and their encodings so far, which backends share.  ``digest`` is their hash."""

    baked: Mapping[str, Array]
    digest: str
    _made: dict[tuple[str, float, str], tuple[Array, ...]] = field(default_factory=dict)

    def encoded(self, place: WeightPlace) -> bytes | memoryview:
        """The bytes for ``place``.

        Raises:
            ConversionError: a weight overflows float16, or the place is of another network.
        """
        if place.weights == DIGEST:
            return self.digest.encode("ascii")
        for name in filter(None, (place.weights, place.counted_by)):
            if name not in self.baked or not self.baked[name].ndim:
                raise _misfit(f"the network has no weights {name}")
        if place.counted_by:
            return self._quantized(place).tobytes()
        key = (place.weights, place.factor, place.representation)
        if key not in self._made:
            weights = self.baked[place.weights]
            if place.factor != 1:
                weights = weights * np.float32(place.factor)
            with np.errstate(over="ignore"):
                made = REPRESENTATIONS[place.representation](weights)
            if not all(np.isfinite(part).all() for part in made if part.dtype == np.float16):
                raise ConversionError(
                    f"{place.weights} has a weight beyond float16's largest value, 65,504", hint="use the recipe fp32"
                )
            self._made[key] = made
        if place.part >= len(self._made[key]):
            raise _misfit(f"{place.weights} has no encoding {place.representation}")
        array = self._made[key][place.part]
        if array.ndim != len(place.axes):
            raise _misfit(f"{place.weights} has {array.ndim} axes, and the template names {len(place.axes)}")
        if place.times is not None:
            array = (array * np.float32(place.times)).astype(np.float32)
        return np.ascontiguousarray(array.transpose(place.axes)).tobytes()

    def _quantized(self, place: WeightPlace) -> Array:
        assert place.times is not None
        bias = self.baked[place.weights]
        steps = bias_steps(self.baked[place.counted_by], place.times)
        if bias.shape != steps.shape:
            raise _misfit(f"{place.weights} is not a bias of {place.counted_by}")
        try:
            return quantized(bias * np.float32(place.factor), steps, place.representation)
        except OverflowError as exc:
            raise ConversionError(f"{place.weights} is {exc} of {place.counted_by}", hint="use --full-conversion") from None


def bias_steps(weights: Array, times: float) -> Array:
    """Steps (O,) of the bias of a convolution with these weights (O, ...), whose input has the step ``times``."""
    _, steps = REPRESENTATIONS["int8"](weights)
    return (steps * np.float32(times)).astype(np.float32)


def stamp(template: Template, weights: PersonWeights) -> dict[str, bytearray]:
    """The files of one person: relative path to content.

    Raises:
        ConversionError: the weights are of another network, or overflow a number format.
    """
    files = {name: bytearray(content) for name, content in template.files.items()}
    for place in template.places:
        made = weights.encoded(place)
        if len(made) != place.length:
            raise _misfit(f"{place.weights} takes {len(made)} bytes, its place has {place.length}")
        files[place.file][place.offset : place.offset + place.length] = made
    return files


def write_files(files: Mapping[str, bytes | bytearray], folder: Path) -> None:
    """Write files by their relative POSIX path below ``folder``, with the folders in between."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _misfit(what: str) -> ConversionError:
    return ConversionError(what, hint="build the template again", kind="template")
