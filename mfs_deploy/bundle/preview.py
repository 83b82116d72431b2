"""The preview, one PNG: source, target, swapped, truth, mask and composite, a row for PyTorch and one for each backend."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from mfs_deploy.errors import BundleError
from mfs_deploy.faces import pixels

CELL = 224
GAP = 6
HEADER = 26
SIDE = 150  # the labels' width
COLUMNS = ("source", "target", "swapped", "truth", "mask", "composite")  # "truth" for rendered targets alone
PAPER, INK = (255, 255, 255), (40, 40, 40)


@dataclass(frozen=True)
class Row:
    """``label`` stands left of the row's pictures; ``swapped`` (1, 3, S, S) and ``mask`` (1, 1, S, S) in [0, 1]."""

    label: str
    swapped: NDArray[np.float32]
    mask: NDArray[np.float32]
    composite: pixels.Image


def write(
    path: Path, source: pixels.Image | None, target: pixels.Image, rows: list[Row], truth: pixels.Image | None = None
) -> None:
    """Draw the preview.  ``source`` is None if the identity came from a file."""
    columns = [name for name in COLUMNS if truth is not None or name != "truth"]
    width = SIDE + len(columns) * (CELL + GAP)
    sheet = PillowImage.new("RGB", (width, HEADER + len(rows) * (CELL + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for i, title in enumerate(columns):
        draw.text((SIDE + i * (CELL + GAP), 5), title, fill=INK, font=font)
    for j, row in enumerate(rows):
        top = HEADER + j * (CELL + GAP)
        draw.multiline_text((6, top + 8), row.label, fill=INK, font=font, spacing=4)
        mask = pixels.to_image(np.repeat(row.mask, 3, axis=1))
        cells = {
            "source": source,
            "target": target,
            "swapped": pixels.to_image(row.swapped),
            "truth": truth,
            "mask": mask,
            "composite": row.composite,
        }
        for i, name in enumerate(columns):
            cell = cells[name]
            place = (SIDE + i * (CELL + GAP), top)
            if cell is None:
                draw.rectangle((*place, place[0] + CELL - 1, top + CELL - 1), fill=(235, 235, 235))
                draw.text((place[0] + 40, top + 100), "from an identity file", fill=INK, font=font)
            else:
                sheet.paste(PillowImage.fromarray(_fit(cell)), place)
    sheet.save(path, "PNG", optimize=False)


def source(path: Path) -> pixels.Image:
    """The source's cell of a preview that ``write`` drew, (CELL, CELL, 3) uint8 RGB.

    Raises:
        BundleError: the file is not a preview.
    """
    widths = [SIDE + columns * (CELL + GAP) for columns in (len(COLUMNS) - 1, len(COLUMNS))]
    try:
        with PillowImage.open(path, formats=("PNG",)) as sheet:
            if sheet.width not in widths or (sheet.height - HEADER) // (CELL + GAP) not in range(1, 10):
                raise ValueError(f"{sheet.width}x{sheet.height} pixels are not those of a preview")
            return np.array(sheet.convert("RGB").crop((SIDE, HEADER, SIDE + CELL, HEADER + CELL)))
    except (OSError, ValueError, SyntaxError, PillowImage.DecompressionBombError) as exc:
        raise BundleError(f"{path.name} cannot be read: {exc}", hint="copy or export the bundle again") from exc


def _fit(image: pixels.Image) -> pixels.Image:
    """The image in a CELL x CELL square, shrunk to fit, on white."""
    height, width = image.shape[:2]
    scale = CELL / max(height, width)
    small = pixels.shrink(image, max(1, round(width * scale)), max(1, round(height * scale)))
    square = np.full((CELL, CELL, 3), 255, np.uint8)
    y, x = (CELL - small.shape[0]) // 2, (CELL - small.shape[1]) // 2
    square[y : y + small.shape[0], x : x + small.shape[1]] = small
    return square
