"""A network small enough to write to a file in a millisecond, with every kind of leaf the real ones have."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mfs_deploy.checkpoint.byte_source import Source
from mfs_deploy.checkpoint.match import match_parameters
from mfs_deploy.checkpoint.paddle_names import ParameterSpec, parameter_specs
from mfs_deploy.checkpoint.pdparams import read

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def tiny_specs() -> dict[str, ParameterSpec]:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(), nn.Linear(4, 4), nn.Linear(4, 6))
    return parameter_specs(net)


@pytest.fixture
def tiny(tiny_specs: dict[str, ParameterSpec]) -> Arrays:
    """Published keys and layout, float32."""
    rng = np.random.default_rng(5)
    return {key: rng.random(spec.shape, np.float32) + 0.5 for key, spec in tiny_specs.items()}


@pytest.fixture
def tiny_state(tiny: Arrays, tiny_specs: dict[str, ParameterSpec]) -> dict[str, torch.Tensor]:
    """The same numbers in PyTorch's names and layout."""
    return {s.torch_key: torch.tensor(tiny[k].T if s.transposed else tiny[k]).contiguous() for k, s in tiny_specs.items()}


@pytest.fixture
def read_pickle(tiny_specs: dict[str, ParameterSpec]) -> Callable[[Any], dict[str, torch.Tensor]]:
    """Bytes, or an object to pickle with protocol 4, through the reader and onto the tiny network."""

    def run(content: Any) -> dict[str, torch.Tensor]:
        data = content if isinstance(content, bytes) else pickle.dumps(content, protocol=4)
        stored = read(Source(io.BytesIO(data), len(data), "tiny.pdparams"))
        return match_parameters(stored, tiny_specs, "generator", "tiny.pdparams")

    return run
