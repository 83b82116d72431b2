"""A 3x3 convolution with few outputs as one over blocks of 2x2 pixels: 4x4, stride 2, four times the outputs.

    3x3, C outputs   =>   4x4, stride 2, 4C outputs -> DEPTH_TO_SPACE (2)

XNNPACK computes eight outputs of a pixel at once, so one, two or three cost as much as eight.  Over blocks they fill its
registers, at a quarter of the positions.  Output (i, j) of a block has the 3x3 filter in rows i to i + 2 and columns j to
j + 2 of the 4x4 one; the rest is zero.  This is the last pass over a model, in any number format.
Bound: exact in integers; in floats exact except for the order of additions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfs_deploy.backends.tflite import edit
from mfs_deploy.backends.tflite import model as tfl

MOST_OUTPUTS = 4  # with more, a pixel's outputs fill the registers by themselves
KERNEL, BLOCK = 3, 2
SUFFIX = "_blocks"
NUMBERS = ("float32", "int8")  # types of LiteRT's DEPTH_TO_SPACE; int16 is not among them
VERSION = 1


def split_into_blocks(model: tfl.Model) -> int:
    """Rewrite every convolution that gets cheaper, in place; unused tensors stay.  Returns how many."""
    graph, rewritten, changed = model.subgraphs[0], 0, []
    for operator in graph.operators:
        changed.append(operator)
        if _gains(model, operator):
            changed.append(_split(model, operator))
            rewritten += 1
    graph.operators = changed
    return rewritten


def blocks(model: tfl.Model) -> dict[int, int]:
    """Each tensor of blocks in a model to the tensor that DEPTH_TO_SPACE makes of it."""
    return {
        int(operator.inputs[0]): int(operator.outputs[0])
        for operator in model.subgraphs[0].operators
        if tfl.kind(model, operator) == "DEPTH_TO_SPACE"
    }


def joined(array: NDArray[Any]) -> NDArray[Any]:
    """The weights (4C, 4, 4, I) of blocks, or their bias (4C,), as they were before."""
    return array[: len(array) // BLOCK**2, :KERNEL, :KERNEL] if array.ndim == 4 else array[: len(array) // BLOCK**2]


def _gains(model: tfl.Model, operator: tfl.Operator) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    if tfl.kind(model, operator) != "CONV_2D":
        return False
    options, tensors = operator.builtinOptions, model.subgraphs[0].tensors
    (outputs, *kernel, _), made = (tfl.shape(tensors[int(i)]) for i in (operator.inputs[tfl.FILTER], operator.outputs[0]))
    return (
        kernel == [KERNEL, KERNEL]
        and outputs <= MOST_OUTPUTS
        and (options.strideH, options.strideW, options.dilationHFactor, options.dilationWFactor) == (1, 1, 1, 1)
        and options.padding == schema.Padding.SAME
        and not any(size % BLOCK for size in made[1:3])
        and tfl.dtype(tensors[int(operator.outputs[0])]) in NUMBERS
    )


def _split(model: tfl.Model, operator: tfl.Operator) -> tfl.Operator:
    """Change a convolution to one over blocks; returns the operator that puts the blocks in their place."""
    from ai_edge_litert import schema_py_generated as schema

    tensors = model.subgraphs[0].tensors
    _widen(model, operator, tfl.FILTER)
    if operator.inputs[tfl.BIAS["CONV_2D"]] != -1:
        _widen(model, operator, tfl.BIAS["CONV_2D"])
    operator.builtinOptions.strideH = operator.builtinOptions.strideW = BLOCK
    made = int(operator.outputs[0])
    n, height, width, channels = tfl.shape(tensors[made])
    shape = (n, height // BLOCK, width // BLOCK, channels * BLOCK**2)
    inner = edit.add_tensor(model, f"{tfl.text(tensors[made].name)}{SUFFIX}", tfl.dtype(tensors[made]), shape)
    tensors[inner].quantization = tensors[made].quantization
    operator.outputs = [inner]
    join = edit.operator(model, "DEPTH_TO_SPACE", VERSION, inner, made)
    join.builtinOptionsType, join.builtinOptions = schema.BuiltinOptions.DepthToSpaceOptions, schema.DepthToSpaceOptionsT()
    join.builtinOptions.blockSize = BLOCK
    return join


def _widen(model: tfl.Model, operator: tfl.Operator, position: int) -> None:
    """Give ``operator`` the filter or bias of blocks instead of its own, also where that is unpacked from fewer bytes."""
    graph, index = model.subgraphs[0], int(operator.inputs[position])
    maker = next((other for other in graph.operators if index in map(int, other.outputs)), None)
    source = index if maker is None else int(maker.inputs[0])
    values, tensor = tfl.values(model, source), graph.tensors[source]
    assert values is not None
    over_blocks = _over_blocks(values)
    wide = edit.add_constant(model, tfl.text(tensor.name), over_blocks)
    steps, zeros = tfl.scales(tensor)
    if steps:
        edit.set_scales(model, wide, steps if len(steps) == 1 else steps * BLOCK**2, zeros[0])
    operator.inputs[position] = wide
    if maker is not None:  # unpacked for this operator alone: no other convolution has its weights
        unpacked = graph.tensors[index]
        operator.inputs[position] = edit.add_tensor(model, tfl.text(unpacked.name), tfl.dtype(unpacked), over_blocks.shape)
        maker.inputs, maker.outputs = [wide], [operator.inputs[position]]


def _over_blocks(values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim == 1:
        return np.tile(values, BLOCK**2)
    outputs, _, _, inputs = values.shape
    wide = np.zeros((BLOCK**2, outputs, KERNEL + 1, KERNEL + 1, inputs), values.dtype)
    for i, j in np.ndindex(BLOCK, BLOCK):
        wide[BLOCK * i + j, :, i : i + KERNEL, j : j + KERNEL] = values
    return wide.reshape(-1, KERNEL + 1, KERNEL + 1, inputs)
