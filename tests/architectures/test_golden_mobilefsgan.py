"""MobileFSGAN against what the authors' own code produced: embedding and picture, before and after baking and rewriting."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mfs_deploy import architectures
from mfs_deploy.architectures.base import Identity
from mfs_deploy.architectures.mobilefsgan.encoder import MobileFaceNet
from mfs_deploy.architectures.mobilefsgan.generator import DOWN, UP, Generator
from mfs_deploy.faces import align, pixels
from mfs_deploy.graph import REWRITES, simplify
from mfs_deploy.graph.cost import cost
from mfs_deploy.graph.trace import trace
from testing import standin_mobilefsgan as standin
from testing.standin import GOLDEN, SEED

IMAGE = 5e-5
EMBEDDING = 1e-5


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "mobilefsgan_seed1.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def arch():
    return architectures.get("mobilefsgan")


@pytest.fixture(scope="module")
def generator() -> Generator:
    net = Generator().eval()
    standin.fill(net, SEED)
    return net


@pytest.fixture(scope="module")
def person(recorded) -> Identity:
    return Identity(recorded["embedding"])


@pytest.fixture(scope="module")
def baked_net(arch, generator, person):
    return arch.load(arch.bake(generator, person))


@pytest.fixture(scope="module")
def target(recorded) -> torch.Tensor:
    return torch.from_numpy(pixels.to_tensor(recorded["target_rgb"]))


def departs(swapped: torch.Tensor, recorded: dict[str, np.ndarray]) -> float:
    """Largest error in the original's units, [-1, 1]; every third row and column, borders among them, was recorded."""
    found = swapped.numpy()[:, :, ::3, ::3] * 2 - 1
    assert recorded["image256_every_third"].std() > 0.1
    return float(np.abs(found - recorded["image256_every_third"]).max())


def test_the_identity_encoder_gives_the_recorded_embedding(arch, recorded):
    encoder = MobileFaceNet().eval()
    standin.fill(encoder, SEED)
    found = arch.embed(encoder, recorded["source_rgb"])
    assert found.feature_map is None
    assert np.abs(found.embedding - recorded["embedding"]).max() < EMBEDDING


@torch.inference_mode()
def test_the_picture_is_the_recorded_one_baked_and_rewritten(arch, generator, person, baked_net, target, recorded):
    (unbaked,) = arch.reference(generator, person)(target)
    (baked,) = baked_net(target)
    (simplified,) = simplify(baked_net)(target)
    for swapped in (unbaked, baked, simplified):
        assert departs(swapped, recorded) < IMAGE
    border = torch.ones(256, 256, dtype=torch.bool)
    border[2:-2, 2:-2] = False
    assert (simplified - unbaked).abs()[..., border].max() < 1e-6
    assert (simplified - unbaked).abs().max() < 1e-6


@torch.inference_mode()
def test_another_identity_changes_the_picture(arch, generator, target, recorded):
    other = arch.random_identity(np.random.default_rng(0))
    (swapped,) = arch.load(arch.bake(generator, other))(target)
    assert departs(swapped, recorded) > 1e-3


def test_only_the_scales_and_shifts_of_the_identity_blocks_are_a_persons_own(arch, generator):
    rng = np.random.default_rng(0)
    a, b = (arch.bake(generator, arch.random_identity(rng)) for _ in range(2))
    own = {key for key in a if not torch.equal(a[key], b[key])}
    assert own == {f"identity_encoder.{name}.modulate.{leaf}" for name in (*DOWN, *UP) for leaf in ("weight", "bias")}
    assert sum(a[key].numel() for key in own) == 1152


def test_every_normalisation_is_folded_or_one_multiply_add_and_the_small_heads_are_gone(baked_net):
    graph = trace(baked_net)
    counts = {rewrite.__name__.rsplit(".", 1)[1]: rewrite.apply(graph) for rewrite in REWRITES}
    assert counts == {
        "fold_batchnorm": 0,
        "fold_batchnorm_forward": 26,  # 9 attribute and 12 decoder blocks into their 1x1, 5 upsamplings into their 3x3
        "batchnorm_to_depthwise": 7,  # those before a downsampling, whose zeros come after the normalisation
        "fold_input_scale": 1,
        "tanh_to_sigmoid": 1,
        "lerp_blend": 12,
        "pointwise_before_resize": 0,
        "share_resize": 0,
        "drop_zero_bias": 0,
    }
    trained = Generator()
    assert sum(p.numel() for p in trained.parameters()) == 2_517_781
    before, after = cost(trace(baked_net), 256), cost(simplify(baked_net), 256)
    assert (before.parameters, after.parameters) == (1_924_495, 1_921_487)
    assert round(after.macs / 1e9, 1) == 32.4


def test_its_alignment_turns_and_scales_and_does_not_shear(arch):
    known = arch.INTERFACE
    points = known.alignment.at(256) @ np.array([[0.3, 0.1], [-0.1, 0.3]]) + 40 + np.array([[0, 0], [3, 1], [0, 2], [1, 0], [0, 4]])
    matrix = align.alignment_matrix(points, 256, known.alignment)
    assert matrix[0, 0] == pytest.approx(matrix[1, 1])
    assert matrix[0, 1] == pytest.approx(-matrix[1, 0])
    exact = align.alignment_matrix(known.alignment.at(256) * 0.5 + 10, 256, known.alignment)
    np.testing.assert_allclose(exact, [[2, 0, -20], [0, 2, -20]], atol=1e-3)
    middle = (known.alignment.at(256) - known.source_seen[0]) * 111 / 203
    np.testing.assert_allclose(middle, align.ALIGNMENT.at(112), atol=1e-9)  # what the encoder sees is ArcFace's crop


def test_its_paste_back_is_whole_in_the_face_nothing_at_the_border_and_needs_no_mask(arch):
    alpha = arch.INTERFACE.paste_back.alpha(None, 256)
    assert alpha.dtype == np.float32
    assert all(alpha[int(y), int(x)] == 1 for x, y in arch.INTERFACE.alignment.at(256))
    assert max(alpha[0].max(), alpha[-1].max(), alpha[:, 0].max(), alpha[:, -1].max()) == 0
    assert np.abs(np.diff(alpha, axis=0)).max() < 0.06
