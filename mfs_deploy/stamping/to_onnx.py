"""A kit's networks as ONNX, for any number of people at once."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from mfs_deploy.backends import quiet


def to_onnx(net: nn.Module, example: tuple[Tensor, ...], inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """An ONNX model of ``net``; the first axis of every input and output is the number of people.

    Args:
        example: one tensor for each input, for at least two people, so that the exporter takes no size for a constant.
        inputs, outputs: their names, in the order in which ``net`` has them.
    """
    with tempfile.TemporaryDirectory() as scratch, quiet.quiet():
        path = Path(scratch) / "net.onnx"
        torch.onnx.export(
            net.eval(),
            example,
            path,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple({0: Dim("people", min=1)} for _ in example),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return path.read_bytes()
