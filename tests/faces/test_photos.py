"""A stranger's photo must come out as the original would see it, or be refused with words that help."""

from __future__ import annotations

import os
import struct
import sys
import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from mfs_deploy.errors import MissingExtra, PhotoError
from mfs_deploy.faces import photos


@pytest.fixture
def picture(portrait) -> np.ndarray:
    """(181, 203, 3): odd sides, so that chroma subsampling has an edge."""
    return np.ascontiguousarray(portrait[40:221, 130:333])


def encoded(image: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    buffer = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def read(tmp_path, data: bytes, name: str = "photo.jpg") -> np.ndarray:
    path = tmp_path / name
    path.write_bytes(data)
    return photos.read(path)


def refused(tmp_path, data: bytes, name: str = "photo.jpg") -> PhotoError:
    with pytest.raises(PhotoError) as caught:
        read(tmp_path, data, name)
    error = caught.value
    assert error.kind == "photo-unreadable"
    assert name in error.message
    assert error.hint
    assert "\n" not in error.message + error.hint
    return error


def imread(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


# Pixels


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_pixels_are_those_of_imread(tmp_path, picture, quality, subsampling, progressive):
    data = encoded(picture, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
    image = read(tmp_path, data)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, imread(data))


def test_grey_jpeg_and_webp_pixels_are_those_of_imread(tmp_path, picture):
    for data in (encoded(Image.fromarray(picture).convert("L"), "JPEG"), encoded(picture, "WEBP", quality=70)):
        np.testing.assert_array_equal(read(tmp_path, data), imread(data))


def test_cmyk_jpeg_is_within_one_level_of_imread(tmp_path, picture):
    """Both convert by (1 - ink) x (1 - black); they round differently."""
    data = encoded(Image.fromarray(picture).convert("CMYK"), "JPEG", quality=90)
    assert np.abs(read(tmp_path, data).astype(int) - imread(data)).max() <= 1


def test_colour_profile_is_ignored(tmp_path, picture):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    with_profile = encoded(picture, "PNG", icc_profile=profile)
    assert with_profile != encoded(picture, "PNG")
    np.testing.assert_array_equal(read(tmp_path, with_profile, "p.png"), picture)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_is_honoured(tmp_path, picture, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"WEBP": {"lossless": True}}.get(kind, {})
    data = encoded(picture, kind, exif=exif.tobytes(), **lossless)
    with Image.open(BytesIO(data)) as plain:
        stored = np.array(plain.convert("RGB"))
    upright = {  # EXIF: where the stored first row and first column belong
        1: stored,
        2: np.fliplr(stored),
        3: np.rot90(stored, 2),
        4: np.flipud(stored),
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).transpose(1, 0, 2),
        8: np.rot90(stored, 1),
    }[orientation]
    image = read(tmp_path, data)
    np.testing.assert_array_equal(image, upright)
    if kind == "JPEG":
        np.testing.assert_array_equal(image, imread(data))


@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0"],
)
def test_damaged_orientation_does_not_lose_the_photo(tmp_path, picture, exif):
    data = encoded(picture, "JPEG", exif=exif)
    np.testing.assert_array_equal(read(tmp_path, data), imread(encoded(picture, "JPEG")))


def test_palette_and_one_bit_png(tmp_path, picture):
    palette = Image.fromarray(picture).quantize(64)
    np.testing.assert_array_equal(read(tmp_path, encoded(palette, "PNG")), np.array(palette.convert("RGB")))
    bits = Image.fromarray(picture).convert("1")
    assert set(np.unique(read(tmp_path, encoded(bits, "PNG")))) == {0, 255}


def test_transparent_pixels_become_white_and_opaque_ones_keep_their_colour(tmp_path, picture):
    alpha = np.full(picture.shape[:2], 255, np.uint8)
    alpha[:50] = 0
    alpha[50:60] = 128
    rgba = np.dstack([picture, alpha])
    for data in (encoded(rgba, "PNG"), encoded(rgba, "WEBP", lossless=True)):
        image = read(tmp_path, data)
        assert (image[:50] == 255).all()
        np.testing.assert_array_equal(image[60:], picture[60:])
        assert np.abs(image[50:60] - (picture[50:60] * 128.0 + 255 * 127) / 255).max() <= 1


