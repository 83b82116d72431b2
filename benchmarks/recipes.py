"""What every recipe costs on every backend, on rendered people whose true swap is known.

    python -m benchmarks.recipes

writes benchmarks/results/recipes.json, and from it the table in the pages (between its markers).  One
identity that was never trained on, held-out targets and a clip; latency with one thread on this machine, as a ratio to the same
backend's fp32 within this run.  Core ML is run by our evaluator off macOS, so it has no latency here.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import pages
from mfs_deploy import metrics
from mfs_deploy.backends import launch
from mfs_deploy.backends.registry import BACKENDS, has
from mfs_deploy.bundle import provenance
from mfs_deploy.demo import example
from mfs_deploy.demo.rendering.attributes import path, sample_attributes
from mfs_deploy.demo.rendering.people import sample_people
from mfs_deploy.demo.rendering.render import crop_view, render_swap, scene_landmarks
from mfs_deploy.demo.rendering.triplets import HELD_OUT
from mfs_deploy.evaluate import parity
from mfs_deploy.evaluate.reference import run_pytorch
from mfs_deploy.exporter import artifacts, auto_recipe, pipeline, write_bundle
from mfs_deploy.exporter.calibrate import CalibrationContext, calibrate
from mfs_deploy.exporter.prepare import find_person, open_models
from mfs_deploy.exporter.request import DEMO, CalibrationOptions, Formats, Network, Person
from mfs_deploy.faces import pixels
from mfs_deploy.graph import simplify
from mfs_deploy.quant import float16_headroom, ranges_file, recipes
from models.demo.training import evaluate

RESULTS = pages.RESULTS / "recipes.json"
SIZE = 224
TARGETS, FRAMES = 24, 25
ROUNDS = 3
RING = 4  # pixels on either side of the mask's edge
ORDER = ("fp32", "fp16", "w8", "w8a16", "mixed", "w8a8", "pal6", "pal4")

Array = NDArray[np.float32]


def inputs() -> tuple[Array, Array, Array]:
    """Targets, truths (N, 3, S, S) and true masks (N, 1, S, S): held-out people with the demo source's face, then its clip."""
    seed = HELD_OUT + 2000
    people, scenes = sample_people(TARGETS, seed), sample_attributes(TARGETS, seed)
    faces = sample_people(1, example.SOURCE).take([0] * TARGETS)
    before, after = render_swap(people, faces, scenes, SIZE, crop_view(scene_landmarks(people, scenes), SIZE))
    moving = path(sample_attributes(1, example.TARGET), FRAMES, fps=example.CLIP_FPS)
    head = sample_people(1, example.TARGET).take([0] * FRAMES)
    shown, true = render_swap(head, faces.take([0] * FRAMES), moving, SIZE, crop_view(scene_landmarks(head, moving), SIZE))
    pairs = ((before.image, shown.image), (after.image, true.image), (before.mask, shown.mask))
    made = [np.concatenate([a.numpy(), b.numpy()]).astype(np.float32) for a, b in pairs]
    return (np.rint(made[0] * 255) / np.float32(255)).astype(np.float32), made[1], made[2]


def judge(got: parity.Outputs, reference: parity.Outputs, truth: Array, mask: Array, encode: parity.Encode) -> dict[str, float]:
    """Means over the targets; the temporal error over the clip."""
    rows = []
    for i in range(TARGETS):
        inside = mask[i, 0] > evaluate.INSIDE
        kernel = np.ones((2 * RING + 1, 2 * RING + 1), np.uint8)
        ring = (cv2.dilate(inside.astype(np.uint8), kernel) - cv2.erode(inside.astype(np.uint8), kernel)) > 0
        a, b = got.swapped[i], reference.swapped[i]
        said, was = got.mask[i, 0] > evaluate.INSIDE, reference.mask[i, 0] > evaluate.INSIDE
        embeddings = [encode(pixels.to_image(x[None])) for x in (a, b)]
        rows.append(
            {
                "psnr_db": metrics.psnr_db(a, b, peak=1.0),
                "in_mask_psnr_db": metrics.psnr_db(a[:, inside], b[:, inside], peak=1.0),
                "seam_psnr_db": metrics.psnr_db(a[:, ring], b[:, ring], peak=1.0),
                "truth_psnr_db": metrics.psnr_db(a, truth[i], peak=1.0),
                "mask_iou": float((said & was).sum() / max((said | was).sum(), 1)),
                "identity_cosine": metrics.cosine(*embeddings),
            }
        )
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    clip = slice(TARGETS, None)
    error, _ = evaluate.temporal_error(got.swapped[clip], truth[clip], mask[clip])
    return {**means, "worst_psnr_db": min(row["psnr_db"] for row in rows), "temporal_error": error}


