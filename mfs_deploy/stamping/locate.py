"""Where a converter put each tensor of weights: every form of it is looked for in every file, and must be there exactly once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.errors import ConversionError
from mfs_deploy.stamping.encodings import (
    BIASES,
    REPRESENTATIONS,
    orders,
    to_counts,
)
from mfs_deploy.stamping.template import DIGEST, Slot, bias_steps

Array = NDArray[Any]


def sources(
    baked: Mapping[str, Array], simplified: Mapping[str, Array], other: Mapping[str, Array], other_simplified: Mapping[str, Array]
) -> dict[str, float]:
    """Which baked weights differ between two people, and by what they are multiplied in the simplified network.

    Raises:
        ConversionError: a simplified tensor that differs is not one baked tensor times a power of two.
    """
    changing = {key for key in baked if not np.array_equal(baked[key], other[key])}
    found: dict[str, float] = {}
    for name, weights in simplified.items():
        if np.array_equal(weights, other_simplified[name]):
            continue
        for key in changing:
            largest = int(np.abs(baked[key]).argmax())
            if baked[key].shape != weights.shape or baked[key].flat[largest] == 0:
                continue
            factor = float(weights.flat[largest] / baked[key].flat[largest])
            if np.frexp(factor)[0] == 0.5 and np.array_equal(baked[key] * np.float32(factor), weights):
                found[key] = factor
                break
        else:
            raise ConversionError(f"{name} depends on the person, and not on one predicted tensor times a power of two")
    if missing := changing - set(found):
        raise ConversionError(f"{', '.join(sorted(missing))}: predicted, but not found in the simplified network")
    return found


def slots(
    files: Mapping[str, bytes],
    baked: Mapping[str, Array],
    factors: Mapping[str, float],
    digest: str,
    scales: Iterable[float],
    representations: Sequence[str] = tuple(REPRESENTATIONS),
) -> tuple[Slot, ...]:
    """A slot for every array of weights, in order of file and place.

    Args:
        files: what the converter made of the person with these weights.
        factors: as ``sources`` gives them.
        digest: the hash of all weights, which artifacts carry in their metadata.
        scales: of inputs, by which a bias's steps may have been multiplied.
        representations: those that the converter may have used.

    Raises:
        ConversionError: weights that lie nowhere, or in more than one place or form.
    """
    found = list(_all(files, digest.encode("ascii"), weights=DIGEST))
    steps = sorted(set(scales) - {1.0})  # times one they are the weights' own steps, which are looked for anyway
    for key, factor in sorted(factors.items(), key=lambda item: (-baked[item[0]].ndim, item[0])):  # biases last
        weights = baked[key] * np.float32(factor)
        mine = [slot for name in representations for slot in _stored(files, key, factor, name, weights, steps)]
        if weights.ndim == 1:
            mine += [slot for of in found if of.times is not None for slot in _counted(files, key, factor, weights, of, baked)]
        forms = {slot.representation for slot in mine}
        if len(forms) != 1:
            where = f"in {len(forms)} forms: {', '.join(sorted(forms))}" if forms else "in no form"
            raise ConversionError(f"{key} is in the converted files {where}; exactly one is due")
        _check_once(key, mine)
        found += mine
    found.sort(key=lambda slot: (slot.file, slot.offset))
    for a, b in pairwise(found):
        if a.file == b.file and a.offset + a.length > b.offset:
            raise ConversionError(f"{a.weights} and {b.weights} overlap in {a.file} at {b.offset}")
    return tuple(found)


def _stored(
    files: Mapping[str, bytes], key: str, factor: float, representation: str, weights: Array, steps: Sequence[float]
) -> list[Slot]:
    """The slots of one representation; none unless each of its arrays is there."""
    arrays = REPRESENTATIONS[representation](weights)
    found: list[Slot] = []
    for part, array in enumerate(arrays):
        here: list[Slot] = []
        for axes in orders(array) if part == 0 else (tuple(range(array.ndim)),):
            place = {"weights": key, "factor": factor, "representation": representation, "part": part, "axes": axes}
            here += _all(files, np.ascontiguousarray(array.transpose(axes)).tobytes(), **place)
            if part and array.dtype == np.float32:
                for times in steps:
                    here += _all(files, (array * np.float32(times)).astype(np.float32).tobytes(), **place, times=times)
        if not here:
            return []
        found += here
    return found


def _counted(
    files: Mapping[str, bytes], key: str, factor: float, bias: Array, of: Slot, baked: Mapping[str, Array]
) -> Iterator[Slot]:
    """Where ``bias`` lies as integers, if ``of`` are the steps that it is counted by."""
    times = float(of.times or 0) * of.factor  # exact: a factor is a power of two
    steps = bias_steps(baked[of.weights], times)
    if steps.shape != bias.shape or of.counted_by:
        return
    for dtype in BIASES:
        with contextlib.suppress(OverflowError):
            content = to_counts(bias, steps, dtype).tobytes()
            place = {"weights": key, "factor": factor, "representation": dtype, "axes": (0,)}
            yield from _all(files, content, **place, times=times, counted_by=of.weights)


def _all(files: Mapping[str, bytes], content: bytes, **facts: Any) -> Iterator[Slot]:
    for name, data in files.items():
        at = data.find(content)
        while at >= 0:
            yield Slot(name, at, len(content), **facts)
            at = data.find(content, at + 1)


def _check_once(key: str, mine: Sequence[Slot]) -> None:
    """Each array once; a bias's steps may be wanted for several inputs."""
    places: dict[tuple[int, float | None], list[int]] = {}
    for slot in mine:
        places.setdefault((slot.part, slot.times), []).append(slot.offset)
    for (part, times), offsets in places.items():
        if len(offsets) > 1:
            what = "weights" if part == 0 else "steps" if times is None else "a bias's steps"
            raise ConversionError(f"{key}: {what} may lie at {' or '.join(map(str, offsets))}")
