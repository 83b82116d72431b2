"""MobileFSGAN's networks, and the functions that ``base.Architecture`` asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mfs_deploy.architectures.base import Identity, restore
from mfs_deploy.architectures.card import ENCODER, GENERATOR
from mfs_deploy.architectures.mobilefsgan import generator as baking
from mfs_deploy.architectures.mobilefsgan.encoder import MobileFaceNet
from mfs_deploy.architectures.mobilefsgan.generator import BakedNet, Generator
from mfs_deploy.architectures.mobilefsgan.interface import INTERFACE as INTERFACE
from mfs_deploy.architectures.mobilefsgan.interface import SIZE
from mfs_deploy.faces import pixels

if TYPE_CHECKING:
    from mfs_deploy.architectures.base import Networks, StateDict, Swap
    from mfs_deploy.faces.pixels import Image

NETWORKS: Networks = {GENERATOR: (Generator,), ENCODER: (MobileFaceNet,)}


def generator(state: Mapping[str, Tensor]) -> nn.Module:
    return restore(Generator(), state)


def encoder(state: Mapping[str, Tensor]) -> nn.Module:
    return restore(MobileFaceNet(), state)


def embed(encoder: nn.Module, face: Image) -> Identity:
    with torch.inference_mode():
        embedding = encoder(torch.from_numpy(pixels.to_tensor(pixels.resize(face, SIZE) if len(face) != SIZE else face)))
    return Identity(embedding.numpy())


def random_identity(rng: np.random.Generator) -> Identity:
    embedding = rng.standard_normal((1, 512)).astype(np.float32)
    return Identity(embedding / np.linalg.norm(embedding))


def predictor(generator: nn.Module, keys: Sequence[str]) -> nn.Module:
    assert isinstance(generator, Generator)
    return baking.Predictor(generator, keys)


def bake(generator: nn.Module, identity: Identity) -> StateDict:
    assert isinstance(generator, Generator)
    return baking.bake(generator, torch.from_numpy(identity.embedding))


def load(state: Mapping[str, Tensor]) -> nn.Module:
    return baking.load(state)


def blank() -> nn.Module:
    return BakedNet()


def reference(generator: nn.Module, identity: Identity) -> Swap:
    assert isinstance(generator, Generator)
    embedding = torch.from_numpy(identity.embedding)
    return lambda target: (generator.swap(embedding, target),)
