"""Alignment and paste-back away from the recorded case: what a developer might 'simplify' and break."""

from __future__ import annotations

import numpy as np
import pytest

from mfs_deploy.errors import PhotoError
from mfs_deploy.faces import align, paste_back, pixels
from mfs_deploy.faces.portrait import LANDMARKS


def test_the_alignment_is_an_affine_not_a_similarity(portrait):
    """The portrait's face is turned, so the best affine scales x and y by different factors; a similarity cannot."""
    matrix = align.alignment_matrix(LANDMARKS, 224).astype(np.float64)
    x_scale, y_scale = np.linalg.norm(matrix[:, 0]), np.linalg.norm(matrix[:, 1])
    assert abs(y_scale / x_scale - 1) > 0.2
    fitted = LANDMARKS @ matrix[:, :2].T + matrix[:, 2]
    residual = fitted - align.ALIGNMENT.at(224)
    design = np.hstack([LANDMARKS, np.ones((5, 1))])
    np.testing.assert_allclose(design.T @ residual, 0, atol=0.05)  # least squares: nothing left in the span


def test_the_template_scales_with_the_crop():
    np.testing.assert_allclose(align.ALIGNMENT.at(256), align.ALIGNMENT.at(112) * 256 / 112)
    assert align.ALIGNMENT.at(112)[0, 0] == pytest.approx(38.29459953)


@pytest.mark.parametrize(
    "points", [np.tile([100.0, 100.0], (5, 1)), np.stack([np.arange(5.0), 2 * np.arange(5.0)], axis=1), np.full((5, 2), np.nan)]
)
def test_landmarks_that_fix_no_affine_are_refused(points):
    with pytest.raises(PhotoError):
        align.alignment_matrix(points, 224)


def test_nothing_outside_the_face_changes(portrait):
    _, back = align.align(portrait, LANDMARKS, 224)
    red = np.zeros((1, 3, 224, 224), np.float32)
    red[:, 0] = 1
    result = paste_back.paste_back(portrait, red, np.ones((1, 1, 224, 224), np.float32), back)
    changed = np.argwhere((result != portrait).any(axis=2))
    corners = back @ np.array([[0, 0, 224, 224], [0, 224, 0, 224], [1, 1, 1, 1]])
    assert changed[:, 1].min() >= corners[0].min() - 1
    assert changed[:, 1].max() <= corners[0].max() + 1
    assert changed[:, 0].min() >= corners[1].min() - 1
    centre = (back @ np.array([112, 112, 1])).astype(int)
    assert tuple(result[centre[1], centre[0]]) == (255, 0, 0)


def test_a_mask_of_zeros_leaves_the_photo_alone(portrait):
    _, back = align.align(portrait, LANDMARKS, 224)
    swapped = np.random.default_rng(0).random((1, 3, 224, 224), np.float32)
    result = paste_back.paste_back(portrait, swapped, np.zeros((1, 1, 224, 224), np.float32), back)
    np.testing.assert_array_equal(result, portrait)


def test_softening_does_not_touch_the_network_s_own_mask():
    mask = np.full((224, 224), 0.5, np.float32)
    paste_back.soften(mask)
    assert (mask == 0.5).all()


def test_pixels_survive_the_way_to_a_tensor_and_back(portrait):
    np.testing.assert_array_equal(pixels.to_image(pixels.to_tensor(portrait)), portrait)
    assert pixels.to_tensor(portrait)[0, 0, 0, 0] == np.float32(portrait[0, 0, 0]) / np.float32(255)  # red first
