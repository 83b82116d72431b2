"""A short clip of the demo person's bundle at work, beside the truth, so that flicker can be seen and is measured.

python -m benchmarks.demo_clip --bundle bundles/demo --out bundles/demo-clip.mp4
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np

from mfs_deploy import files
from mfs_deploy import swapper as swapping
from mfs_deploy.demo import example
from mfs_deploy.errors import MfsError, UsageError
from mfs_deploy.evaluate.reference import read_reference
from mfs_deploy.faces import align, find, paste_back, pixels
from models.demo.training import evaluate


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), required=True, help="A bundle made with --source demo.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .mp4 to write.")
@click.option("--backend", help="Which artifact to run.  [default: the bundle's first that works here]")
@click.option("--frames", type=click.IntRange(2), default=50, show_default=True)
def main(bundle: Path, out: Path, backend: str | None, frames: int) -> None:
    """Target, swapped and truth side by side; prints the temporal error."""
    try:
        swapper = swapping.open_swapper(bundle, backend, None, find.DETECT)
        cases, _ = read_reference(bundle, swapper.interface.contract(swapper.size))
        if cases[0].truth is None:
            raise UsageError(f"{bundle} was not made with --source demo, so nothing is known to compare its swaps with")
        text = write(swapper, out, frames)
    except MfsError as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(text)


def write(swapper: swapping.Swapper, out: Path, frames: int) -> str:
    """Swap the clip, write it to ``out``, and say how much it flickers."""
    shown, made, true, masks = [], [], [], []
    with click.progressbar(example.clip(frames), label=f"swapping a clip with {swapper.runtime}") as scenes:
        for scene in scenes:
            points = scene.target.landmarks
            crop, back = align.align(scene.target.image, points, swapper.size)
            swapped, mask = swapper.runner.run(pixels.to_tensor(crop))
            shown.append(
                np.hstack([scene.target.image, paste_back.paste_back(scene.target.image, swapped, mask, back), scene.truth])
            )
            made.append(swapped)
            true.append(pixels.to_tensor(align.align(scene.truth, points, swapper.size)[0]))
            masks.append(mask)
    with files.replacing(out) as temporary:
        height, width = shown[0].shape[:2]
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), example.CLIP_FPS, (width, height))
        for frame in shown:
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
        writer.release()
    error, motion = evaluate.temporal_error(*(np.concatenate(arrays) for arrays in (made, true, masks)))
    return (
        f"clip: {out} (target, swapped, truth)\n"
        f"temporal error {error:.2f} levels of 255 inside the face, where the truth changes by {motion:.2f} a frame"
    )


if __name__ == "__main__":
    main()