def measure() -> dict[str, Any]:
    formats = Formats(coreml_io="tensor", calibration=CalibrationOptions(photos=DEMO))
    models = open_models(Network(DEMO))
    person = find_person(Person(DEMO), models).identity
    baked = models.arch.bake(models.generator, person)
    net = models.arch.load(baked)
    graph = simplify(net)
    targets, truth, mask = inputs()
    reference = run_pytorch(net, targets)
    headroom = float16_headroom.scan(graph, targets[:4])
    context = CalibrationContext(models.arch.INTERFACE.name, SIZE, None)
    calibrated = calibrate(formats.calibration, context, graph, targets[:1])
    encode = pipeline.encode_with(models)
    assert encode is not None
    results: dict[str, Any] = {"pytorch": judge(reference, reference, truth, mask, encode), "recipes": {}}
    facts = provenance.Facts(models.arch.INTERFACE.contract(SIZE), models.files, provenance.weights_sha256(baked))
    with launch.scratch() as scratch:
        everything: list[launch.JobResult] = []
        for name in ORDER:
            recipe = recipes.load(name)
            pairs = [(backend, recipe) for backend in BACKENDS if has(backend, recipe)]
            given: ranges_file.Calibration | None = calibrated if recipe.is_static else None
            jobs = artifacts.make_jobs(formats, pairs, headroom, facts, given)
            for one in launch.run(jobs, targets, scratch, weights=baked):
                entry = judge(parity.Outputs.of(one.outputs), reference, truth, mask, encode)
                entry["bytes"] = write_bundle.artifact_bytes(one)
                results["recipes"].setdefault(name, {})[one.job.backend] = entry
                print(name, one.job.backend, {k: round(v, 3) for k, v in entry.items()}, flush=True)
                everything.append(one)
        # In rounds, so that a slow minute of the machine falls on all of them.
        times = [auto_recipe.time(everything, targets[:1], scratch / str(i)) for i in range(ROUNDS)]
        for one, measured in zip(everything, zip(*times, strict=True), strict=True):
            if None not in measured:
                results["recipes"][one.job.recipe_name][one.job.backend]["frame_ms"] = float(np.median(measured))
    results["descriptions"] = {name: recipes.load(name).description for name in ORDER}
    return results


def table(results: dict[str, Any]) -> str:
    columns = (
        *("backend", "recipe", "size", "of fp32", "PSNR to PyTorch", "inside the face", "at the seam", "to the truth (PyTorch)"),
        *("mask IoU", "identity cosine", "temporal error (PyTorch)", "frame time of fp32"),
    )
    rows = []
    torch = results["pytorch"]
    for backend, module in BACKENDS.items():
        for name in ORDER:
            entry, full = (results["recipes"].get(n, {}).get(backend) for n in (name, "fp32"))
            if entry is None or full is None:
                continue
            cells = (
                module.TITLE,
                name,
                f"{entry['bytes'] / 1e6:.2f} MB",
                f"{entry['bytes'] / full['bytes']:.2f}",
                *(f"{entry[key]:.1f} dB" for key in ("psnr_db", "in_mask_psnr_db", "seam_psnr_db")),
                f"{entry['truth_psnr_db']:.2f} ({torch['truth_psnr_db']:.2f}) dB",
                f"{entry['mask_iou']:.3f}",
                f"{entry['identity_cosine']:.4f}",
                f"{entry['temporal_error']:.2f} ({torch['temporal_error']:.2f})",
                f"{entry['frame_ms'] / full['frame_ms']:.2f}" if "frame_ms" in entry else "-",
            )
            rows.append(cells)
    return pages.markdown(columns, rows)


def show(results: dict[str, Any]) -> None:
    """Fill the pages from results."""
    pages.fill("recipes", table(results))


if __name__ == "__main__":
    pages.run(measure, show, RESULTS)
