"""A converted network with places for one person's weights, and how weights are put there.  numpy alone.

All identities of a checkpoint share one graph, so two converted files differ only in the bytes of the weights that the generator
predicts.  A template is the files of one of them, with a list of slots: which weights lie where, and in what form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.errors import ConversionError
from mfs_deploy.stamping.encodings import REPRESENTATIONS, to_counts

Array = NDArray[Any]
NOBODY = "0" * 64  # in place of a person's hash
DIGEST = "sha256"  # as a slot's ``weights``: the hash of all weights, in hexadecimal


@dataclass(frozen=True)
class Slot:
    """One array in one file.

    Attributes:
        file, offset, length: where, in bytes.
        weights: key of the baked network, or ``DIGEST``.
        factor: what the rewrites multiply those weights by; exact.
        representation, part: which array of ``forms.REPRESENTATIONS``; of a bias in integers, which of ``forms.BIASES``.
        axes: the order of its axes in the file.
        times: what steps are multiplied by where they are a bias's.
        counted_by: of a bias in integers, the key of the weights by whose int8 steps, ``times`` so much, it is counted.
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
        files: relative POSIX path to content; weights of the probe are in the slots.
        info: the artifact's ``ArtifactInfo``, as a dict.
        versions: of the packages that converted it.
    """

    backend: str
    arch: str
    size: int
    recipe: dict[str, Any]
    files: Mapping[str, bytes]
    slots: tuple[Slot, ...]
    info: dict[str, Any]
    versions: dict[str, str]


@dataclass
class Weights:
    """One person's baked weights, float32 by key, and what has been made of them so far: backends share it."""

    baked: Mapping[str, Array]
    digest: str
    _made: dict[tuple[str, float, str], tuple[Array, ...]] = field(default_factory=dict)

    def form(self, slot: Slot) -> bytes | memoryview:
        """The bytes that belong into ``slot``.

        Raises:
            ConversionError: float16 cannot hold a weight, or the slot is of another network.
        """
        if slot.weights == DIGEST:
            return self.digest.encode("ascii")
        for name in filter(None, (slot.weights, slot.counted_by)):
            if name not in self.baked or not self.baked[name].ndim:
                raise _misfit(f"the network has no weights {name}")
        if slot.counted_by:
            return self._counted(slot).tobytes()
        key = (slot.weights, slot.factor, slot.representation)
        if key not in self._made:
            weights = self.baked[slot.weights]
            if slot.factor != 1:
                weights = weights * np.float32(slot.factor)
            with np.errstate(over="ignore"):
                made = REPRESENTATIONS[slot.representation](weights)
            if not all(np.isfinite(part).all() for part in made if part.dtype == np.float16):
                raise ConversionError(
                    f"{slot.weights} has a weight that float16 cannot hold: it ends at 65,504", hint="use the recipe fp32"
                )
            self._made[key] = made
        if slot.part >= len(self._made[key]):
            raise _misfit(f"{slot.weights} has no form {slot.representation}")
        array = self._made[key][slot.part]
        if array.ndim != len(slot.axes):
            raise _misfit(f"{slot.weights} has {array.ndim} axes, and the template names {len(slot.axes)}")
        if slot.times is not None:
            array = (array * np.float32(slot.times)).astype(np.float32)
        return np.ascontiguousarray(array.transpose(slot.axes)).tobytes()

    def _counted(self, slot: Slot) -> Array:
        assert slot.times is not None
        bias = self.baked[slot.weights]
        steps = bias_steps(self.baked[slot.counted_by], slot.times)
        if bias.shape != steps.shape:
            raise _misfit(f"{slot.weights} is no bias of {slot.counted_by}")
        try:
            return to_counts(bias * np.float32(slot.factor), steps, slot.representation)
        except OverflowError as exc:
            raise ConversionError(f"{slot.weights} is {exc} of {slot.counted_by}", hint="use --full-conversion") from None


def bias_steps(weights: Array, times: float) -> Array:
    """Of the bias of a convolution with these weights, whose input has steps of ``times``."""
    _, steps = REPRESENTATIONS["int8"](weights)
    return (steps * np.float32(times)).astype(np.float32)


def stamp(template: Template, weights: Weights) -> dict[str, bytearray]:
    """The files of one person: relative path to content.

    Raises:
        ConversionError: the weights are not those of this network, or do not fit into its formats.
    """
    files = {name: bytearray(content) for name, content in template.files.items()}
    for slot in template.slots:
        made = weights.form(slot)
        if len(made) != slot.length:
            raise _misfit(f"{slot.weights} takes {len(made)} bytes, and there is room for {slot.length}")
        files[slot.file][slot.offset : slot.offset + slot.length] = made
    return files


def write_files(files: Mapping[str, bytes | bytearray], folder: Path) -> None:
    """By relative POSIX path; folders on the way are made."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _misfit(what: str) -> ConversionError:
    return ConversionError(what, hint="build the template again", kind="template")
