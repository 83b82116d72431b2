"""What a bake must never get wrong: biases, determinism, completeness, and how many numbers there are."""

from __future__ import annotations

import pytest
import torch

from mfs_deploy.architectures.mobilefaceswap.bake import bake, load
from mfs_deploy.architectures.mobilefaceswap.generator import BakedNet, Generator
from testing import standin


@pytest.fixture(scope="module")
def generator() -> Generator:
    generator = Generator().eval()
    standin.fill(generator, 1)
    return generator


@pytest.fixture(scope="module")
def person() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    embedding = torch.randn(1, 512, generator=rng)
    return embedding / embedding.norm(), torch.randn(1, 512, 7, 7, generator=rng)


def test_encoder_and_decoder_biases_are_zero_whatever_the_random_state(generator, person):
    torch.manual_seed(123)
    state = bake(generator, *person)
    biases = {k: v for k, v in state.items() if k.startswith(("Encoder.", "Decoder.")) and k.endswith(".bias")}
    assert sum(v.numel() for v in biases.values()) == 3363
    assert all(torch.equal(v, torch.zeros_like(v)) for v in biases.values())


def test_a_wrong_bias_is_seen(net, crop, golden):
    wrong = load(net.state_dict())
    wrong.Encoder[2][1].bias.data += 0.01
    with torch.inference_mode():
        swapped, _ = wrong(torch.from_numpy(crop))
    assert (swapped - torch.from_numpy(golden["swapped"])).abs().max() > 1e-3


def test_same_inputs_give_same_bytes(generator, person):
    first, second = bake(generator, *person), bake(generator, *person)
    assert list(first) == list(second)
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_a_bake_does_not_share_memory_with_the_generator(generator, person):
    state = bake(generator, *person)
    state["final.7.bias"].add_(1)
    assert not torch.equal(state["final.7.bias"], generator.state_dict()["final.7.bias"])


def test_the_sizes_are_the_published_ones(generator):
    assert sum(p.numel() for p in BakedNet().parameters()) == 499_825
    assert sum(p.numel() for p in generator.parameters()) == 20_699_710


def test_a_missing_tensor_is_refused(generator, person):
    state = bake(generator, *person)
    del state["mask.5.bias"]
    with pytest.raises(RuntimeError, match=r"mask\.5\.bias"):
        load(state)
