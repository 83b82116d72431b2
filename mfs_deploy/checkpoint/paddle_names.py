"""The published files' names and layouts against PyTorch's.

Paddle's Linear weight is (in, out), PyTorch's (out, in).  Paddle calls BatchNorm's statistics ``_mean`` and ``_variance`` and
PReLU's slope ``_weight``.  Everything else is the same in both.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

BATCHNORM = {"weight": "weight", "bias": "bias", "running_mean": "_mean", "running_var": "_variance"}


@dataclass(frozen=True)
class ParameterSpec:
    """A network's parameter or statistic: its PyTorch name, its shape in the published file, and whether it is transposed there."""

    torch_key: str
    shape: tuple[int, ...]
    transposed: bool


def parameter_specs(net: nn.Module) -> dict[str, ParameterSpec]:
    """By key in the published file, for every parameter and statistic of ``net``."""
    found: dict[str, ParameterSpec] = {}
    for prefix, module in net.named_modules():
        tensors = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        tensors.pop("num_batches_tracked", None)  # PyTorch's own count; evaluation does not use it
        for leaf, tensor in tensors.items():
            name = leaf
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                name = BATCHNORM[leaf]
            elif isinstance(module, nn.PReLU):
                name = "_weight"
            transposed = isinstance(module, nn.Linear) and leaf == "weight"
            shape = tuple(reversed(tensor.shape)) if transposed else tuple(tensor.shape)
            dot = f"{prefix}." if prefix else ""
            found[f"{dot}{name}"] = ParameterSpec(f"{dot}{leaf}", shape, transposed)
    return found
