"""Rendered people: is the truth of a swap true, and is a scene the same whoever asks and however it is viewed?"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mfs_deploy.demo.rendering.attributes import (
    OCCLUDERS,
    Attributes,
    path,
    plain_camera,
    sample_attributes,
)
from mfs_deploy.demo.rendering.parameters import Batch
from mfs_deploy.demo.rendering.people import People, sample_people
from mfs_deploy.demo.rendering.render import (
    TEMPLATE,
    Rendered,
    crop_view,
    render,
    render_swap,
    scene_landmarks,
)
from mfs_deploy.faces import align

N, SIZE = 6, 112


@pytest.fixture(scope="module")
def target() -> People:
    return sample_people(N, 0)


@pytest.fixture(scope="module")
def source() -> People:
    return sample_people(N, 1)


@pytest.fixture(scope="module")
def scenes() -> Attributes:
    """One scene for each occluder, half of them through a bad camera."""
    a = sample_attributes(N, 2)
    bad = torch.tensor([1.0, 0.0] * 3)
    return replace(a, occluder=torch.arange(N), blur=bad, noise=0.03 * bad, jpeg_quality=100 - 40 * bad)


@pytest.fixture(scope="module")
def swap(target: People, source: People, scenes: Attributes) -> tuple[Rendered, Rendered]:
    return render_swap(target, source, scenes, SIZE, _crops(target, scenes))


def _crops(people: People, scenes: Attributes, size: int = SIZE) -> Tensor:
    return crop_view(scene_landmarks(people, scenes), size)


def _psnr(one: Tensor, other: Tensor) -> float:
    return float(-10 * torch.log10(torch.mean(torch.square(one.double() - other.double()))))


def _same(one: Batch, other: Batch) -> None:
    for f in fields(one):  # type: ignore[arg-type]
        assert torch.equal(getattr(one, f.name), getattr(other, f.name)), f.name


def test_outside_the_mask_a_swap_is_the_target_to_the_bit(swap: tuple[Rendered, Rendered]) -> None:
    before, after = swap
    outside = (before.mask == 0).expand(-1, 3, -1, -1)
    assert 0.3 < outside.float().mean() < 0.9
    assert torch.equal(after.image[outside], before.image[outside])
    inside = (before.mask > 0.9).expand(-1, 3, -1, -1)
    assert (after.image - before.image).abs()[inside].mean() > 0.03


def test_a_face_swapped_for_itself_is_the_target(target: People, scenes: Attributes) -> None:
    before, after = render_swap(target, target.take(slice(None)), scenes, SIZE, _crops(target, scenes))
    assert _psnr(after.image, before.image) > 60
    assert torch.equal(before.mask, after.mask)


def test_a_pair_is_two_single_renders(target: People, source: People, scenes: Attributes, swap: tuple[Rendered, Rendered]) -> None:
    view = _crops(target, scenes)
    alone, swapped = render(target, scenes, SIZE, view), render(target, scenes, SIZE, view, face_of=source)
    for field in ("image", "mask", "landmarks"):
        assert torch.equal(getattr(alone, field), getattr(swap[0], field))
        assert torch.equal(getattr(swapped, field), getattr(swap[1], field))


def test_a_sample_depends_on_its_seed_and_not_on_how_many_are_drawn() -> None:
    for sample in (sample_people, sample_attributes):
        few, many = sample(3, 7), sample(9, 7)
        _same(few, many.take(slice(0, 3)))
        assert len(many) == 9
        assert not torch.equal(getattr(few, fields(few)[0].name), getattr(sample(3, 8), fields(few)[0].name))


def test_a_scene_does_not_depend_on_its_neighbours(target: People, source: People, scenes: Attributes) -> None:
    view = _crops(target, scenes)
    many = render(target, scenes, SIZE, view, face_of=source)
    one = render(target.take([4]), scenes.take([4]), SIZE, view[4:5], face_of=source.take([4]))
    assert (many.image[4:5] - one.image).abs().max() < 1e-4
    assert (many.mask[4:5] - one.mask).abs().max() < 1e-4


def test_a_person_s_look_is_independent_of_pose_and_light() -> None:
    people, scenes = sample_people(400, 3), sample_attributes(400, 3)
    skin = people.skin.mean(1)
    for value in (scenes.yaw, scenes.light.mean(1), scenes.mouth_open, scenes.noise):
        assert abs(np.corrcoef(skin, value)[0, 1]) < 0.15
    # the whole range of skin is there, about evenly
    shares = np.histogram(skin.sqrt(), 4, (0.2, 0.85))[0] / 400
    assert (shares > 0.1).all(), shares


def test_pixels_are_finite_and_in_range(swap: tuple[Rendered, Rendered]) -> None:
    for rendered in swap:
        for x, shape in ((rendered.image, (N, 3, SIZE, SIZE)), (rendered.mask, (N, 1, SIZE, SIZE))):
            assert x.shape == shape
            assert x.dtype == torch.float32
            assert torch.isfinite(x).all()
            assert x.min() >= 0
            assert x.max() <= 1
        assert rendered.image.std() > 0.1


def test_no_seed_gives_a_broken_pixel() -> None:
    people, others, scenes = sample_people(96, 11), sample_people(96, 12), sample_attributes(96, 13)
    before, after = render_swap(people, others, scenes, 48, _crops(people, scenes, 48))
    for x in (before.image, before.mask, after.image):
        assert torch.isfinite(x).all()
        assert x.min() >= 0
        assert x.max() <= 1
    assert (before.mask.mean((1, 2, 3)) > 0.08).all()


def test_template_is_the_projects() -> None:
    assert np.array_equal(np.array(TEMPLATE), align.ALIGNMENT.at(112))


def test_a_crop_rendered_directly_is_the_crop_of_the_frame(target: People, scenes: Attributes) -> None:
    plain = replace(plain_camera(scenes), yaw=scenes.yaw * 0.5)
    frame, size = render(target, plain, 512), 96
    crop = render(target, plain, size, _crops(target, plain, size))
    for i in range(N):
        pixels = (frame.image[i].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        aligned, _ = align.align(pixels, frame.landmarks[i].double().numpy(), size)
        assert _psnr(torch.from_numpy(aligned).permute(2, 0, 1) / 255, crop.image[i]) > 30, i
        fit = align.alignment_matrix(frame.landmarks[i].double().numpy(), size)
        moved = frame.landmarks[i].double().numpy() @ fit[:, :2].T + fit[:, 2]
        assert np.abs(moved - crop.landmarks[i].numpy()).max() < 0.02


def test_a_frontal_face_lies_on_the_template(target: People, scenes: Attributes) -> None:
    zero = torch.zeros(N)
    frontal = replace(scenes, yaw=zero, pitch=zero, smile=zero, mouth_open=zero)
    landmarks = render(target, frontal, SIZE, _crops(target, frontal)).landmarks
    assert (landmarks - torch.tensor(TEMPLATE)).norm(dim=2).max() < 6


def test_landmarks_lie_on_what_they_name(target: People, scenes: Attributes) -> None:
    """The nose tip moves the most with a turn, by its depth; a dark pupil lies at each eye's landmark."""
    n = torch.zeros(N)
    still = replace(
        plain_camera(scenes),
        yaw=n,
        pitch=n,
        roll=n,
        gaze=torch.zeros(N, 2),
        eye_closure=n,
        occluder=n.long(),
        light=torch.full((N, 3), 0.3),
        ambient=torch.full((N, 3), 0.6),
    )
    turned = replace(still, yaw=n + 0.3)
    moved = (scene_landmarks(target, turned) - scene_landmarks(target, still))[:, :, 0]
    assert (moved[:, 2] > moved[:, [0, 1, 3, 4]].max(1).values).all()
    for scene in (still, turned):
        view = _crops(target, scene, 224)
        rendered = render(target, scene, 224, view)
        for i in range(N):
            for eye in range(2):
                x, y = (int(k) for k in rendered.landmarks[i, eye].round())
                window = rendered.image[i, :, y - 5 : y + 6, x - 5 : x + 6].mean(0)
                assert window.min() < 0.2, (i, eye)