def test_transparent_palette_colour_and_grey_with_alpha_become_white(tmp_path, picture):
    palette = Image.fromarray(picture).quantize(16)
    hidden = np.array(palette) == 3
    image = read(tmp_path, encoded(palette, "PNG", transparency=3))
    assert (image[hidden] == 255).all()
    np.testing.assert_array_equal(image[~hidden], np.array(palette.convert("RGB"))[~hidden])
    grey = np.dstack([picture[..., 0], np.zeros_like(picture[..., 0])])
    assert (read(tmp_path, encoded(Image.fromarray(grey, "LA"), "PNG")) == 255).all()


def test_16_bit_png_pixels_are_those_of_imread(tmp_path):
    grey = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    for image in (grey, np.dstack([grey, grey[::-1], grey.T])):
        data = cv2.imencode(".png", image)[1].tobytes()
        seen = read(tmp_path, data)
        assert seen.dtype == np.uint8
        assert len(np.unique(seen)) == 256
        np.testing.assert_array_equal(seen, imread(data))


def test_first_picture_of_an_animation_and_of_a_phone_camera_pair(tmp_path, picture):
    first, second = Image.fromarray(picture), Image.fromarray(255 - picture)
    animated = encoded(first, "WEBP", save_all=True, append_images=[second], lossless=True)
    np.testing.assert_array_equal(read(tmp_path, animated), picture)
    pair = encoded(first, "MPO", save_all=True, append_images=[second])
    np.testing.assert_array_equal(read(tmp_path, pair), imread(pair))


def test_content_decides_not_the_name(tmp_path, picture):
    np.testing.assert_array_equal(read(tmp_path, encoded(picture, "PNG"), "holiday.jpeg"), picture)
    np.testing.assert_array_equal(read(tmp_path, encoded(picture, "PNG"), "noextension"), picture)


# HEIC


def test_heic_without_the_extra_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf" + b"\0" * 64)
    with pytest.raises(MissingExtra, match="pillow-heif") as caught:
        photos.read(tmp_path / "IMG_1.HEIC")
    assert caught.value.extra == "heic"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_turned_once(tmp_path, picture, orientation):
    heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = BytesIO()
    heif.from_pillow(Image.fromarray(picture)).save(buffer, quality=-1, chroma=444, matrix_coefficients=0, exif=exif.tobytes())
    expected = read(tmp_path, encoded(picture, "PNG", exif=exif.tobytes()))
    image = read(tmp_path, buffer.getvalue(), "IMG_1.HEIC")
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= 2


def test_damaged_heic_is_refused(tmp_path, picture):
    heif = pytest.importorskip("pillow_heif")
    buffer = BytesIO()
    heif.from_pillow(Image.fromarray(picture)).save(buffer)
    data = buffer.getvalue()
    for cut in (40, len(data) // 2, len(data) - 50):
        assert "HEIC" in refused(tmp_path, data[:cut], "IMG_1.HEIC").message


# Refusals


@pytest.mark.parametrize(
    ("kind", "word"), [("GIF", "GIF"), ("BMP", "BMP"), ("TIFF", "TIFF"), ("PPM", "no picture"), ("JPEG2000", "JPEG 2000")]
)
def test_other_formats_are_named_though_pillow_could_read_them(tmp_path, picture, kind, word):
    error = refused(tmp_path, encoded(picture, kind))
    assert word in error.message
    assert "JPEG, PNG, WebP or HEIC" in error.message


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf", "AVIF"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "video"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "RIFF"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\3\4....", "ZIP"),
        (b"<!doctype html>", "HTML"),
        (b"hello, world", "no picture"),
        (b"\0", "no picture"),
        (b"", "empty"),
    ],
)
def test_a_file_that_is_no_photo_is_named_by_its_kind(tmp_path, data, word):
    assert word in refused(tmp_path, data).message


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.95])
def test_truncated_photo_is_refused_not_filled_with_grey(tmp_path, picture, kind, part):
    data = encoded(picture, kind)
    assert kind in refused(tmp_path, data[: int(len(data) * part)]).message


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_damaged_photo_is_read_or_refused_and_never_crashes(tmp_path, picture, kind):
    rng = np.random.default_rng(7)
    exif = Image.Exif()
    exif[0x0112] = 6
    original = np.frombuffer(encoded(picture, kind, exif=exif.tobytes()), np.uint8)
    outcomes: set[object] = set()
    messages = ""
    for i in range(150):
        data = original.copy()
        span = len(data) if i % 2 else min(200, len(data))  # half of them in the headers
        where = rng.integers(12, span, size=rng.integers(1, 6))
        data[where] = rng.integers(0, 256, size=len(where))
        try:
            outcomes.add(read(tmp_path, data.tobytes()).ndim)
        except PhotoError as error:
            messages += error.message
            outcomes.add(error.kind)
    assert messages.isprintable()
    assert outcomes == {3, "photo-unreadable"}


