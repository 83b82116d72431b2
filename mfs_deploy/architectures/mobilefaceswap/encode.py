"""Aligned faces to identities: an embedding and a feature map each."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mfs_deploy.architectures.base import Identity
from mfs_deploy.architectures.mobilefaceswap import arcface
from mfs_deploy.faces import pixels


def random_identity(rng: np.random.Generator) -> Identity:
    """An embedding of length one and a feature map of standard deviation one, as encoders give them."""
    embedding = rng.standard_normal((1, 512)).astype(np.float32)
    return Identity(embedding / np.linalg.norm(embedding), rng.standard_normal((1, 512, 7, 7)).astype(np.float32))


def encode(encoder: nn.Module, face: pixels.Image) -> Identity:
    """Encode an aligned face.

    Args:
        encoder: ``arcface.ArcFace`` or ``small_encoder.SmallEncoder`` in eval mode.
        face: (S, S, 3) uint8 RGB, aligned; the original aligns sources at 224 and shrinks them, so S = 224 gives its numbers.
    """
    small = pixels.resize(face, arcface.SIZE)
    with torch.inference_mode():
        embedding, feature_map = encoder(torch.from_numpy(pixels.to_tensor(small)))
    return Identity(embedding.numpy(), feature_map.numpy())
