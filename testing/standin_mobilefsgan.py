"""A stand-in for a MobileFSGAN checkpoint: keys and shapes of the authors' modules, numbers from a seed (see ``standin``).

Scaled so that thirty residual blocks neither die nor explode, and so that every embedding changes the picture.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mfs_deploy.architectures.mobilefsgan.encoder import MobileFaceNet
from mfs_deploy.architectures.mobilefsgan.generator import Generator

GENERATOR_FILE, ENCODER_FILE = "mobilefsgan.pth", "mobilefacenet.pth"


def write(folder: Path, seed: int) -> Path:
    """Write both files into ``folder``, as the authors' training saves them, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, net in ((GENERATOR_FILE, Generator()), (ENCODER_FILE, MobileFaceNet())):
        fill(net, seed)
        torch.save(net.state_dict(), folder / name)
    return folder


def fill(net: nn.Module, seed: int) -> None:
    state = {key: torch.from_numpy(_values(key, tuple(value.shape), seed)) for key, value in net.state_dict().items()}
    net.load_state_dict(state)


def _values(key: str, shape: tuple[int, ...], seed: int) -> NDArray[np.generic]:
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    rng = np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(key.encode())]))
    normal = rng.standard_normal(shape)
    if key.endswith("running_var"):
        values = 0.8 + 0.4 * rng.random(shape)
    elif "conv_attention" in key:  # attention near one half
        values = 0.02 * normal + (0.5 if key.endswith("bias") else 0.0)
    elif key.endswith("fc_var.bias"):
        values = 1.0 + 0.1 * normal
    elif key.endswith(("running_mean", "bias")):
        values = 0.1 * normal
    elif len(shape) == 1:
        values = (0.25 if "prelu" in key else 1.0) + 0.1 * normal
    else:  # He-like; less where a residual block ends
        values = normal * (0.32 if "conv3x3" in key else 0.8) / np.sqrt(np.prod(shape[1:]))
    return values.astype(np.float32)


if __name__ == "__main__":
    write(Path(sys.argv[1]), 1)