def test_missing_file_folder_and_impossible_name(tmp_path):
    for name, word in (("nothing.jpg", "does not exist"), (".", "folder"), ("a\0b", "cannot be read")):
        with pytest.raises(PhotoError, match=word) as caught:
            photos.read(tmp_path / name)
        assert caught.value.kind == "photo-unreadable"


def test_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path, monkeypatch):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    monkeypatch.setattr(type(path), "read_bytes", lambda self: pytest.fail("read"))
    with pytest.raises(PhotoError, match="regular file"):
        photos.read(path)


def test_a_photo_the_user_may_not_read_says_so(tmp_path, picture, monkeypatch):
    path = tmp_path / "secret.jpg"
    path.write_bytes(encoded(picture, "JPEG"))
    path.chmod(0)
    if os.geteuid() == 0:  # root reads everything

        def denied(self):
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(type(path), "read_bytes", denied)
    with pytest.raises(PhotoError, match=r"secret\.jpg may not be read by this user") as caught:
        photos.read(path)
    assert caught.value.kind == "photo-unreadable"


def test_file_name_with_a_line_break_stays_on_one_line(tmp_path):
    with pytest.raises(PhotoError) as caught:
        photos.read(tmp_path / "a\nb\x1b[31m.jpg")
    assert caught.value.message.isprintable()


def test_too_large_a_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "huge.jpg"
    with path.open("wb") as f:
        f.truncate(photos.MAX_BYTES + 1)
    monkeypatch.setattr(type(path), "read_bytes", lambda self: pytest.fail("read"))
    with pytest.raises(PhotoError, match="100,000,001 bytes, more than the 100,000,000"):
        photos.read(path)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height"), [(10_001, 10_000), (14_000, 10_000), (60_000, 60_000), (2_000_000_000, 2_000_000_000)]
)
def test_decompression_bomb_is_refused_by_its_header(tmp_path, width, height):
    assert "more than 100,000,000" in refused(tmp_path, png_header(width, height)).message


def test_pixel_limit_itself_is_allowed(tmp_path, monkeypatch, picture):
    monkeypatch.setattr(photos, "MAX_PIXELS", picture.shape[0] * picture.shape[1])
    data = encoded(picture, "PNG")
    assert read(tmp_path, data).shape == picture.shape
    monkeypatch.setattr(photos, "MAX_PIXELS", picture.shape[0] * picture.shape[1] - 1)
    assert "203x181" in refused(tmp_path, data).message
    # Between Pillow's own limit of 89 million and ours its warning must not get in the way: damaged, not too large.
    monkeypatch.setattr(photos, "MAX_PIXELS", 100_000_000)
    assert "damaged" in refused(tmp_path, png_header(9_500, 10_000)).message


def test_a_side_under_32_pixels_is_refused(tmp_path, picture):
    assert read(tmp_path, encoded(picture[:32, :32], "PNG")).shape == (32, 32, 3)
    assert "100x31 pixels; at least 32x32" in refused(tmp_path, encoded(picture[:31, :100], "PNG")).message
