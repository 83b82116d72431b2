"""MobileFaceSwap's networks, and the functions that ``base.Architecture`` asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mfs_deploy.architectures.base import Identity, restore
from mfs_deploy.architectures.card import ENCODER, GENERATOR
from mfs_deploy.architectures.mobilefaceswap import bake as baking
from mfs_deploy.architectures.mobilefaceswap.arcface import ArcFace
from mfs_deploy.architectures.mobilefaceswap.encode import encode as encode
from mfs_deploy.architectures.mobilefaceswap.encode import random_identity as random_identity
from mfs_deploy.architectures.mobilefaceswap.generator import BakedNet, Generator
from mfs_deploy.architectures.mobilefaceswap.interface import INTERFACE as INTERFACE
from mfs_deploy.architectures.mobilefaceswap.small_encoder import SmallEncoder, holds

if TYPE_CHECKING:
    from mfs_deploy.architectures.base import Networks, StateDict, Swap

NETWORKS: Networks = {GENERATOR: (Generator,), ENCODER: (ArcFace, SmallEncoder)}


def generator(state: Mapping[str, Tensor]) -> nn.Module:
    return restore(Generator(), state)


def encoder(state: Mapping[str, Tensor]) -> nn.Module:
    return restore(SmallEncoder() if holds(state) else ArcFace(), state)


def predictor(generator: nn.Module, keys: Sequence[str]) -> nn.Module:
    assert isinstance(generator, Generator)
    return baking.Predictor(generator, keys)


def bake(generator: nn.Module, identity: Identity) -> StateDict:
    assert isinstance(generator, Generator)
    return baking.bake(generator, *_tensors(identity))


def load(state: Mapping[str, Tensor]) -> nn.Module:
    return baking.load(state)


def blank() -> nn.Module:
    return BakedNet()


def reference(generator: nn.Module, identity: Identity) -> Swap:
    assert isinstance(generator, Generator)
    with torch.inference_mode():
        predicted = generator(*_tensors(identity))
    return lambda target: generator.swap(predicted, target)


def _tensors(identity: Identity) -> tuple[Tensor, Tensor]:
    assert identity.feature_map is not None
    return torch.from_numpy(identity.embedding), torch.from_numpy(identity.feature_map)
