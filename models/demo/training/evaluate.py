"""How well a checkpoint swaps rendered people it was never trained on, against the exact result.

Source photos go the way of every photo (aligned at 224, encoded); each sample has another source and another target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from mfs_deploy import metrics
from mfs_deploy.architectures.mobilefaceswap.architecture import embed
from mfs_deploy.architectures.mobilefaceswap.generator import Generator, PredictedWeights
from mfs_deploy.demo.rendering import triplets
from mfs_deploy.demo.rendering.attributes import path, sample_attributes
from mfs_deploy.demo.rendering.people import sample_people
from mfs_deploy.demo.rendering.render import (
    crop_view,
    render,
    render_swap,
    scene_landmarks,
)
from mfs_deploy.faces import align
from mfs_deploy.faces.pixels import Image, to_image, to_tensor

SIZE = 224
BATCH = 20
FPS = 25
INSIDE = 0.5  # a pixel is of the face where the true mask is above this

Array = NDArray[np.float32]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Sample:
    """What one sample measured.  PSNR and SSIM to the true result; cosines of identity embeddings."""

    psnr_in_mask_db: float
    psnr_frame_db: float
    ssim_in_mask: float
    ssim_frame: float
    mask_iou: float
    cosine_to_source: float
    cosine_to_target: float
    true_cosine_to_source: float  # what the exact result itself has: no swap can be asked for more
    untouched_psnr_in_mask_db: float  # of the target as it is: what doing nothing gives

    @property
    def identity_right(self) -> bool:
        return self.cosine_to_source > self.cosine_to_target


@dataclass(frozen=True)
class Pictures:
    """One sample to look at: (224, 224, 3) uint8."""

    source: Image
    target: Image
    swapped: Image
    truth: Image


def samples(generator: Generator, encoder: torch.nn.Module, n: int) -> Iterator[tuple[Sample, Pictures]]:
    """``n`` held-out samples, in a fixed order; networks in eval mode."""
    for start in range(0, n, BATCH):
        drawn = triplets.make(min(BATCH, n - start), triplets.HELD_OUT + 10 + start, SIZE, source_size=align.SOURCE_SIZE)
        for i in range(len(drawn)):
            source, target, truth = (_image(t[i]) for t in (drawn.source, drawn.target, drawn.result))
            predicted = predict(generator, encoder, source)
            with torch.inference_mode():
                swapped, mask = (t.numpy() for t in generator.swap(predicted, torch.from_numpy(to_tensor(target))))
            made = to_image(swapped)
            cosines = [_cosine(encoder, a, b) for a, b in ((made, source), (made, target), (truth, source))]
            yield (
                _measure(swapped, mask, to_tensor(truth), drawn.mask[i : i + 1].numpy() / 255, cosines, target),
                Pictures(source, target, made, truth),
            )


def summary(measured: list[Sample]) -> dict[str, float]:
    """Means, and the share whose identity is right."""
    means = {name: float(np.mean([asdict(sample)[name] for sample in measured])) for name in asdict(measured[0])}
    return {"samples": len(measured), **means, "identity_right": float(np.mean([s.identity_right for s in measured]))}


def temporal(generator: Generator, encoder: torch.nn.Module, clips: int, frames: int) -> dict[str, float]:
    """Flicker on moving held-out scenes: mean error of the change from frame to frame inside the face, in levels of 255.

    Returns:
        ``error``, and ``motion``: the mean true change itself, which the error is to be seen against.
    """
    errors, motions = [], []
    for k in range(clips):
        seed = triplets.HELD_OUT + 1000 + k
        scenes, faces = path(sample_attributes(1, seed), frames, fps=FPS), sample_people(1, seed + 500).take([0] * frames)
        heads = sample_people(1, seed).take([0] * frames)
        before, after = render_swap(heads, faces, scenes, SIZE, crop_view(scene_landmarks(heads, scenes), SIZE))
        shown = sample_attributes(1, seed + 500)
        source = render(faces.take([0]), shown, SIZE, crop_view(scene_landmarks(faces.take([0]), shown), SIZE))
        predicted = predict(generator, encoder, _image((source.image[0] * 255).round().byte()))
        with torch.inference_mode():
            made = torch.cat([generator.swap(predicted, frame[None])[0] for frame in before.image])
        error, motion = temporal_error(made.numpy(), after.image.numpy(), before.mask.numpy())
        errors.append(error)
        motions.append(motion)
    return {"clips": clips, "frames": frames, "error": float(np.mean(errors)), "motion": float(np.mean(motions))}


def temporal_error(made: Array, truth: Array, mask: Array) -> tuple[float, float]:
    """Of one clip, (T, 3, S, S) in [0, 1] and (T, 1, S, S): error and true motion, in levels of 255, where both frames are face."""
    inside = np.repeat((mask[1:] > INSIDE) & (mask[:-1] > INSIDE), 3, axis=1)
    change, true_change = np.diff(made, axis=0)[inside], np.diff(truth, axis=0)[inside]
    return float(np.abs(change - true_change).mean() * 255), float(np.abs(true_change).mean() * 255)


def _measure(swapped: Array, mask: Array, truth: Array, true_mask: NDArray[Any], cosines: list[float], target: Image) -> Sample:
    inside = true_mask[0, 0] > INSIDE
    ssim, ssim_map = structural_similarity(
        _hwc(truth), _hwc(swapped), channel_axis=2, data_range=1.0, gaussian_weights=True, sigma=1.5, full=True,
        use_sample_covariance=False,
    )  # fmt: skip
    said = mask[0, 0] > INSIDE
    return Sample(
        psnr_in_mask_db=metrics.psnr_db(swapped[0][:, inside], truth[0][:, inside], peak=1.0),
        psnr_frame_db=metrics.psnr_db(swapped, truth, peak=1.0),
        ssim_in_mask=float(ssim_map[inside].mean()),
        ssim_frame=float(ssim),
        mask_iou=float((said & inside).sum() / (said | inside).sum()),
        cosine_to_source=cosines[0],
        cosine_to_target=cosines[1],
        true_cosine_to_source=cosines[2],
        untouched_psnr_in_mask_db=metrics.psnr_db(to_tensor(target)[0][:, inside], truth[0][:, inside], peak=1.0),
    )


def predict(generator: Generator, encoder: torch.nn.Module, source: Image) -> PredictedWeights:
    person = embed(encoder, source)
    with torch.inference_mode():
        predicted: PredictedWeights = generator(torch.from_numpy(person.embedding), torch.from_numpy(person.feature_map))
    return predicted


def _cosine(encoder: torch.nn.Module, a: Image, b: Image) -> float:
    return metrics.cosine(embed(encoder, a).embedding, embed(encoder, b).embedding)


def _image(pixels: torch.Tensor) -> Image:
    """(3, H, W) uint8 to (H, W, 3)."""
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def _hwc(array: Array) -> Array:
    return np.ascontiguousarray(array[0].transpose(1, 2, 0))
