"""Untrusted photos: a file of any content in, (H, W, 3) uint8 RGB out, or a ``PhotoError`` that says what to do.

The pixels are those of the original's ``cv2.imread``: JPEG is decoded by the same library with the same settings, EXIF
orientation is applied, an embedded colour profile is not, 16-bit samples keep their high byte.  Two differences are intended:
transparent pixels are shown on white, because the colours hidden under them are arbitrary (``imread`` shows them), and a
damaged file is refused, not filled up with grey.
"""

from __future__ import annotations

import stat
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from mfs_deploy.errors import MissingExtra, PhotoError
from mfs_deploy.faces.pixels import Image

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

MAX_BYTES = 100_000_000
MAX_PIXELS = 100_000_000  # 300 MB decoded; the largest phone sensors give 200, but their photos come out at 12 to 50
MIN_SIDE = 32  # pixels
ALLOWED = "JPEG, PNG, WebP or HEIC"
READABLE = ("JPEG", "PNG", "WEBP", "HEIC")
HEAD = 256  # bytes that identify a format

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_ORIENTATION_TAG = 0x0112
# What Pillow raises on damaged data; pillow-heif has two more.
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error)
_HEIC_DAMAGED = (*_DAMAGED, RuntimeError, IndexError)

# Signatures of files that are mistaken for supported photos; for messages alone.
_OTHERS = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF or camera raw file"),
    (b"MM\0*", "a TIFF or camera raw file"),
    (b"II+\0", "a BigTIFF"),
    (b"8BPS", "a Photoshop document"),
    (b"%PDF", "a PDF"),
    (b"%!PS", "PostScript"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"\0\0\1\0", "an icon"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"<", "HTML, XML or SVG text"),
)


def read(path: Path) -> Image:
    """Decode a JPEG, PNG, WebP or HEIC file, whatever its name, the right way up.  Of several pictures, the first.

    Raises:
        PhotoError: kind "photo-unreadable": missing, not a photo, damaged, too large or too small.
        MissingExtra: HEIC without pillow-heif.
    """
    data = _read_bytes(path)
    found = _identify(data)
    if found == "HEIC":
        return _decode_heic(path, data)
    if found not in READABLE:
        _refuse(path, f"is {found}, not {ALLOWED}", "export it as JPEG or PNG")
    return _decode(path, data, found)


def is_photo(path: Path) -> bool:
    """Whether a regular file begins with the signature of a format that ``read`` decodes."""
    try:
        with path.open("rb") as file:
            return _identify(file.read(HEAD)) in READABLE
    except OSError:
        return False


def _printable(text: object) -> str:
    return "".join(c if c.isprintable() else " " for c in str(text)).strip()


def _refuse(path: Path, why: str, hint: str, cause: BaseException | None = None) -> NoReturn:
    raise PhotoError(f"{_printable(path)} {_printable(why)}", hint=hint, kind="photo-unreadable") from cause


def _damaged(path: Path, found: str, exc: BaseException) -> NoReturn:
    _refuse(path, f"is a damaged or incomplete {found}: {exc}", "copy or download the photo again", exc)


def _read_bytes(path: Path) -> bytes:
    try:
        status = path.stat()  # before opening: a named pipe would wait for ever
        if stat.S_ISDIR(status.st_mode):
            _refuse(path, "is a folder, not a photo", "name one file")
        if not stat.S_ISREG(status.st_mode):
            _refuse(path, "is not a regular file", "name a photo on disk")
        if status.st_size > MAX_BYTES:
            _refuse(path, f"has {status.st_size:,} bytes, more than the {MAX_BYTES:,} allowed", "export a smaller copy")
        data = path.read_bytes()
    except FileNotFoundError as exc:
        _refuse(path, "does not exist", "check the path", exc)
    except PermissionError as exc:
        _refuse(path, "may not be read by this user", "change the file's permissions, or copy the photo elsewhere", exc)
    except (OSError, ValueError) as exc:  # ValueError: a null byte in the name
        _refuse(path, f"cannot be read: {exc}", "check the path and the disk", exc)
    if not data:
        _refuse(path, "is empty", "copy or download the photo again")
    return data


