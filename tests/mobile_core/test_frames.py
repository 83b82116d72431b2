"""Alignment and paste-back on a phone against the exporter's: what would make a swapped face jump, smear or change colour."""

from __future__ import annotations

import numpy as np
import pytest

from mfs_deploy.architectures import INTERFACES
from mfs_deploy.faces import align, paste_back
from mfs_deploy.faces.opencv import cv2
from mfs_deploy.faces.portrait import LANDMARKS
from testing import core_library

RED_BLUE = {"BT601": (0.299, 0.114), "BT709": (0.2126, 0.0722)}  # weights in luma, ITU-R BT.601 and BT.709
TURNED = np.array([(100, 60), (140, 20), (155, 65), (140, 100), (178, 70)], np.float64)  # by about 45 degrees
PLACES = {
    "in the middle": LANDMARKS,
    "over the left and upper edge": LANDMARKS - (190, 60),
    "over the lower edge": LANDMARKS - (-40, -300),
    "turned": TURNED,
    "upside down": 512 - LANDMARKS,
    "larger than the frame": (LANDMARKS - (225, 122)) * 9 + 256,
    "small": (LANDMARKS - 225) * 0.2 + 225,
}


@pytest.fixture(params=sorted(INTERFACES))
def arch(request) -> str:
    return request.param


@pytest.fixture
def bundle(library, bare_bundle, arch) -> core_library.Bundle:
    return library.open(bare_bundle(arch))


