"""Measures the demo weights on held-out rendered people and writes what it found.

    python -m benchmarks.demo_model

writes benchmarks/results/demo_model.json; the table in the pages (between its markers); and two pictures:
docs/demo.png, and docs/preview.png, which is the demo bundle's.  Samples and clips are fixed by seed, so the same weights give the
same figures.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks import pages
from mfs_deploy.architectures.mobilefaceswap.generator import Generator
from mfs_deploy.exporter import pipeline
from mfs_deploy.exporter.prepare import open_models
from mfs_deploy.exporter.request import DEMO, ExportRequest, Network, Person
from models.demo.training import evaluate

RESULTS = pages.RESULTS / "demo_model.json"
SAMPLES, CLIPS, FRAMES = 240, 4, 50
FIRST = 12  # samples that a test measures again
SHOWN = 6  # samples in the picture: the first ones, not chosen
CELL, GAP, HEADER = 150, 4, 24


def measure() -> dict[str, Any]:
    """Also draws the two pictures."""
    models = open_models(Network(DEMO))
    assert isinstance(models.generator, Generator)
    assert models.encoder is not None
    measured: list[evaluate.Sample] = []
    pictures: list[evaluate.Pictures] = []
    for sample, shown in evaluate.samples(models.generator, models.encoder, SAMPLES):
        measured.append(sample)
        if len(pictures) < SHOWN:
            pictures.append(shown)
    picture(pictures).save(pages.ROOT / "docs" / "demo.png", optimize=True)
    with tempfile.TemporaryDirectory() as folder:
        exported = pipeline.export(ExportRequest(Network(DEMO), Person(DEMO), Path(folder) / "demo"))
        shutil.copy(exported.path / "preview.png", pages.ROOT / "docs" / "preview.png")
    return {
        "checkpoint": {f.role: f.sha256 for f in models.files},
        "held_out": evaluate.summary(measured),
        "first": evaluate.summary(measured[:FIRST]),
        "temporal": evaluate.temporal(models.generator, models.encoder, CLIPS, FRAMES),
    }


def table(results: dict[str, Any]) -> str:
    held, temporal = results["held_out"], results["temporal"]
    rows = [
        (
            "PSNR to the true result, inside the face",
            f"{held['psnr_in_mask_db']:.1f} dB",
            f"target left as it is: {held['untouched_psnr_in_mask_db']:.1f} dB",
        ),
        ("PSNR to the true result, whole crop", f"{held['psnr_frame_db']:.1f} dB", ""),
        ("SSIM, inside the face", f"{held['ssim_in_mask']:.3f}", ""),
        ("SSIM, whole crop", f"{held['ssim_frame']:.3f}", ""),
        ("mask IoU", f"{held['mask_iou']:.3f}", ""),
        ("identity cosine to the source", f"{held['cosine_to_source']:.2f}", f"true result: {held['true_cosine_to_source']:.2f}"),
        ("identity cosine to the target", f"{held['cosine_to_target']:.2f}", ""),
        ("nearer to the source's identity than to the target's", f"{held['identity_right']:.1%}", ""),
        ("temporal error, levels of 255", f"{temporal['error']:.2f}", f"true motion: {temporal['motion']:.2f}"),
    ]
    head = f"| {held['samples']} held-out samples at 224, PyTorch, float32 | measured | beside it |\n|---|---|---|\n"
    return head + "".join(f"| {a} | {b} | {c} |\n" for a, b, c in rows)


def picture(shown: list[evaluate.Pictures]) -> Image.Image:
    """A row a sample: source, target, swapped, truth."""
    titles = ("source: who", "target: where", "swapped", "true result")
    sheet = Image.new("RGB", (2 * len(titles) * (CELL + GAP) + 3 * GAP, HEADER + len(shown) // 2 * (CELL + GAP)), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for i, one in enumerate(shown):
        left, top = (i % 2) * (len(titles) * (CELL + GAP) + 3 * GAP), HEADER + i // 2 * (CELL + GAP)
        for j, (title, image) in enumerate(zip(titles, (one.source, one.target, one.swapped, one.truth), strict=True)):
            place = (left + j * (CELL + GAP), top)
            sheet.paste(Image.fromarray(np.asarray(image)).resize((CELL, CELL), Image.Resampling.LANCZOS), place)
            if i < 2:
                draw.text((place[0] + 2, 4), title, fill=(40, 40, 40), font=font)
    return sheet


def show(results: dict[str, Any]) -> None:
    """Fill the pages from results."""
    pages.fill("demo", table(results))


if __name__ == "__main__":
    pages.run(measure, show, RESULTS)
