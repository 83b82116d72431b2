"""Generator + identity to the fixed weights of one person.  Pure: same inputs, same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mfs_deploy.architectures.mobilefaceswap.generator import (
    ENCODER,
    BakedNet,
    Generator,
    PredictedWeights,
)

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
    state |= {key: weights[0] for key, weights in weights_by_key(predicted).items()}
    state |= {k: v for k, v in generator.state_dict().items() if k.startswith(SHARED)}
    return {k: v.clone().contiguous() for k, v in state.items()}


def weights_by_key(predicted: PredictedWeights) -> dict[str, Tensor]:
    """Predicted weights by key of ``BakedNet``, with N people in front: (N, C, 1, k, k) and (N, out, in, 1, 1)."""
    found = {}
    stages = len(ENCODER) - 1
    for i, (kernels, filters) in enumerate(zip(predicted.depthwise, predicted.pointwise, strict=True)):
        stage = f"Encoder.{i}" if i < stages else f"Decoder.{i - stages}"
        found[f"{stage}.0.weight"] = kernels[:, :, None]
        found[f"{stage}.1.weight"] = filters
    return found


class Predictor(nn.Module):
    """A generator that gives the weights called ``keys``, in that order, as ``weights_by_key`` shapes them."""

    def __init__(self, generator: Generator, keys: Sequence[str]) -> None:
        super().__init__()
        self.generator, self.keys = generator, keys

    def forward(self, embedding: Tensor, feature_map: Tensor) -> tuple[Tensor, ...]:
        found = weights_by_key(self.generator(embedding, feature_map))
        return tuple(found[key] for key in self.keys)


def load(state: Mapping[str, Tensor]) -> BakedNet:
    """The baked network in eval mode.  Every key must be there and no other."""
    net = BakedNet()
    net.load_state_dict(dict(state), strict=True)
    return net.eval()
