"""Stored arrays to a network's state dict: names, shapes, types and values are checked, in this order.

Which layout a file has is decided by its names alone: ``_mean`` and ``_variance`` are Paddle's, and then Linear weights are
(in, out); ``running_mean`` and ``running_var`` are PyTorch's, and then they are (out, in).  A square Linear, as the styles of 512
channels are, has the same shape in both, so the shape cannot decide it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import Tensor, nn

from mfs_deploy import architectures
from mfs_deploy.checkpoint.byte_source import shown
from mfs_deploy.checkpoint.paddle_names import BATCHNORM, ParameterSpec, parameter_specs
from mfs_deploy.checkpoint.stored_array import FLOATS, StoredArray
from mfs_deploy.errors import CheckpointError

Network = Callable[[], nn.Module]
PADDLE_LEAVES = {BATCHNORM["running_mean"], BATCHNORM["running_var"]}
TORCH_LEAVES = {"running_mean", "running_var"}
OTHER_NETWORK = 0.5  # of the other network's keys present: the file is taken for that one
WRAPPED = "module."  # DataParallel's


@functools.cache
def parameters_of(network: Network) -> dict[str, ParameterSpec]:
    """By published key, for a member of an architecture's ``NETWORKS``."""
    with torch.device("meta"):  # shapes only
        return parameter_specs(network())


def match_state_dict(stored: dict[str, StoredArray], arch: str, role: str, name: str) -> dict[str, Tensor]:
    """A complete state dict: torch names and layout, float32, finite, in memory of its own.

    Raises:
        CheckpointError: checkpoint-keys, checkpoint-shape, checkpoint-values; and what reading the arrays raises.
    """
    network, *others = architectures.get(arch).NETWORKS[role]
    network = next((other for other in others if _is_of(stored, other)), network)
    return match_parameters(stored, parameters_of(network), role, name, network)


def _is_of(stored: Collection[str], network: Network) -> bool:
    """Whether most of a network's keys are there, in Paddle's names or in PyTorch's."""
    keys = {key.removeprefix(WRAPPED) for key in stored}
    return any(
        len(keys & wanted.keys()) > OTHER_NETWORK * len(wanted)
        for wanted in (_in_file(parameters_of(network), paddle=paddle) for paddle in (True, False))
    )


def match_parameters(
    stored: dict[str, StoredArray], published: dict[str, ParameterSpec], role: str, name: str, network: Network | None = None
) -> dict[str, Tensor]:
    """``match_state_dict`` for any network, given its published keys and specs.  ``role`` and ``name`` are for messages."""
    if stored and all(key.startswith(WRAPPED) for key in stored):
        stored = {key.removeprefix(WRAPPED): value for key, value in stored.items()}
    stored = {key: value for key, value in stored.items() if key.rpartition(".")[2] != "num_batches_tracked"}
    paddle = _is_paddle(stored, name)
    wanted = _in_file(published, paddle=paddle)
    _check_keys(stored, wanted, role, name, network)
    for key, spec in wanted.items():
        _check_shape(stored[key], spec, key, name)
    # Popped, so that no more than one array is held twice.
    return {spec.torch_key: _tensor(stored.pop(key), spec, key, name) for key, spec in wanted.items()}


def _is_paddle(stored: dict[str, StoredArray], name: str) -> bool:
    leaves = {key.rpartition(".")[2] for key in stored}
    if leaves & PADDLE_LEAVES and leaves & TORCH_LEAVES:
        raise CheckpointError(
            f"{shown(name)}: keys of both Paddle (_mean) and PyTorch (running_mean)",
            hint="save one network's state dict in one framework's names",
            kind="checkpoint-keys",
        )
    return bool(leaves & PADDLE_LEAVES)


def _in_file(published: dict[str, ParameterSpec], *, paddle: bool) -> dict[str, ParameterSpec]:
    """Key in the file to spec, with the shape it should have there."""
    if paddle:
        return published
    turned = (ParameterSpec(s.torch_key, s.shape[::-1] if s.transposed else s.shape, False) for s in published.values())
    return {spec.torch_key: spec for spec in turned}


def _check_keys(
    stored: dict[str, StoredArray], wanted: dict[str, ParameterSpec], role: str, name: str, network: Network | None
) -> None:
    missing = [key for key in wanted if key not in stored]
    unexpected = [key for key in stored if key not in wanted]
    if not missing and not unexpected:
        return
    for arch in architectures.INTERFACES:
        of_arch = architectures.get(arch).NETWORKS
        for other, networks in of_arch.items():
            if not any(_is_of(stored, foreign) for foreign in networks if foreign is not network):
                continue
            same_arch = network is None or network in of_arch[role]
            raise CheckpointError(
                f"{shown(name)}: this is {'the' if same_arch else f'the {arch}'} {other}, given as the {role}",
                hint=f"give the file of the {role} here" if same_arch else f"pass --arch {arch}",
                kind="checkpoint-keys",
            )
    raise CheckpointError(
        f"{shown(name)}: not the {role}'s keys: {_listed('missing', missing)}, {_listed('unexpected', unexpected)}",
        hint=f"the {role} has {len(wanted)} arrays; save its whole state dict and nothing else",
        kind="checkpoint-keys",
    )


def _listed(what: str, keys: list[str]) -> str:
    if not keys:
        return f"0 {what}"
    more = ", …" if len(keys) > 3 else ""
    return f"{len(keys)} {what} ({', '.join(shown(key) for key in keys[:3])}{more})"


def _check_shape(found: StoredArray, spec: ParameterSpec, key: str, name: str) -> None:
    if found.shape == spec.shape:
        return
    message = f"{shown(name)}: {key} has shape {found.shape}, expected {spec.shape}"
    hint = "the file belongs to another version of the network"
    if len(spec.shape) == 2 and found.shape == spec.shape[::-1]:
        message += ": it looks transposed"
        hint = "Linear weights are (in, out) beside Paddle's names (_mean), (out, in) beside PyTorch's (running_mean)"
    raise CheckpointError(message, hint=hint, kind="checkpoint-shape")


def _tensor(found: StoredArray, spec: ParameterSpec, key: str, name: str) -> Tensor:
    if found.dtype not in FLOATS:
        raise CheckpointError(
            f"{shown(name)}: {key} is of type {shown(found.dtype)}; allowed are {', '.join(FLOATS)}",
            hint="save the trained float weights, not a quantized copy",
            kind="checkpoint-values",
        )
    array = found.read()
    array = np.require(array.T if spec.transposed else array, requirements=["C", "W", "A"])
    tensor = torch.from_numpy(array)
    low, high = (float(bound) for bound in torch.aminmax(tensor))  # both NaN where one value is
    if not (math.isfinite(low) and math.isfinite(high)):
        raise CheckpointError(
            f"{shown(name)}: {key} holds NaN or infinite values",
            hint="training diverged, or the file is damaged; use an earlier checkpoint",
            kind="checkpoint-values",
        )
    if key.endswith(("_variance", "running_var")) and low < 0:
        raise CheckpointError(
            f"{shown(name)}: {key} holds a negative variance, {low:g}", hint="the file is damaged", kind="checkpoint-values"
        )
    return tensor
