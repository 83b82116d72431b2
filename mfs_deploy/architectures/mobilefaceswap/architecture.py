"""MobileFaceSwap's networks, and the functions that ``base.Architecture`` asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mfs_deploy.architectures.base import Identity, restore
from mfs_deploy.architectures.card import ENCODER, GENERATOR
from mfs_deploy.architectures.mobilefaceswap import arcface
from mfs_deploy.architectures.mobilefaceswap import bake as baking
from mfs_deploy.architectures.mobilefaceswap.arcface import ArcFace
from mfs_deploy.architectures.mobilefaceswap.generator import BakedNet, Generator
from mfs_deploy.architectures.mobilefaceswap.interface import INTERFACE as INTERFACE
from mfs_deploy.architectures.mobilefaceswap.small_encoder import SmallEncoder, holds
from mfs_deploy.faces import pixels

if TYPE_CHECKING:
    from mfs_deploy.architectures.base import Networks, StateDict, Swap
    from mfs_deploy.faces.pixels import Image

NETWORKS: Networks = {GENERATOR: (Generator,), ENCODER: (ArcFace, SmallEncoder)}


def generator(state: Mapping[str, Tensor]) -> nn.Module:
    return restore(Generator(), state)


def encoder(state: Mapping[str, Tensor]) -> nn.Module:
    return restore(SmallEncoder() if holds(state) else ArcFace(), state)


def embed(encoder: nn.Module, face: Image) -> Identity:
    """``face`` of 224 gives the numbers of the authors' code, which aligns sources at 224 and shrinks them to 112."""
    small = pixels.resize(face, arcface.SIZE)
    with torch.inference_mode():
        embedding, feature_map = encoder(torch.from_numpy(pixels.to_tensor(small)))
    return Identity(embedding.numpy(), feature_map.numpy())


def random_identity(rng: np.random.Generator) -> Identity:
    """An embedding of length one and a feature map of standard deviation one, as encoders give them."""
    embedding = rng.standard_normal((1, 512)).astype(np.float32)
    return Identity(embedding / np.linalg.norm(embedding), rng.standard_normal((1, 512, 7, 7)).astype(np.float32))


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
