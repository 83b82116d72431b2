"""What goes into an artifact and what comes out, and how closely it must match PyTorch: said here, once.

Backends, parity, the manifest and the apps all read these values.  Nothing here depends on torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

INPUT_NAME = "target"
SWAPPED_NAME = "swapped"
MASK_NAME = "mask"
SIZES = (224, 256)


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of the network in its reference form: (1, C, S, S) float32."""

    name: str
    shape: tuple[int, int, int, int]  # (N, C, H, W), whatever layout a backend stores
    low: float
    high: float
    colour: str  # "RGB", or "mask" for the single-channel blend weight
    meaning: str


@dataclass(frozen=True)
class Contract:
    """The interface of a baked network of one architecture at one size."""

    arch: str
    size: int
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def mobilefaceswap_contract(size: int) -> Contract:
    """The baked MobileFaceSwap network: an aligned target crop in, the swapped crop and its mask out."""
    return Contract(
        arch="mobilefaceswap",
        size=size,
        input=TensorSpec(INPUT_NAME, (1, 3, size, size), 0.0, 1.0, "RGB", "aligned crop of the target face"),
        outputs=(
            TensorSpec(SWAPPED_NAME, (1, 3, size, size), 0.0, 1.0, "RGB", "swapped crop, blended with the target"),
            TensorSpec(MASK_NAME, (1, 1, size, size), 0.0, 1.0, "mask", "weight of the swapped face, before paste-back"),
        ),
    )
