"""Finds where a converter put each weight tensor: every encoding of it is searched in every file, and must occur exactly once."""

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
    quantized,
)
from mfs_deploy.stamping.template import DIGEST, WeightPlace, bias_steps

Array = NDArray[Any]


def factors(
    baked: Mapping[str, Array], simplified: Mapping[str, Array], other: Mapping[str, Array], other_simplified: Mapping[str, Array]
) -> dict[str, float]:
    """The baked weights that differ between two people, and their factors in the simplified network.

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
            raise ConversionError(f"{name} depends on the person and is not one predicted tensor times a power of two")
    if missing := changing - set(found):
        raise ConversionError(f"{', '.join(sorted(missing))}: predicted, but not found in the simplified network")
    return found


def places(
    files: Mapping[str, bytes],
    baked: Mapping[str, Array],
    factors: Mapping[str, float],
    digest: str,
    scales: Iterable[float],
    representations: Sequence[str] = tuple(REPRESENTATIONS),
) -> tuple[WeightPlace, ...]:
    """A place for every array of weights, ordered by file and offset.

    Args:
        files: what the converter wrote for the person with these weights.
        factors: as ``factors`` returns them.
        digest: the hash of all weights, which artifacts carry in their metadata.
        scales: of inputs; a bias's steps may be multiplied by one of them.
        representations: those that the converter may have used.

    Raises:
        ConversionError: weights are not found, or in more than one place or encoding.
    """
    found = list(_all(files, digest.encode("ascii"), weights=DIGEST))
    steps = sorted(set(scales) - {1.0})  # times one they are the weights' own steps, which are searched anyway
    for key, factor in sorted(factors.items(), key=lambda item: (-baked[item[0]].ndim, item[0])):  # biases last
        weights = baked[key] * np.float32(factor)
        own = [place for name in representations for place in _stored(files, key, factor, name, weights, steps)]
        if weights.ndim == 1:
            own += [place for of in found if of.times is not None for place in _quantized(files, key, factor, weights, of, baked)]
        names = {place.representation for place in own}
        if len(names) != 1:
            where = f"in {len(names)} encodings: {', '.join(sorted(names))}" if names else "in no encoding"
            raise ConversionError(f"{key} is in the converted files {where}; expected exactly one")
        _check_once(key, own)
        found += own
    found.sort(key=lambda place: (place.file, place.offset))
    for a, b in pairwise(found):
        if a.file == b.file and a.offset + a.length > b.offset:
            raise ConversionError(f"{a.weights} and {b.weights} overlap in {a.file} at {b.offset}")
    return tuple(found)


def _stored(
    files: Mapping[str, bytes], key: str, factor: float, representation: str, weights: Array, steps: Sequence[float]
) -> list[WeightPlace]:
    """The places of one representation; none unless all of its arrays are found."""
    arrays = REPRESENTATIONS[representation](weights)
    found: list[WeightPlace] = []
    for part, array in enumerate(arrays):
        here: list[WeightPlace] = []
        for axes in orders(array) if part == 0 else (tuple(range(array.ndim)),):
            facts = {"weights": key, "factor": factor, "representation": representation, "part": part, "axes": axes}
            here += _all(files, np.ascontiguousarray(array.transpose(axes)).tobytes(), **facts)
            if part and array.dtype == np.float32:
                for times in steps:
                    here += _all(files, (array * np.float32(times)).astype(np.float32).tobytes(), **facts, times=times)
        if not here:
            return []
        found += here
    return found


def _quantized(
    files: Mapping[str, bytes], key: str, factor: float, bias: Array, of: WeightPlace, baked: Mapping[str, Array]
) -> Iterator[WeightPlace]:
    """The places of ``bias`` as integers, if ``of`` is the place of its steps."""
    times = float(of.times or 0) * of.factor  # exact: a factor is a power of two
    steps = bias_steps(baked[of.weights], times)
    if steps.shape != bias.shape or of.counted_by:
        return
    for dtype in BIASES:
        with contextlib.suppress(OverflowError):
            content = quantized(bias, steps, dtype).tobytes()
            facts = {"weights": key, "factor": factor, "representation": dtype, "axes": (0,)}
            yield from _all(files, content, **facts, times=times, counted_by=of.weights)


def _all(files: Mapping[str, bytes], content: bytes, **facts: Any) -> Iterator[WeightPlace]:
    for name, data in files.items():
        at = data.find(content)
        while at >= 0:
            yield WeightPlace(name, at, len(content), **facts)
            at = data.find(content, at + 1)


def _check_once(key: str, own: Sequence[WeightPlace]) -> None:
    """Raises ConversionError where an array is found twice.  A bias's steps may occur once for each of several inputs."""
    places: dict[tuple[int, float | None], list[int]] = {}
    for place in own:
        places.setdefault((place.part, place.times), []).append(place.offset)
    for (part, times), offsets in places.items():
        if len(offsets) > 1:
            what = "weights" if part == 0 else "steps" if times is None else "a bias's steps"
            raise ConversionError(f"{key}: {what} may be at {' or '.join(map(str, offsets))}")
