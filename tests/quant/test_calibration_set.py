"""Only sets that show enough are used for ranges; what was left out is counted and named."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from mfs_deploy.demo.rendering import triplets
from mfs_deploy.errors import CalibrationError, UsageError
from mfs_deploy.quant import calibration_set as calibration

SIZE = 64


@pytest.fixture(scope="module")
def people():
    """(24, 64, 64, 3): rendered people, each in a scene of their own."""
    return triplets.make(24, 5, SIZE).target.permute(0, 2, 3, 1).numpy()


@pytest.fixture
def folder(people, tmp_path):
    for i, person in enumerate(people):
        Image.fromarray(person).save(tmp_path / f"{i:02}.png")
    return tmp_path


def test_a_folder_of_crops_is_read_in_order_of_names_and_described(folder, people):
    found = calibration.read(folder, SIZE, None, aligned=True)
    assert np.array_equal(found.crops, people)
    assert found.tensor().shape == (24, 3, SIZE, SIZE)
    assert found.coverage.crops == found.coverage.different == 24
    assert found.coverage.turned is None
    grey = [cv2.cvtColor(person, cv2.COLOR_RGB2GRAY).mean() for person in people]
    assert found.coverage.brightness == (min(grey), max(grey))


def test_the_hash_is_of_the_pixels_and_not_of_names(folder, people):
    found = calibration.read(folder, SIZE, None, aligned=True)
    for file in sorted(folder.iterdir()):
        file.rename(folder / f"x{file.name}")
    assert calibration.read(folder, SIZE, None, aligned=True).sha256 == found.sha256
    assert calibration.from_crops(people[::-1]).sha256 != found.sha256


def test_what_is_no_photo_is_named_and_left_out(folder):
    (folder / "notes.txt").write_text("not a photo")
    (folder / "00.png").write_bytes((folder / "01.png").read_bytes()[:100])
    found = calibration.read(folder, SIZE, None, aligned=True)
    assert [skipped.name for skipped in found.skipped] == ["00.png", "notes.txt"]
    assert found.coverage.crops == 23


def test_a_phones_notes_beside_photos_do_not_take_their_places(folder, people, monkeypatch):
    """Names that alternate, and an even stride: only notes would be looked at."""
    for photo in list(folder.iterdir()):
        photo.with_suffix(".AAE").write_text("<?xml version='1.0'?>")
    monkeypatch.setattr(calibration, "MAX_CROPS", 12)
    found = calibration.read(folder, SIZE, None, aligned=True, allow_poor=True)
    assert np.array_equal(found.crops, people[::2])
    assert len(found.skipped) == 24


def test_too_few_are_refused_unless_accepted(folder):
    for file in sorted(folder.iterdir())[calibration.MIN_CROPS - 1 :]:
        file.unlink()
    with pytest.raises(CalibrationError, match="15 crops, at least 16 are needed") as caught:
        calibration.read(folder, SIZE, None, aligned=True)
    assert caught.value.kind == "calibration-too-few"
    assert "--allow-poor-calibration" in caught.value.hint
    assert calibration.read(folder, SIZE, None, aligned=True, allow_poor=True).coverage.crops == 15


def test_many_of_the_same_are_refused(folder, people):
    for i in range(1, 24):
        noise = np.random.default_rng(i).integers(-2, 3, people[0].shape)
        Image.fromarray((people[0] + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{i:02}.png")
    with pytest.raises(CalibrationError, match="of 24 crops only 1 differ") as caught:
        calibration.read(folder, SIZE, None, aligned=True)
    assert caught.value.kind == "calibration-too-alike"


def test_pictures_in_one_light_are_refused(folder, people):
    for i, person in enumerate(people):
        even = person.astype(np.float32) - cv2.cvtColor(person, cv2.COLOR_RGB2GRAY).mean() + 128
        Image.fromarray(even.clip(0, 255).astype(np.uint8)).save(folder / f"{i:02}.png")
    with pytest.raises(CalibrationError, match="equally bright"):
        calibration.read(folder, SIZE, None, aligned=True)


def test_an_empty_folder_and_a_folder_without_photos_are_refused(tmp_path):
    with pytest.raises(CalibrationError, match="holds no face"):
        calibration.read(tmp_path, SIZE, None, aligned=True)
    (tmp_path / "a.txt").write_text("nothing")
    with pytest.raises(CalibrationError, match=r"a\.txt"):
        calibration.read(tmp_path, SIZE, None, aligned=True)


def test_faces_that_nothing_can_find_are_the_users_to_say(folder):
    with pytest.raises(UsageError, match="nothing says where the faces for calibration are"):
        calibration.read(folder, SIZE, None)


def test_of_a_long_clip_evenly_spaced_frames_are_taken(people, tmp_path, monkeypatch):
    clip = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 25, (SIZE, SIZE))
    for person in people:
        writer.write(np.ascontiguousarray(person[..., ::-1]))
    writer.release()
    monkeypatch.setattr(calibration, "MAX_CROPS", 16)
    found = calibration.read(clip, SIZE, None, aligned=True, allow_poor=True)
    assert found.coverage.crops == 16
    last = people[22].astype(np.float32)  # 15 * 24 // 16
    assert np.abs(found.crops[-1] - last).mean() < 0.5 * np.abs(found.crops[-1] - people[23].astype(np.float32)).mean()
