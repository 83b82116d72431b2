"""What the layers of an ncnn graph mean: the shapes they pass on, and the torch operation each computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mfs_deploy.backends.ncnn.files import NcnnLayer, NcnnWeights
from mfs_deploy.errors import ConversionError

if TYPE_CHECKING:
    from torch import fx

Shape = tuple[int, int, int]  # (C, H, W)

CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")
INT8 = 8  # parameter of a convolution: 0 float, 1 or 2 int8, 101 or 102 int8 whose output stays int8
REQUANTIZED = 100
LEAKY_RELU, SIGMOID = 2, 4  # parameter 9 of a convolution; ids of ncnn's activations
BILINEAR = 2  # parameter 0 of Interp
REST = -233  # among the sizes of Slice
REFLECT = 2  # parameter 4 of Padding
MAX_ELEMENTS = 2**26  # of one blob: 256 MB, far above any network here

# Parameter ids that are understood, by layer type; a file with any other is refused (ncnn: src/layer/<type>.cpp, load_param).
FEATURE_MASK = 31
_KNOWN = {
    "Input": {0, 1, 2},
    "Split": set(),
    "Slice": {-23300, 1},
    "Dropout": set(),  # without a parameter its factor is 1, so it passes its input on
    "Convolution": {0, 1, 11, 2, 12, 3, 13, 4, 15, 14, 16, 5, 6, 8, 9, -23310},
    "ConvolutionDepthWise": {0, 1, 11, 2, 12, 3, 13, 4, 15, 14, 16, 5, 6, 7, 8, 9, -23310},
    "Interp": {0, 1, 2, 6},
    "Padding": {0, 1, 2, 3, 4},
    "Concat": {0},
    "BinaryOp": {0, 1, 2},
    "ReLU": {0},
    "Sigmoid": set(),
    "TanH": set(),
}


def shapes(layers: tuple[NcnnLayer, ...]) -> dict[str, Shape]:
    """The shape of every blob, from the size that the Input layer states.

    Raises:
        BundleError: a layer or parameter that is not known, or sizes that do not fit; names the layer.
    """
    found: dict[str, Shape] = {}
    for layer in layers:
        unknown = set(layer.params) - _KNOWN.get(layer.type, set()) - {FEATURE_MASK}
        if layer.type not in _KNOWN or unknown:
            raise layer.error(f"a type or a parameter that is not known {sorted(unknown) or ''}".rstrip())
        shape = _output_shape(layer, [found[b] for b in layer.inputs])
        if min(shape) < 1 or np.prod(shape, dtype=np.float64) > MAX_ELEMENTS:
            raise layer.error(f"its output would have shape {shape}")
        found |= dict.fromkeys(layer.outputs, shape)
        if layer.type == "Slice":
            found |= {blob: (channels, *shape[1:]) for blob, channels in zip(layer.outputs, _slices(layer, shape), strict=True)}
    _check_int8_blobs(layers)
    return found


def _check_int8_blobs(layers: tuple[NcnnLayer, ...]) -> None:
    """Only int8 convolutions may read int8 values: any other layer would take them for floats and read beyond their end."""
    unread: dict[str, NcnnLayer] = {}  # blobs of int8 values, and what made them
    for layer in layers:
        int8_inputs = [b for b in layer.inputs if unread.pop(b, None)]
        is_int8 = layer.type in CONVOLUTIONS and layer.integer(INT8)
        if int8_inputs and layer.type != "Split" and not is_int8:
            raise layer.error(f"reads {int8_inputs[0]}, whose values are int8")
        if (int8_inputs and layer.type == "Split") or (is_int8 and layer.integer(INT8) > REQUANTIZED):
            unread |= dict.fromkeys(layer.outputs, layer)
    for blob, layer in unread.items():
        raise layer.error(f"gives {blob} as int8, and no layer reads it")


def macs(layers: tuple[NcnnLayer, ...]) -> int:
    """Multiply-adds in convolutions for one frame."""
    size = shapes(layers)
    return sum(x.integer(6) * size[x.outputs[0]][1] * size[x.outputs[0]][2] for x in layers if x.type in CONVOLUTIONS)


def _slices(layer: NcnnLayer, shape: Shape) -> list[int]:
    """The channels of each output; the last may be written as "what is left"."""
    sizes = [int(size) for size in layer.numbers(0)]
    if len(sizes) == len(layer.outputs) and sizes[-1] == REST:
        sizes[-1] = shape[0] - sum(sizes[:-1])
    if layer.integer(1) != 0 or len(sizes) != len(layer.outputs) or min(sizes, default=0) < 1 or sum(sizes) != shape[0]:
        raise layer.error(f"cannot cut {shape} into {sizes} along axis {layer.integer(1)}")
    return sizes


def _output_shape(layer: NcnnLayer, inputs: list[Shape]) -> Shape:
    kind = layer.type
    arity = {"Input": 0, "Concat": max(len(inputs), 1)}.get(kind, 1)
    if kind == "BinaryOp" and not layer.integer(1):
        arity = 2  # else the second operand is a number
    if len(inputs) != arity or not layer.outputs or (len(layer.outputs) > 1 and kind not in ("Split", "Slice")):
        raise layer.error(f"has {len(inputs)} inputs and {len(layer.outputs)} outputs")
    if kind == "Input":
        return layer.integer(2), layer.integer(1), layer.integer(0)
    c, h, w = inputs[0]
    if kind in CONVOLUTIONS:
        return _convolved(layer, inputs[0])
    if kind == "Interp":
        if layer.integer(0) != BILINEAR:
            raise layer.error(f"resize type {layer.integer(0)} is not known")
        return c, int(h * layer.number(1, 1)), int(w * layer.number(2, 1))
    if kind == "Padding":
        top, bottom, left, right = (layer.integer(i) for i in range(4))
        if layer.integer(4) != REFLECT or not all(0 <= p < side for p, side in ((top, h), (bottom, h), (left, w), (right, w))):
            raise layer.error(f"cannot pad {inputs[0]} so")
        return c, h + top + bottom, w + left + right
    if kind == "Concat":
        if layer.integer(0) != 0 or any(s[1:] != (h, w) for s in inputs):
            raise layer.error(f"cannot join {inputs} along axis {layer.integer(0)}")
        return sum(s[0] for s in inputs), h, w
    if kind == "BinaryOp" and len(inputs) == 2:
        if inputs[0][1:] != inputs[1][1:] or (inputs[0][0] != inputs[1][0] and 1 not in (inputs[0][0], inputs[1][0])):
            raise layer.error(f"cannot combine {inputs[0]} with {inputs[1]}")
        return max(c, inputs[1][0]), h, w
    return inputs[0]


def geometry(layer: NcnnLayer) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    """Kernel, stride and dilation as (h, w), and padding as (top, bottom, left, right).  Height defaults to width in ncnn."""
    pairs = [(layer.integer(high, layer.integer(low, base)), layer.integer(low, base)) for low, high, base in _PAIRS]
    left = layer.integer(4)
    top = layer.integer(14, left)
    return pairs[0], pairs[1], pairs[2], (top, layer.integer(16, top), left, layer.integer(15, left))


_PAIRS = ((1, 11, 0), (3, 13, 1), (2, 12, 1))  # ids for width and height, and the default: kernel, stride, dilation


def _convolved(layer: NcnnLayer, shape: Shape) -> Shape:
    (kh, kw), stride, dilation, pad = geometry(layer)
    outputs, groups = layer.integer(0), layer.integer(7, 1)
    c, h, w = shape
    if min(kh, kw, *stride, *dilation, outputs, groups) < 1 or min(pad) < 0 or max(kh, kw, *stride, *dilation, *pad) > 64:
        raise layer.error("kernel, stride, dilation, padding or channels out of range")
    activation = layer.integer(9)
    if activation not in (0, LEAKY_RELU, SIGMOID) or len(layer.numbers(10)) != (activation == LEAKY_RELU):
        raise layer.error(f"activation {activation} with {len(layer.numbers(10))} numbers is not known")
    if layer.integer(INT8) not in (0, 1, 2, 101, 102):
        raise layer.error(f"int8 form {layer.integer(INT8)} is not known")
    if c % groups or outputs % groups or layer.integer(6) != outputs * (c // groups) * kh * kw:
        raise layer.error(f"{layer.integer(6)} weights do not fit {c} inputs and {outputs} outputs in {groups} groups")
    return (
        outputs,
        (h + pad[0] + pad[1] - dilation[0] * (kh - 1) - 1) // stride[0] + 1,
        (w + pad[2] + pad[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1,
    )


# --- which layer computes which node


def match(graph: fx.GraphModule, layers: tuple[NcnnLayer, ...], weights: NcnnWeights) -> dict[str, str]:
    """The name of the layer that computes each operation of ``graph``, by node name.

    Follows both graphs from the input and compares operations, settings and weights; an activation may live in the convolution
    before it.  ``weights`` are float32.  pnnx calls the outputs out0, out1 ...

    Raises:
        ConversionError: an operation has no layer or several, or a layer has no operation.
    """
    from mfs_deploy.graph.trace import is_part

    by_output = {blob: layer for layer in layers for blob in layer.outputs}

    def source(blob: str) -> str:
        while by_output[blob].type == "Split":
            blob = by_output[blob].inputs[0]
        return blob

    blobs: dict[Any, str] = {}
    found: dict[str, str] = {}
    left = [x for x in layers if x.type not in ("Input", "Split")]
    activations = {x.name for x in left if x.type in CONVOLUTIONS and x.integer(9)}
    starts = [x.outputs[0] for x in layers if x.type == "Input"]
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            if len(starts) != 1:
                raise ConversionError(f"the ncnn graph has {len(starts)} inputs, must have 1")
            blobs[node] = starts[0]
        elif node.op == "output":
            made = [source(f"out{i}") if f"out{i}" in by_output else "" for i in range(len(node.args[0]))]
            if made != [blobs[a] for a in node.args[0]]:
                raise ConversionError("the outputs of the ncnn graph are not those of the network, or in another order")
        elif is_part(node):
            blobs[node] = by_output[blobs[node.args[0]]].outputs[node.args[1]]
        else:
            args = [blobs[a] for a in node.all_input_nodes]
            before = by_output[args[0]]
            if before.name in activations and _is_fused(before, node):
                activations.remove(before.name)
                found[node.name], blobs[node] = before.name, args[0]
                continue
            fits = [
                x for x in left if _same_inputs([source(b) for b in x.inputs], args, node) and _computes(x, node, graph, weights)
            ]
            if len(fits) != 1:
                raise ConversionError(
                    f"{node.name} ({_title(node)}) is computed by {len(fits)} layers of the ncnn graph, must be 1"
                )
            left.remove(fits[0])
            found[node.name], blobs[node] = fits[0].name, fits[0].outputs[0]
    if left or activations:
        extra = sorted(activations | {x.name for x in left})
        raise ConversionError(f"the ncnn graph has layers that the network has not: {', '.join(extra[:5])}")
    return found


def _title(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _same_inputs(have: list[str], want: list[str], node: fx.Node) -> bool:
    return sorted(have) == sorted(want) if _title(node) in ("add", "mul") else have == want


def _is_fused(layer: NcnnLayer, node: fx.Node) -> bool:
    kind = layer.integer(9)
    if _title(node) == "leaky_relu":
        return kind == LEAKY_RELU and np.float32(layer.numbers(10)[0]) == np.float32(node.kwargs["negative_slope"])  # type: ignore[arg-type]
    return kind == SIGMOID and _title(node) == "sigmoid"


def _computes(layer: NcnnLayer, node: fx.Node, graph: fx.GraphModule, weights: NcnnWeights) -> bool:
    if node.op == "call_module":
        return layer.type in CONVOLUTIONS and _is_convolution(layer, graph.get_submodule(str(node.target)), weights)
    test = _OPERATIONS.get(_title(node))
    if test is None:
        raise ConversionError(f"{node.name}: no ncnn layer is known for {_title(node)}")
    return test(layer, node)


def _is_convolution(layer: NcnnLayer, conv: Any, weights: NcnnWeights) -> bool:
    kernel, stride, dilation, (top, bottom, left, right) = geometry(layer)
    same = (kernel, stride, dilation) == (conv.kernel_size, conv.stride, conv.dilation)
    if not same or (top, left) != conv.padding or (bottom, right) != conv.padding or layer.integer(7, 1) != conv.groups:
        return False
    stored = [s.values for s in weights[layer.name]]
    wanted = [p.detach().numpy().ravel() for p in (conv.weight, conv.bias) if p is not None]
    return len(stored) == len(wanted) and all(np.array_equal(a, b) for a, b in zip(stored, wanted, strict=True))


def _is_resize(layer: NcnnLayer, node: fx.Node) -> bool:
    k = node.kwargs
    scale = (layer.number(1, 1), layer.number(2, 1))
    aligned = layer.integer(6) == int(k["align_corners"] is True)
    bilinear = layer.integer(0) == BILINEAR and k["mode"] == "bilinear" and k["size"] is None
    return layer.type == "Interp" and bilinear and aligned and scale == (k["scale_factor"],) * 2


def _is_reflection(layer: NcnnLayer, node: fx.Node) -> bool:
    left, right, top, bottom = node.args[1]  # type: ignore[misc, str-unpack]
    same = [layer.integer(i) for i in range(5)] == [top, bottom, left, right, REFLECT]
    return layer.type == "Padding" and node.kwargs.get("mode") == "reflect" and same


def _is_binary(plain: int, reversed_: int) -> Callable[[NcnnLayer, fx.Node], bool]:
    def test(layer: NcnnLayer, node: fx.Node) -> bool:
        numbers = [a for a in node.args if isinstance(a, (int, float))]
        op = reversed_ if numbers and node.args[0] is numbers[0] else plain
        scalar = layer.integer(1) == len(numbers) and (not numbers or np.float32(layer.number(2)) == np.float32(numbers[0]))
        return layer.type == "BinaryOp" and layer.integer(0) == op and scalar

    return test


_OPERATIONS: dict[str, Callable[[NcnnLayer, Any], bool]] = {
    "add": _is_binary(0, 0),
    "sub": _is_binary(1, 7),
    "mul": _is_binary(2, 2),
    "truediv": _is_binary(3, 8),
    "interpolate": _is_resize,
    "pad": _is_reflection,
    "cat": lambda layer, node: layer.type == "Concat" and layer.integer(0) + 1 == node.kwargs.get("dim", 0),
    "leaky_relu": lambda x, node: x.type == "ReLU" and np.float32(x.number(0)) == np.float32(node.kwargs["negative_slope"]),
    "split": lambda layer, node: layer.type == "Slice" and node.kwargs == {"dim": 1},
    "sigmoid": lambda layer, node: layer.type == "Sigmoid",
    "tanh": lambda layer, node: layer.type == "TanH",
}
