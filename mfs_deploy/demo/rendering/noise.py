"""A tile of noise, sampled at any coordinates: skin, strands, freckles, backgrounds and the camera's grain."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

TILE = 512
BLOTCH, PORE, STRAND, SPOT = range(4)


def _filtered(rng: np.random.Generator, gain: np.ndarray) -> np.ndarray:
    """White noise through a spectral gain, tileable, mean 0 and deviation 1."""
    spectrum = np.fft.fft2(rng.standard_normal((TILE, TILE))) * gain
    field = np.fft.ifft2(spectrum).real
    return (field - field.mean()) / field.std()  # type: ignore[no-any-return]


@lru_cache(maxsize=4)
def _atlas(device: torch.device) -> Tensor:
    """(4, TILE + 1, TILE + 1) on the device; the last row and column repeat the first."""
    rng = np.random.default_rng(20)
    fx = np.fft.fftfreq(TILE)[None, :] * TILE  # cycles a tile
    fy = np.fft.fftfreq(TILE)[:, None] * TILE
    f = np.hypot(fx, fy)
    octaves = (f > 1.5) / np.maximum(f, 1) ** 1.5 * np.exp(-((f / 90) ** 2))
    pores = np.exp(-(((f - 75) / 45) ** 2))
    strands = np.exp(-((fy / 5) ** 2)) * (np.abs(fx) > 3) / np.maximum(np.abs(fx), 1) ** 0.35 * np.exp(-((fx / 110) ** 2))
    spots = np.exp(-(((f - 26) / 12) ** 2))
    tile = np.stack([_filtered(rng, gain) for gain in (octaves, pores, strands, spots)])
    tile = np.pad(tile, ((0, 0), (0, 1), (0, 1)), mode="wrap")
    return torch.from_numpy(tile.astype(np.float32)).to(device)


def sample(channel: int, x: Tensor, y: Tensor) -> Tensor:
    """The channel at (x, y), in tiles, any shape; roughly normal with deviation 1."""
    shape = x.shape
    dense = x.dim() == 3
    grid = torch.stack([x, y], -1)
    grid = grid.sub_(grid.floor()).mul_(2).sub_(1)
    grid = grid if dense else grid.reshape(1, 1, -1, 2)
    tile = _atlas(x.device)[channel][None, None].expand(grid.shape[0], 1, -1, -1)
    found = torch.nn.functional.grid_sample(tile, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return found.reshape(shape)


@lru_cache(maxsize=4)
def _grain(device: torch.device) -> Tensor:
    white = np.random.default_rng(21).standard_normal((3, 1024, 1024)).astype(np.float32)
    return torch.from_numpy(white).to(device)


def grain(seeds: Tensor, size: int) -> Tensor:
    """(N, 3, size, size) of white noise, deviation 1; a seed picks a window of a fixed field and its reflection."""
    field = _grain(seeds.device)
    windows = []
    for seed in seeds.tolist():
        rows = (torch.arange(size, device=seeds.device) + seed * 613) % 1024
        columns = (torch.arange(size, device=seeds.device) + (seed // 1024) * 389) % 1024
        window = field[:, rows][:, :, columns]
        windows.append(window.transpose(1, 2) if seed % 2 else window)
    return torch.stack(windows)
