"""mfs swap: run a bundle on a photo or a clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mfs_deploy.commands import options
from mfs_deploy.commands.console import Console, output_options


@click.command("swap", short_help="Put a bundle's face into a photo or a clip.")
@click.option("--bundle", type=options.PATH, required=True, help="A folder that 'mfs export' wrote.")
@click.option("--image", type=options.PATH, help="A photo to put the face into.")
@click.option("--video", type=options.PATH, help="A clip to put the face into; its sound is not kept.")
@click.option("--out", type=options.PATH, help="What to write: .png or .jpg, or .mp4.  [default: swapped.png or swapped.mp4]")
@click.option("--backend", help="Which artifact to run.  [default: the bundle's first that works here]")
@options.location()
@options.detector
@output_options
def command(console: Console, image: Path | None, video: Path | None, **kwargs: Any) -> None:
    """Put the bundle's face into a photo or a clip: align, swap, paste back.

    The face is found by --detector, or lies at --landmarks (the same in every frame of a clip).
    """
    from mfs_deploy import swapper as swapping
    from mfs_deploy.errors import UsageError

    location = options.pop_location(kwargs)
    if (image is None) == (video is None):
        raise UsageError("give exactly one of --image and --video")
    out = kwargs.pop("out") or Path("swapped.png" if image is not None else "swapped.mp4")
    if video is not None and location.face is not None:
        raise UsageError("--face has no meaning in a clip: the best face of each frame is taken")
    source, suffixes = (image, swapping.IMAGE_SUFFIXES) if image is not None else (video, swapping.CLIP_SUFFIXES)
    assert source is not None
    swapping.check_place(kwargs["bundle"], source, out, suffixes)
    swapper = swapping.open_swapper(kwargs["bundle"], kwargs["backend"], kwargs["detector"], location)
    console.note(f"running {swapper.backend} with {swapper.runtime}; label what it makes as AI-generated")
    if image is not None:
        swapping.swap_image(swapper, image, out)
        console.result({"out": str(out), "backend": swapper.backend}, str(out))
    else:
        assert video is not None
        counts = swapping.swap_video(swapper, video, out, console)
        console.finish()
        text = f"{out}: {counts.frames} frames, a face in {counts.swapped} of them"
        console.result({"out": str(out), "backend": swapper.backend, "frames": counts.frames, "swapped": counts.swapped}, text)