@pytest.mark.parametrize("kind", ["hand", "microphone", "sunglasses", "strand"])
def test_the_mask_leaves_out_what_hides_the_face(target: People, source: People, scenes: Attributes, kind: str) -> None:
    free = replace(plain_camera(scenes), occluder=torch.zeros(N, dtype=torch.long))
    hidden = replace(free, occluder=torch.full((N,), OCCLUDERS.index(kind)))
    view = _crops(target, free)
    bare, (covered, swapped) = render(target, free, SIZE, view), render_swap(target, source, hidden, SIZE, view)
    gone = (bare.mask > 0.5) & (covered.mask == 0)
    assert gone.sum() > 30
    assert (covered.mask <= bare.mask + 1e-6).all()
    assert torch.equal(swapped.image[gone.expand(-1, 3, -1, -1)], covered.image[gone.expand(-1, 3, -1, -1)])


def test_people_differ_more_than_a_person_does_from_frame_to_frame(target: People, source: People, scenes: Attributes) -> None:
    plain = plain_camera(scenes)
    later = replace(plain, yaw=plain.yaw + 0.03, smile=plain.smile + 0.08, gaze=plain.gaze + 0.05)
    here, there = (render(target, a, SIZE, _crops(target, a)) for a in (plain, later))
    other = render(target, plain, SIZE, _crops(target, plain), face_of=source)
    weight = here.mask
    same = (weight * (here.image - there.image).abs()).sum((1, 2, 3)) / weight.sum((1, 2, 3))
    apart = (weight * (here.image - other.image).abs()).sum((1, 2, 3)) / weight.sum((1, 2, 3))
    assert (apart > 1.5 * same).all(), (apart / same).tolist()


def test_a_clip_is_smooth_and_keeps_light_and_person(target: People, scenes: Attributes) -> None:
    clip = path(scenes.take([1]), 24, seed=5)
    assert len(clip) == 24
    assert torch.equal(clip.light, clip.light[:1].expand(24, 3))
    assert (clip.yaw[1:] - clip.yaw[:-1]).abs().max() < 0.06
    assert (clip.yaw - clip.yaw[0]).abs().max() > 0.03
    points = scene_landmarks(target.take([1] * 24), clip)
    assert (points[1:] - points[:-1]).norm(dim=2).max() < 0.03
    _same(clip, path(scenes.take([1]), 24, seed=5))
    with pytest.raises(ValueError, match="one scene"):
        path(scenes, 4)


def test_numbers_that_disagree_are_refused(target: People, scenes: Attributes) -> None:
    with pytest.raises(ValueError, match="must agree"):
        render(target.take([0]), scenes, SIZE)
