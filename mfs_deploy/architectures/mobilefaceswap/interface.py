"""MobileFaceSwap's contract, alignment and file names; no PyTorch."""

from __future__ import annotations

import re

from mfs_deploy.architectures.base import CheckpointFiles, Interface
from mfs_deploy.architectures.card import ENCODER, GENERATOR
from mfs_deploy.contract import (
    INPUT_NAME,
    MASK_NAME,
    SWAPPED_NAME,
    Contract,
    TensorSpec,
)
from mfs_deploy.faces.align import ALIGNMENT, SOURCE_SIZE
from mfs_deploy.faces.paste_back import PASTE_BACK


def contract(size: int) -> Contract:
    return Contract(
        arch="mobilefaceswap",
        size=size,
        input=TensorSpec(INPUT_NAME, (1, 3, size, size), 0.0, 1.0, "RGB", "aligned crop of the target face"),
        outputs=(
            TensorSpec(SWAPPED_NAME, (1, 3, size, size), 0.0, 1.0, "RGB", "swapped crop, blended with the target"),
            TensorSpec(MASK_NAME, (1, 1, size, size), 0.0, 1.0, "mask", "weight of the swapped face, before paste-back"),
        ),
    )


INTERFACE = Interface(
    name="mobilefaceswap",
    title="MobileFaceSwap",
    sizes=(224, 256),
    contract=contract,
    identity={"embedding": (1, 512), "feature_map": (1, 512, 7, 7)},
    alignment=ALIGNMENT,
    paste_back=PASTE_BACK,
    source_size=SOURCE_SIZE,
    source_seen=(0, SOURCE_SIZE),
    encoder_size=112,
)
FILES = CheckpointFiles(
    names={GENERATOR: re.compile(r"mobilefaceswap(_\d+)?"), ENCODER: re.compile("arcface")},
    example="MobileFaceSwap_224.pdparams, or .pth, .pt, .safetensors",
)
