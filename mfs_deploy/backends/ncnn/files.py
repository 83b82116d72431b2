"""ncnn's two files, read and written byte for byte: the text ``.param`` (graph) and the binary ``.bin`` (weights).

``.param``: line 1 the magic 7767517; line 2 ``<layers> <blobs>``; then one layer a line, in the order they run::

    <type padded to 24> <name padded to 24> <inputs> <outputs> <input blobs> <output blobs> <id>=<value> ...

An array is ``-<23300 + id>=<length>,<v>,<v>``.  Values are kept as text here, so that writing gives the same bytes.

``.bin``: no header and no names; the arrays of each layer follow in the order of ``.param``, little-endian, each a multiple of 4
bytes.  An array is either *tagged* (a uint32 that names the format, then the values) or *plain* (float32 without a tag).

Source: ncnn 1.0.20261020, https://github.com/Tencent/ncnn: ``src/paramdict.cpp``, ``src/modelbin.cpp`` and ``load_model`` in
``src/layer/<type>.cpp``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.errors import BundleError

MAGIC = "7767517"
ARRAY = -23300  # the key of an array is this minus its id
MAX_LAYERS = 10_000
HINT = "the file is damaged or was not written by this tool; export the bundle again"

# tag: dtype of the values behind it.  ncnn knows three more (a 256-entry codebook, bfloat16, float32 under another tag);
# nothing here writes them, so they are refused.
TAGS = {0: "<f4", 0x01306B47: "<f2", 0x000D4B38: "|i1"}

WEIGHTLESS = frozenset({"Input", "Split", "Slice", "Concat", "Interp", "BinaryOp", "ReLU", "Sigmoid", "TanH", "Dropout", "Padding"})

_INT = re.compile(r"[+-]?\d{1,10}")
_FLOAT = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?")


@dataclass(frozen=True)
class NcnnLayer:
    """One line of ``.param``.  ``params`` has the keys as written (an array's is negative) and the values as text."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: Mapping[int, str]

    def integer(self, key: int, default: int = 0) -> int:
        """Raises BundleError where the value is not an integer."""
        text = self.params.get(key, str(default))
        if not _INT.fullmatch(text):
            raise self.error(f"parameter {key} is {text!r}, must be an integer")
        return int(text)

    def number(self, key: int, default: float = 0.0) -> float:
        return float(self.params.get(key, default))

    def numbers(self, key: int) -> tuple[float, ...]:
        """The array with id ``key``; empty where there is none."""
        return tuple(float(v) for v in self.params.get(ARRAY - key, "0").split(",")[1:])

    def error(self, what: str) -> BundleError:
        return BundleError(f"ncnn layer {self.type} {self.name!r}: {what}", hint=HINT)


@dataclass(frozen=True)
class TaggedArray:
    """One array of ``.bin``: float32, float16 or int8 values; ``tagged`` or plain, as above."""

    values: NDArray[Any]  # (n,)
    tagged: bool


NcnnWeights = dict[str, tuple[TaggedArray, ...]]  # by layer name, in the order of the file; weightless layers are absent


def parse_param(text: str) -> tuple[NcnnLayer, ...]:
    """Read ``.param``.

    Raises:
        BundleError: the magic, a count, a line, or the order of blobs is wrong; names the line.
    """
    lines = text.splitlines()
    if not lines or lines[0] != MAGIC:
        raise BundleError(f"ncnn .param begins with {lines[0][:20] if lines else ''!r}, must be {MAGIC}", hint=HINT)
    counts = lines[1].split() if len(lines) > 1 else []
    if len(counts) != 2 or not all(c.isdecimal() and len(c) < 8 for c in counts):
        raise BundleError("ncnn .param line 2 must be the number of layers and the number of blobs", hint=HINT)
    layer_count, blob_count = map(int, counts)
    if layer_count != len(lines) - 2 or layer_count > MAX_LAYERS:
        raise BundleError(f"ncnn .param announces {layer_count} layers and has {len(lines) - 2}", hint=HINT)
    layers = tuple(_parse_line(line, i) for i, line in enumerate(lines[2:], start=3))
    blobs = _check_order(layers)
    if blobs != blob_count:
        raise BundleError(f"ncnn .param announces {blob_count} blobs and has {blobs}", hint=HINT)
    return layers


def write_param(layers: tuple[NcnnLayer, ...]) -> str:
    """The inverse of ``parse_param``; the counts are computed."""
    blobs = sum(len(layer.outputs) for layer in layers)
    lines = [MAGIC, f"{len(layers)} {blobs}"]
    for layer in layers:
        head = f"{layer.type:<24} {layer.name:<24} {len(layer.inputs)} {len(layer.outputs)}"
        params = (f"{key}={value}" for key, value in layer.params.items())
        lines.append(" ".join((head, *layer.inputs, *layer.outputs, *params)))
    return "\n".join(lines) + "\n"


def read_bin(data: bytes, layers: tuple[NcnnLayer, ...]) -> NcnnWeights:
    """Read ``.bin``; ``layers`` tell which arrays it holds.

    Raises:
        BundleError: too short, too long, an unknown tag, or a layer whose arrays are not known; names the layer.
    """
    weights: NcnnWeights = {}
    at = 0
    for layer in layers:
        arrays = []
        for count, tagged in layout(layer):
            dtype = np.dtype("<f4")
            if tagged:
                tag = int.from_bytes(data[at : at + 4], "little")
                if at + 4 > len(data) or tag not in TAGS:
                    raise layer.error(f".bin has no known array tag at byte {at} of {len(data)}")
                dtype = np.dtype(TAGS[tag])
                at += 4
                if (dtype == np.int8) != (layer.integer(8) != 0):
                    raise layer.error(f"has {dtype} weights, but parameter 8 is {layer.integer(8)}")
            size = count * dtype.itemsize
            end = at + size + -size % 4
            if end > len(data):
                raise layer.error(f".bin ends at byte {len(data)}, {end} are needed")
            if any(data[at + size : end]):
                raise layer.error(f".bin has padding that is not zero at byte {at + size}")
            arrays.append(TaggedArray(np.frombuffer(data, dtype, count, at), tagged))
            at = end
        if arrays:
            weights[layer.name] = tuple(arrays)
        if not all((np.isfinite(s.values) & (s.values > 0)).all() for s in scales(layer, tuple(arrays))):
            raise layer.error("has an int8 scale that is not a positive number")
    if at != len(data):
        raise BundleError(f"ncnn .bin has {len(data)} bytes, its .param describes {at}", hint=HINT)
    return weights


def write_bin(weights: NcnnWeights, layers: tuple[NcnnLayer, ...]) -> bytes:
    """The inverse of ``read_bin``."""
    tag_of = {np.dtype(dtype): tag for tag, dtype in TAGS.items()}
    parts = []
    for layer in layers:
        for stored, (count, tagged) in zip(weights.get(layer.name, ()), layout(layer), strict=True):
            if stored.values.shape != (count,) or stored.tagged != tagged:
                raise ValueError(f"{layer.name}: {stored.values.shape} values, {count} are needed")
            values = stored.values.tobytes()
            if tagged:
                parts.append(tag_of[stored.values.dtype].to_bytes(4, "little"))
            parts.append(values + bytes(-len(values) % 4))
    return b"".join(parts)


def scales(layer: NcnnLayer, arrays: tuple[TaggedArray, ...]) -> tuple[TaggedArray, ...]:
    """The int8 scales among a layer's arrays: the last ones.  Integer = value * scale."""
    if not layer.integer(8):
        return ()
    return arrays[-3:] if layer.integer(8) > 100 else arrays[-2:]


def layout(layer: NcnnLayer) -> tuple[tuple[int, bool], ...]:
    """(values, tagged) for each array of a layer.  Raises BundleError for a type whose arrays are not known."""
    if layer.type in WEIGHTLESS:
        return ()
    if layer.type not in _LAYOUTS:
        raise layer.error("a type whose weights this reader does not know")
    arrays: tuple[tuple[int, bool], ...] = _LAYOUTS[layer.type](layer)
    if any(not 0 < count < 2**31 for count, _ in arrays):
        raise layer.error("an array without values")
    return arrays


def _convolution(layer: NcnnLayer) -> tuple[tuple[int, bool], ...]:
    """Weight (out, in / groups, kh, kw), bias (out), and for int8 the scales of weights, of the input and (8 > 100) of the output.

    Scales of weights: one per output channel; where there are groups one per group, or one in all (forms 2 and 102).
    """
    if layer.integer(19):
        raise layer.error("weights computed at run time are not supported")
    outputs, int8 = layer.integer(0), layer.integer(8)
    arrays = [(layer.integer(6), True)]
    if layer.integer(5):
        arrays.append((outputs, False))
    if int8:
        per_group = layer.type == "ConvolutionDepthWise"
        one_scale = int8 in (2, 102) and per_group
        arrays += [(1 if one_scale else layer.integer(7, 1) if per_group else outputs, False), (1, False)]
    if int8 > 100:
        arrays.append((1, False))
    return tuple(arrays)


def _inner_product(layer: NcnnLayer) -> tuple[tuple[int, bool], ...]:
    outputs = layer.integer(0)
    bias = ((outputs, False),) if layer.integer(1) else ()
    scales = ((outputs, False), (1, False)) if layer.integer(8) else ()
    return ((layer.integer(2), True), *bias, *scales)


def _scale(layer: NcnnLayer) -> tuple[tuple[int, bool], ...]:
    return ((layer.integer(0), False),) * (2 if layer.integer(1) else 1)


def _memory_data(layer: NcnnLayer) -> tuple[tuple[int, bool], ...]:
    kind = layer.integer(21, 1)
    if kind not in (0, 1):
        raise layer.error(f"stores type {kind}, must be 0 (tagged) or 1 (float32)")
    count = 1
    for key in (0, 1, 11, 2):  # w, h, d, c; those not used are 0
        count *= max(layer.integer(key), 1)
    return ((count, kind == 0),)


_LAYOUTS = {
    "Convolution": _convolution,
    "ConvolutionDepthWise": _convolution,
    "InnerProduct": _inner_product,
    "BatchNorm": lambda layer: ((layer.integer(0), False),) * 4,  # slope, mean, variance, bias
    "PReLU": lambda layer: ((layer.integer(0), False),),
    "Scale": _scale,
    "MemoryData": _memory_data,
}


def _parse_line(line: str, number: int) -> NcnnLayer:
    def error(what: str) -> BundleError:
        return BundleError(f"ncnn .param line {number}: {what}", hint=HINT)

    words = [w for w in line.split(" ") if w]
    if not line.isascii() or not line.isprintable() or len(words) < 4 or not all(w.isdecimal() for w in words[2:4]):
        raise error("must be a type, a name, two counts, blobs and parameters")
    inputs, outputs = (int(w[:6]) for w in words[2:4])
    blobs, pairs = words[4 : 4 + inputs + outputs], words[4 + inputs + outputs :]
    if len(blobs) != inputs + outputs or any("=" in b for b in blobs) or max(map(len, words)) > 255:
        raise error(f"must name {inputs} input and {outputs} output blobs")
    params: dict[int, str] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if not _INT.fullmatch(key) or not _is_value(int(key), value) or int(key) in params:
            raise error(f"{pair[:40]!r} is not a parameter")
        params[int(key)] = value
    return NcnnLayer(words[0], words[1], tuple(blobs[:inputs]), tuple(blobs[inputs:]), params)


def _is_value(key: int, text: str) -> bool:
    if key > ARRAY:
        return 0 <= key < 32 and _is_number(text)
    length, *values = text.split(",")
    return key > ARRAY - 32 and length == str(len(values)) and all(_is_number(v) for v in values)


def _is_number(text: str) -> bool:
    return bool(_INT.fullmatch(text) or _FLOAT.fullmatch(text)) and abs(float(text)) < 2**31


def _check_order(layers: tuple[NcnnLayer, ...]) -> int:
    """Every blob is made once, before it is read, and read at most once.  Returns the number of blobs."""
    made: set[str] = set()
    read: set[str] = set()
    names: set[str] = set()
    for layer in layers:
        if layer.name in names:
            raise layer.error("another layer has this name")
        names.add(layer.name)
        for blob in layer.inputs:
            if blob not in made or blob in read:
                raise layer.error(f"reads blob {blob!r}, which no earlier layer makes, or which another layer has read")
            read.add(blob)
        for blob in layer.outputs:
            if blob in made:
                raise layer.error(f"makes blob {blob!r}, which an earlier layer makes")
            made.add(blob)
    return len(made)
