"""A stand-in for the published checkpoint: same keys, shapes and file form, numbers from a seed.

It is not trained.  It pins numerics, not looks: the weights are scaled so that activations neither die nor explode, and the same
seed gives the same values on every machine (numpy's Philox, keyed by the seed and each key's CRC-32).
"""

from __future__ import annotations

import pickle
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mfs_deploy.architectures.mobilefaceswap.arcface import ArcFace
from mfs_deploy.architectures.mobilefaceswap.generator import Generator
from mfs_deploy.checkpoint.paddle_names import parameter_specs

GENERATOR_FILE = "MobileFaceSwap_224.pdparams"
ENCODER_FILE = "arcface.pdparams"
SEED = 1  # whose outputs are recorded in GOLDEN
GOLDEN = Path(__file__).parents[1] / "tests" / "golden"


def write(folder: Path, seed: int) -> Path:
    """Write both files of the published form into ``folder`` (292 MB, a few seconds) and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, net in ((GENERATOR_FILE, Generator()), (ENCODER_FILE, ArcFace())):
        arrays = {key: _values(key, slot.shape, seed) for key, slot in parameter_specs(net).items()}
        names = {key: f"param_{i}.w_0" for i, key in enumerate(arrays)}
        with open(folder / name, "wb") as f:
            pickle.dump({**arrays, "StructuredToParameterName@@": names}, f, protocol=4)
    return folder


def fill(net: nn.Module, seed: int) -> None:
    """Give ``net`` the values that ``write`` would store for it, without the files."""
    state = {}
    for key, slot in parameter_specs(net).items():
        values = _values(key, slot.shape, seed)
        state[slot.torch_key] = torch.from_numpy(np.ascontiguousarray(values.T if slot.transposed else values))
    net.load_state_dict(state, strict=False)


def _values(key: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    rng = np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(key.encode())]))
    normal = rng.standard_normal(shape)
    if key.endswith("._weight"):  # PReLU slopes
        values = 0.25 + 0.05 * normal
    elif key.endswith("_variance"):
        values = 0.8 + 0.4 * rng.random(shape)
    elif key.endswith(("_mean", "bias")):
        values = 0.1 * normal
    elif len(shape) == 1:  # BatchNorm scales, small where a residual branch ends
        values = (0.25 if ".bn2." in key else 1.0) * (1.0 + 0.1 * normal)
    elif len(shape) == 2:  # Linear, (in, out); styles must spread the modulation
        values = normal * (4.0 if ".style." in key else 1.0) / np.sqrt(shape[0])
    else:  # convolutions: He-like, less where they predict kernels
        values = normal * _gain(key) / np.sqrt(np.prod(shape[1:]))
    return values.astype(np.float32)


def _gain(key: str) -> float:
    if not key.startswith("predictor."):
        return 1.3
    return 0.35 if key.endswith(".weight.weight") else 1.0
