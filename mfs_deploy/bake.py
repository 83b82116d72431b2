"""Generator + identity to the fixed weights of one person.  Pure: same inputs, same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mfs_deploy.nets.mobilefaceswap import BakedNet, Generator


def bake(generator: Generator, embedding: Tensor, feature_map: Tensor) -> dict[str, Tensor]:
    with torch.inference_mode():
        p = generator(embedding, feature_map)
    state = BakedNet().state_dict()
    n = len(BakedNet().Encoder)
    for i, (d, q) in enumerate(zip(p.depthwise, p.pointwise)):
        name = f"Encoder.{i}" if i < n else f"Decoder.{i-n}"
        state[f"{name}.0.weight"] = d[0][:, None]
        state[f"{name}.1.weight"] = q[0]
    for k, v in generator.state_dict().items():
        if k.startswith(("final.", "mask.")): state[k] = v
    return state
