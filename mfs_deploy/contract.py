"""The inputs and outputs of an artifact, and its tolerance to PyTorch's outputs.

Backends, parity, the manifest and the apps all read these values.  Nothing here depends on torch.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

INPUT_NAME = "target"
SWAPPED_NAME = "swapped"
MASK_NAME = "mask"
BACKENDS = ("onnx", "tflite", "ncnn", "coreml")  # ours; `backends.registry` has the modules, and those of installed packages


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


@dataclass(frozen=True)
class Tolerance:
    """The tolerance of an artifact's parity with PyTorch; each recipe's file has its own.  Errors are of values in [0, 1].

    Attributes:
        swapped_psnr_db: of the swapped crop.
        swapped_max: largest error of any value of the swapped crop.
        mask_mean: mean error of the mask.
        composite_psnr_db: of the finished frame, 8 bits.
        identity_cosine: between the encoder's embeddings of the artifact's output and of the reference's.
    """

    swapped_psnr_db: float
    swapped_max: float
    mask_mean: float
    composite_psnr_db: float
    identity_cosine: float

    def for_pixels(self) -> Tolerance:
        """For a runtime that gives ``swapped`` as bytes: the rounding error is added to the recipe's tolerance.

        Rounding is off by half a level at most, 58.9 dB on even values; a finished frame is truncated in the reference, so there it
        is one level at most, 48.1 dB.
        """
        return replace(
            self,
            swapped_psnr_db=_added_db(self.swapped_psnr_db, 58.9),
            swapped_max=self.swapped_max + 0.5 / 255,
            composite_psnr_db=_added_db(self.composite_psnr_db, 48.1),
        )


def _added_db(a: float, b: float) -> float:
    """PSNR of the sum of two independent errors, each given by its PSNR."""
    return -10 * math.log10(10 ** (-a / 10) + 10 ** (-b / 10))


NOTHING_PASSES = Tolerance(math.inf, 0.0, 0.0, math.inf, math.inf)  # until a recipe sets its tolerance

# The stages before any converter: generator against baked network, baked network against its simplified graph.
STAGE_MAX_ERROR = 1e-5
FLOAT16_MAX = 65504.0
FLOAT16_HEADROOM = 4.0  # a value this many times larger must still fit; else it stays in float32