def _identify(data: bytes) -> str:
    """ "JPEG", "PNG", "WEBP", "HEIC", or the name of another format."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF":
        return "WEBP" if data[8:12] == b"WEBP" else "a RIFF file (video or sound)"
    if data[4:8] == b"ftyp":
        return _identify_iso_media(data)
    for magic, name in _OTHERS:
        if data.startswith(magic):
            return name
    return "no picture"


def _identify_iso_media(data: bytes) -> str:
    """HEIC, AVIF and MP4 share a container; the brands in its first box tell them apart (ISO/IEC 14496-12, 23008-12)."""
    size = min(int.from_bytes(data[:4], "big"), HEAD)
    brands = [data[8:12]] + [data[i : i + 4] for i in range(16, size - 3, 4)]
    if any(b in (b"avif", b"avis") for b in brands):
        return "an AVIF"
    if any(b in _HEIC_BRANDS for b in brands):
        return "HEIC"
    return "a video" if brands[0] not in (b"mif1", b"msf1") else "a HEIF with another codec than HEVC"


def _check_size(path: Path, width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        _refuse(path, f"is {width}x{height} pixels; at least {MIN_SIDE}x{MIN_SIDE} are needed", "use a larger photo")
    if width * height > MAX_PIXELS:
        _refuse(path, f"is {width}x{height} pixels, more than {MAX_PIXELS:,} in all", "export a smaller copy")


def _decode(path: Path, data: bytes, found: str) -> Image:
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 million pixels and about odd EXIF; the limit here is its own.
            warnings.simplefilter("ignore")
            with Pillow.open(BytesIO(data), formats=(found,)) as image:
                _check_size(path, *image.size)
                image.load()
                return _upright(_to_rgb(image), _orientation(image))
    except Pillow.DecompressionBombError as exc:
        _refuse(path, f"has more than {MAX_PIXELS:,} pixels: {exc}", "export a smaller copy", exc)
    except MemoryError as exc:
        _refuse(path, "needs more memory than there is", "export a smaller copy", exc)
    except UnidentifiedImageError as exc:  # its text names a BytesIO
        _refuse(path, f"is a damaged or incomplete {found}: its header cannot be read", "copy or download the photo again", exc)
    except _DAMAGED as exc:
        _damaged(path, found, exc)


def _decode_heic(path: Path, data: bytes) -> Image:
    """libheif turns and mirrors the picture itself; the EXIF orientation repeats that, and is not applied."""
    try:
        import pillow_heif
    except ImportError as exc:
        raise MissingExtra("heic", "pillow-heif", f"reading {_printable(path)} (HEIC)") from exc
    try:
        file = pillow_heif.open_heif(BytesIO(data), convert_hdr_to_8bit=True)
        _check_size(path, *file.size)
        return _to_rgb(file.to_pillow())
    except MemoryError as exc:
        _refuse(path, "needs more memory than there is", "export a smaller copy", exc)
    except _HEIC_DAMAGED as exc:
        _damaged(path, "HEIC", exc)


def _to_rgb(image: PillowImage) -> Image:
    from PIL import Image as Pillow

    if image.mode.startswith("I"):  # 16-bit grey; convert("L") would clip it
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        on_white = Pillow.new("RGBA", image.size, "white")
        on_white.alpha_composite(image.convert("RGBA"))
        image = on_white
    return np.array(image.convert("RGB"))


def _orientation(image: PillowImage) -> int:
    """EXIF orientation 1 to 8; 1 where there is none or the EXIF block is damaged, as ``imread`` has it."""
    from PIL import Image as Pillow

    exif = Pillow.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        value = exif.get(_ORIENTATION_TAG, 1)
    except _DAMAGED:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(image: Image, orientation: int) -> Image:
    """Undo an EXIF orientation: 5 to 8 store columns as rows; then each value mirrors an axis or both (EXIF 2.32, 4.6.4)."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
