"""The scale and zero point of each value in TFLite, whose kernels have rules beyond ``quant.scales``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mfs_deploy.backends.tflite import model as tfl
from mfs_deploy.quant.recipes import Format, Range
from mfs_deploy.quant.scales import Scale, range_of, scale_of_range

KEEP_SCALE = ("RESIZE_BILINEAR", "MIRROR_PAD")
FIXED = {  # fixed by these kernels: [0, 1) and [-1, 1)
    "LOGISTIC": {"int8": (1 / 256, -128), "int16": (1 / 32768, 0)},
    "TANH": {"int8": (1 / 128, 0), "int16": (1 / 32768, 0)},
}


def value_scales(
    model: tfl.Model,
    operations: Sequence[tuple[str, tfl.Operator]],
    formats: Mapping[str, Format],
    ranges: Mapping[str, Range],
    names: Mapping[int, str],
) -> dict[str, Scale]:
    """The scale of each integer operation's output, by node.

    RESIZE_BILINEAR and MIRROR_PAD do not rescale: their output has their input's scale; CONCATENATION has one scale for its inputs
    and its output, and an input that nobody else reads takes it from the output.

    Args:
        operations: of the graph's nodes, in the order of execution.
        names: by tensor, its name in ``ranges``.

    Raises:
        ConversionError: a range is not known.
    """
    readers = Counter(int(i) for operator in model.subgraphs[0].operators for i in operator.inputs)
    readers.update(int(i) for i in model.subgraphs[0].outputs)
    widened = dict(ranges)
    for name, operator in operations:
        if tfl.kind(model, operator) == "CONCATENATION" and formats[name].is_static:
            widened |= {names[int(i)]: range_of(ranges, name) for i in operator.inputs if readers[int(i)] == 1 and int(i) in names}
    found: dict[str, Scale] = {}
    for name, operator in operations:
        dtype, kind = formats[name].activations, tfl.kind(model, operator)
        if not formats[name].is_static:
            continue
        if kind in FIXED:
            found[name] = Scale(dtype, *FIXED[kind][dtype])
        elif kind in KEEP_SCALE:
            source = names.get(int(operator.inputs[0]), "")
            made = found.get(source)
            found[name] = made if made is not None and made.dtype == dtype else scale_of_range(dtype, range_of(widened, source))
        else:
            found[name] = scale_of_range(dtype, range_of(widened, name))
    return found
