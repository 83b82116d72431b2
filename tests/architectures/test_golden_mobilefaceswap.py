"""The port against what the authors' own code produced: every number that leaves a stage."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mfs_deploy import architectures
from mfs_deploy.architectures.base import Identity
from mfs_deploy.checkpoint.load import load
from mfs_deploy.faces import align, paste_back
from mfs_deploy.faces.find import FaceLocation, align_face
from mfs_deploy.faces.portrait import LANDMARKS


def rgb(bgr: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(bgr[..., ::-1])


@pytest.fixture(scope="module")
def arch():
    return architectures.get("mobilefaceswap")


@pytest.fixture(scope="module")
def opened(checkpoint):
    return load(checkpoint)


@pytest.fixture(scope="module")
def recorded(golden) -> Identity:
    return Identity(golden["identity_embedding"], golden["identity_feature_map"])


def test_the_aligned_crop_is_identical(golden, portrait):
    face = align_face(portrait, 224, FaceLocation(LANDMARKS), None)
    np.testing.assert_array_equal(face.crop, rgb(golden["target_aligned_bgr"]))
    np.testing.assert_allclose(align.alignment_matrix(LANDMARKS, 224), golden["source_matrix"], rtol=1e-6)
    np.testing.assert_allclose(face.back, golden["back_matrix"], rtol=1e-9)


def test_the_identity_encoder_gives_the_recorded_embedding_and_map(golden, arch, opened):
    person = arch.embed(arch.encoder(opened.encoder), rgb(golden["target_aligned_bgr"]))
    np.testing.assert_allclose(person.embedding, golden["identity_embedding"], atol=2e-6)
    scale = np.abs(golden["identity_feature_map"]).max()
    np.testing.assert_allclose(person.feature_map / scale, golden["identity_feature_map"] / scale, atol=5e-6)


def test_the_baked_weights_are_the_recorded_ones(golden, arch, opened, recorded):
    baked = arch.bake(arch.generator(opened.generator), recorded)
    names = [name.removeprefix("baked/") for name in golden if name.startswith("baked/")]
    assert len(names) == 7
    for name in names:
        np.testing.assert_allclose(baked[name].numpy(), golden[f"baked/{name}"], atol=5e-6, err_msg=name)


def test_the_frame_is_the_recorded_one_and_so_is_the_finished_photo(golden, net, crop, portrait):
    with torch.inference_mode():
        swapped, mask = (t.numpy() for t in net(torch.from_numpy(crop)))
    np.testing.assert_allclose(swapped, golden["swapped"], atol=2e-5)
    np.testing.assert_allclose(mask, golden["mask"], atol=2e-5)
    composite = paste_back.paste_back(portrait, swapped, mask, golden["back_matrix"])
    difference = np.abs(composite.astype(int) - rgb(golden["composite_bgr"]).astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-4


def test_the_generator_without_baking_gives_the_same_frame(golden, arch, opened, recorded, crop):
    swap = arch.reference(arch.generator(opened.generator), recorded)
    with torch.inference_mode():
        swapped, mask = swap(torch.from_numpy(crop))
    np.testing.assert_allclose(swapped.numpy(), golden["swapped"], atol=2e-5)
    np.testing.assert_allclose(mask.numpy(), golden["mask"], atol=2e-5)


def test_a_batch_of_identities_swaps_each_with_its_own_weights(arch, opened, recorded, crop):
    generator = arch.generator(opened.generator)
    other = Identity(-recorded.embedding, recorded.feature_map[:, ::-1].copy())
    both = [torch.from_numpy(np.concatenate([getattr(p, n) for p in (recorded, other)])) for n in ("embedding", "feature_map")]
    with torch.inference_mode():
        targets = torch.from_numpy(np.concatenate([crop, crop[..., ::-1]]))
        together, _ = generator.swap(generator(*both), targets)
        for i, person in enumerate((recorded, other)):
            alone, _ = arch.reference(generator, person)(targets[i : i + 1])
            np.testing.assert_allclose(together[i : i + 1].numpy(), alone.numpy(), atol=2e-5)
