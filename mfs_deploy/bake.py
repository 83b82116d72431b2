"""Generator + identity to the fixed weights of one person.  Pure: same inputs, same bytes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mfs_deploy.nets.mobilefaceswap import ENCODER, BakedNet, Generator

SHARED = ("final.", "mask.")  # branches that every identity has in common


def bake(generator: Generator, embedding: Tensor, feature_map: Tensor) -> dict[str, Tensor]:
    """Predict one identity's weights and put them where ``BakedNet`` has them.

    Args:
        generator: in eval mode.
        embedding: (1, 512), L2-normalised.
        feature_map: (1, 512, 7, 7).

    Returns:
        a complete state dict of ``BakedNet`` in float32; the biases of encoder and decoder are zero.
    """
    with torch.inference_mode():
        predicted = generator(embedding, feature_map)
    state = BakedNet().state_dict()
    stages = len(ENCODER) - 1
    for i, (kernels, filters) in enumerate(zip(predicted.depthwise, predicted.pointwise, strict=True)):
        stage = f"Encoder.{i}" if i < stages else f"Decoder.{i - stages}"
        state[f"{stage}.0.weight"] = kernels[0][:, None]  # (C, 1, k, k)
        state[f"{stage}.1.weight"] = filters[0]  # (out, in, 1, 1)
    state |= {k: v for k, v in generator.state_dict().items() if k.startswith(SHARED)}
    return {k: v.clone().contiguous() for k, v in state.items()}


def load(state: Mapping[str, Tensor]) -> BakedNet:
    """The baked network in eval mode.  Every key must be there and no other."""
    net = BakedNet()
    net.load_state_dict(dict(state), strict=True)
    return net.eval()
