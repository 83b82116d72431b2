"""MobileFSGAN's contract, alignment and file names; no PyTorch."""

from __future__ import annotations

import re

from mfs_deploy.architectures.base import CheckpointFiles, Interface
from mfs_deploy.architectures.card import ENCODER, GENERATOR
from mfs_deploy.contract import (
    INPUT_NAME,
    SWAPPED_NAME,
    Contract,
    TensorSpec,
)
from mfs_deploy.faces.align import ALIGNMENT, SIMILARITY, AlignmentTemplate
from mfs_deploy.faces.paste_back import Ellipse

SIZE = 256
SEEN = (26, 230)  # of its own crop, what the authors' code gives to the identity encoder, shrunk to ...
SHRUNK = 112
# The authors publish no alignment.  This one follows from that: in the middle of the crop, shrunk, the landmarks lie where encoders
# trained like ArcFace's have them, and such encoders' faces are turned and scaled but not sheared.
ALIGNED = AlignmentTemplate(
    base=SIZE,
    points=tuple(
        (SEEN[0] + x * (SEEN[1] - SEEN[0] - 1) / (SHRUNK - 1), SEEN[0] + y * (SEEN[1] - SEEN[0] - 1) / (SHRUNK - 1))
        for x, y in ALIGNMENT.points
    ),
    solver=SIMILARITY,
)
# Brow to chin and cheek to cheek of that crop; the network draws the whole crop and gives no mask.
PASTED = Ellipse(centre=(0.5, 0.575), radii=(0.36, 0.4), edge=0.25)


def contract(size: int) -> Contract:
    return Contract(
        arch="mobilefsgan",
        size=size,
        input=TensorSpec(INPUT_NAME, (1, 3, size, size), 0.0, 1.0, "RGB", "aligned crop of the target face"),
        outputs=(TensorSpec(SWAPPED_NAME, (1, 3, size, size), 0.0, 1.0, "RGB", "swapped crop, drawn whole; there is no mask"),),
    )


INTERFACE = Interface(
    name="mobilefsgan",
    title="MobileFSGAN",
    sizes=(SIZE,),
    contract=contract,
    identity={"embedding": (1, 512)},
    alignment=ALIGNED,
    paste_back=PASTED,
    source_size=SIZE,
    source_seen=SEEN,
    encoder_size=SIZE,
)
FILES = CheckpointFiles(
    names={GENERATOR: re.compile(r"mobilefsgan|\d+_g"), ENCODER: re.compile(r"(rgb_model_)?mobilefacenet")},
    example="mobilefsgan.pth, or 200_G.pth as the authors' training names it",
)