@pytest.mark.parametrize("place", PLACES)
def test_the_crop_is_the_exporter_s_to_one_level(bundle, arch, portrait, place):
    expected, back = align.align(portrait, PLACES[place], bundle.size, INTERFACES[arch].alignment)
    crop, found = bundle.align(core_library.frame([portrait], "RGB"), PLACES[place])
    assert np.abs(crop.astype(int) - expected).max() <= 1
    assert (crop != expected).mean() < 1e-3
    np.testing.assert_allclose(found, back, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("place", PLACES)
def test_the_finished_frame_is_the_exporter_s_to_one_level(bundle, arch, portrait, swapped, place):
    crop, mask = fitted(swapped, bundle)
    _, back = align.align(portrait, PLACES[place], bundle.size, INTERFACES[arch].alignment)
    expected = paste_back.paste_back(portrait, crop, mask, back, INTERFACES[arch].paste_back)
    result = portrait.copy()
    bundle.paste(core_library.frame([result], "RGB"), crop, mask, back)
    assert np.abs(result.astype(int) - expected).max() <= 1
    # Both are cut off to bytes, so that a float's last bit may tell; rounding one of them would tell in half of all pixels.
    assert (result != expected).mean() < 0.01
    assert (result != portrait).mean() > 1e-4


@pytest.mark.parametrize("form", ["RGBA", "BGRA"])
def test_four_bytes_a_pixel_give_the_same_and_keep_the_fourth(bundle, portrait, swapped, form):
    order = [2, 1, 0] if form == "BGRA" else [0, 1, 2]
    opacity = np.arange(512, dtype=np.uint8)[:, None].repeat(512, 1)
    wide = np.zeros((512, 600, 4), np.uint8)  # rows that are longer than the picture
    picture = wide[:, :512]
    picture[..., :3], picture[..., 3] = portrait[..., order], opacity
    expected, back = bundle.align(core_library.frame([portrait], "RGB"), LANDMARKS)
    crop, _ = bundle.align(core_library.frame([picture], form), LANDMARKS, form)
    np.testing.assert_array_equal(crop[..., order], expected)
    assert (crop[..., 3] == 255).all()
    values, mask = fitted(swapped, bundle)
    plain = portrait.copy()
    bundle.paste(core_library.frame([plain], "RGB"), values, mask, back)
    bundle.paste(core_library.frame([picture], form), values, mask, back)
    np.testing.assert_array_equal(picture[..., order], plain)
    np.testing.assert_array_equal(picture[..., 3], opacity)
    assert (wide[:, 512:] == 0).all()


@pytest.mark.parametrize("colour", core_library.COLOURS)
@pytest.mark.parametrize("form", ["I420", "NV12", "NV21", "I420 with gaps"])
def test_a_camera_s_frame_is_aligned_as_its_picture_would_be(library, bare_bundle, portrait, form, colour):
    bundle = library.open(bare_bundle("mobilefaceswap"))
    planes, yuv = as_yuv(portrait[:501, :397], form, colour)
    picture = np.clip(to_rgb(yuv, colour) + 0.5, 0, 255).astype(np.uint8)
    expected, _ = align.align(picture, LANDMARKS, bundle.size)
    crop, _ = bundle.align(core_library.frame(planes, form.split()[0], colour=colour), LANDMARKS)
    assert np.abs(crop.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("colour", ["BT601_FULL", "BT709_VIDEO"])
@pytest.mark.parametrize("form", ["I420", "NV12", "NV21", "I420 with gaps"])
def test_a_camera_s_frame_is_pasted_into_as_its_planes_would_be(library, bare_bundle, portrait, swapped, form, colour):
    """The exporter's own blend, of luma and chroma in place of red, green and blue: mixing is linear, so it is the same picture."""
    bundle = library.open(bare_bundle("mobilefaceswap"))
    planes, yuv = as_yuv(portrait[:501, :397], form, colour)
    crop, mask = swapped
    _, back = align.align(portrait, LANDMARKS, bundle.size)
    # blend() takes what lies outside the crop as 0, which is no colour here: so without the offsets of chroma and luma.
    offset = to_yuv(np.zeros((1, 1, 3)), colour)[0, 0]
    values = ((to_yuv(crop[0].transpose(1, 2, 0) * 255.0, colour) - offset) / 255).transpose(2, 0, 1)[None].astype(np.float32)
    alpha = paste_back.blend(np.zeros_like(yuv), np.full_like(values, 1), mask, back)[..., :1] / 255
    face = cv2.warpAffine(values[0].transpose(1, 2, 0) * 255, back, (397, 501)) + offset
    blended = face * alpha + yuv * (1 - alpha)
    bundle.paste(core_library.frame(planes, form.split()[0], colour=colour), crop, mask, back)
    luma, blue, red = (plane.astype(int) for plane in split(planes, form))
    assert np.abs(luma - blended[..., 0]).max() <= 1
    for plane, expected in ((blue, halved(blended[..., 1])), (red, halved(blended[..., 2]))):
        assert np.abs(plane - expected).max() <= 1


def test_a_camera_frame_reaches_the_screen_upright_in_its_colours(library, portrait):
    planes, yuv = as_yuv(portrait[:, :396], "NV21", "BT601_FULL")
    expected = np.rot90(np.clip(to_rgb(yuv, "BT601_FULL") + 0.5, 0, 255).astype(np.uint8), -1)  # clockwise
    shown = np.zeros((396, 512, 4), np.uint8)
    source = core_library.frame(planes, "NV21", rotation=90)
    library.convert(source, core_library.frame([shown], "RGBA"))
    assert np.abs(shown[..., :3].astype(int) - expected).max() <= 1
    mirror = shown.copy()
    library.convert(source, core_library.frame([mirror], "RGBA"), mirrored=True)
    np.testing.assert_array_equal(mirror, shown[:, ::-1])
    with pytest.raises(core_library.Failed, match="the upright frame is 512x396, the target is 396x512"):
        library.convert(source, core_library.frame([np.zeros((512, 396, 4), np.uint8)], "RGBA"))


@pytest.mark.parametrize("kind", ["float16", "BGRA bytes", "HWC"])
def test_outputs_are_taken_as_the_runtime_left_them(library, bare_bundle, portrait, swapped, kind):
    bundle = library.open(bare_bundle("mobilefaceswap"))
    crop, mask = swapped
    _, back = align.align(portrait, LANDMARKS, bundle.size)
    held = crop
    if kind == "float16":
        held, mask = crop.astype(np.float16), mask.astype(np.float16)
    elif kind == "BGRA bytes":
        pixels = np.zeros((224, 224, 4), np.uint8)
        pixels[..., 2::-1] = np.rint(crop[0].transpose(1, 2, 0) * 255)
        held = pixels[..., 2::-1].transpose(2, 0, 1)[None]  # red first, backwards
    else:
        held = np.ascontiguousarray(crop.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    crop, mask_of = (array.astype(np.float32) / (255 if array.dtype == np.uint8 else 1) for array in (held, mask))
    expected = paste_back.paste_back(portrait, crop, mask_of, back)
    result = portrait.copy()
    bundle.paste(core_library.frame([result], "RGB"), held, mask, back)
    assert np.abs(result.astype(int) - expected).max() <= 1
    assert (result != expected).mean() < 1e-3


@pytest.mark.parametrize(
    ("points", "said"),
    [(np.ones((5, 2)), "on one line"), (np.full((5, 2), np.nan), "not finite"), (np.full((5, 2), 1e300), "not finite")],
)
def test_landmarks_that_fix_no_face_are_refused(library, bare_bundle, portrait, points, said):
    with pytest.raises(core_library.Failed, match=said) as caught:
        library.open(bare_bundle("mobilefaceswap")).align(core_library.frame([portrait], "RGB"), points)
    assert caught.value.status == core_library.ARGUMENT


# ---- YUV in numpy


def weights(colour: str) -> tuple[float, float, float, float, float]:
    """Red and blue in luma; luma's offset; bytes per level of luma and of chroma."""
    red, blue = RED_BLUE[colour.split("_")[0]]
    return (red, blue, 0.0, 1.0, 1.0) if colour.endswith("FULL") else (red, blue, 16.0, 219 / 255, 224 / 255)


def to_yuv(rgb: np.ndarray, colour: str) -> np.ndarray:
    kr, kb, offset, scale, chroma = weights(colour)
    r, g, b = np.moveaxis(rgb.astype(np.float64), -1, 0)
    y = kr * r + (1 - kr - kb) * g + kb * b
    return np.stack([y * scale + offset, (b - y) / (2 - 2 * kb) * chroma + 128, (r - y) / (2 - 2 * kr) * chroma + 128], -1)


def to_rgb(yuv: np.ndarray, colour: str) -> np.ndarray:
    kr, kb, offset, scale, chroma = weights(colour)
    y, cb, cr = np.moveaxis(yuv.astype(np.float64), -1, 0)
    y, cb, cr = (y - offset) / scale, (cb - 128) / chroma, (cr - 128) / chroma
    r, b = y + (2 - 2 * kr) * cr, y + (2 - 2 * kb) * cb
    return np.stack([r, (y - kr * r - kb * b) / (1 - kr - kb), b], -1)


def halved(plane: np.ndarray) -> np.ndarray:
    """The mean of each 2x2 block; of what there is of it at an odd edge."""
    padded = np.pad(plane, [(0, side % 2) for side in plane.shape], mode="edge")
    return padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2).mean(axis=(1, 3))


def as_yuv(picture: np.ndarray, form: str, colour: str) -> tuple[list[np.ndarray], np.ndarray]:
    """A picture as planes, and as the (H, W, 3) YUV that they hold."""
    height, width = picture.shape[:2]
    full = to_yuv(picture, colour)
    parts = (full[..., 0], halved(full[..., 1]), halved(full[..., 2]))
    luma, blue, red = (np.clip(np.rint(part), 0, 255).astype(np.uint8) for part in parts)
    yuv = np.stack([luma, *(p.repeat(2, 0).repeat(2, 1)[:height, :width] for p in (blue, red))], -1)
    if form == "I420":
        return [luma, blue, red], yuv
    if form == "I420 with gaps":  # what Android calls a pixel stride of 2: both lie in one buffer
        buffer = np.stack([blue, red], -1)
        return [luma, buffer[..., 0], buffer[..., 1]], yuv
    return [luma, np.stack([blue, red] if form == "NV12" else [red, blue], -1)], yuv


def split(planes: list[np.ndarray], form: str) -> list[np.ndarray]:
    if len(planes) == 3:
        return planes
    pair = [planes[1][..., 0], planes[1][..., 1]]
    return [planes[0], *(pair if form == "NV12" else pair[::-1])]


def fitted(swapped: tuple[np.ndarray, np.ndarray], bundle: core_library.Bundle) -> tuple[np.ndarray, np.ndarray | None]:
    crop, mask = swapped
    if bundle.size != crop.shape[2]:
        crop = cv2.resize(crop[0].transpose(1, 2, 0), (bundle.size, bundle.size)).transpose(2, 0, 1)[None].copy()
    return crop, mask if bundle.has_mask else None
