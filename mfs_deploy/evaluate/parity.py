"""Parity: the error of artifacts' outputs to PyTorch's, on real crops and on noise, against the recipe's tolerance.

Works on arrays alone, from any process or machine.  Comparisons are written so that NaN fails them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from mfs_deploy import metrics
from mfs_deploy.contract import MASK_NAME, SWAPPED_NAME, Tolerance
from mfs_deploy.errors import ParityError
from mfs_deploy.faces import paste_back
from mfs_deploy.faces.pixels import Image, Landmarks, to_image, to_tensor
from mfs_deploy.quant.recipes import Recipe

Array = NDArray[np.float32]
Encode = Callable[[Image], Array]  # an aligned (S, S, 3) crop to its embedding


@dataclass(frozen=True)
class Case:
    """One input that parity is measured on.

    Attributes:
        crop: (S, S, 3) uint8 RGB; pixel buffers hold 8 bits, so every backend can be given exactly this.
        frame, back: the photo that the crop was cut from, (H, W, 3) uint8 RGB, and the (2, 3) affine from crop to photo; with them,
            the finished frame and the identity are compared too.
        landmarks: (5, 2) pixels of the photo.
        truth: (S, S, 3) uint8 RGB, the exact result, known for rendered photos alone.
        paste: how the architecture pastes a crop back.
    """

    name: str
    crop: Image
    frame: Image | None = None
    back: NDArray[np.float64] | None = None
    landmarks: Landmarks | None = None
    truth: Image | None = None
    paste: paste_back.PasteBack | paste_back.Ellipse = paste_back.PASTE_BACK


@dataclass(frozen=True)
class Outputs:
    """Of N cases: swapped (N, 3, S, S), and mask (N, 1, S, S) if the network gives one, float32 in [0, 1].

    ``pixels``: swapped was rounded to bytes.
    """

    swapped: Array
    mask: Array | None = None
    pixels: bool = False

    @classmethod
    def of(cls, arrays: Mapping[str, Array], *, pixels: bool = False) -> Outputs:
        """From arrays by the names of a contract's outputs."""
        return cls(arrays[SWAPPED_NAME], arrays.get(MASK_NAME), pixels)

    def case(self, i: int) -> tuple[Array, Array | None]:
        """Swapped and mask of case ``i``, (1, C, S, S)."""
        return self.swapped[i : i + 1], None if self.mask is None else self.mask[i : i + 1]


@dataclass(frozen=True)
class Quality:
    """PSNR of the swapped crop to the truth, for the artifact and for PyTorch: their difference is the cost of a number format."""

    psnr_db: float
    reference_psnr_db: float


@dataclass(frozen=True)
class CaseParity:
    """Errors of one artifact on one case; ``Tolerance`` explains the metrics."""

    case: str
    swapped_psnr_db: float
    swapped_max: float
    mask_mean: float | None
    composite_psnr_db: float | None
    identity_cosine: float | None
    quality: Quality | None = None


@dataclass(frozen=True)
class Violation:
    """A metric outside its tolerance."""

    case: str
    metric: str
    value: float
    limit: float

    @property
    def severity(self) -> float:
        """How far outside the tolerance, as a ratio; infinite for NaN."""
        if not np.isfinite(self.value):
            return float("inf")
        if self.metric in AT_MOST:
            return self.value / self.limit
        return 1.0 + (self.limit - self.value) / abs(self.limit)

    def __str__(self) -> str:
        return f"{self.metric} on {self.case} is {self.value:.4g}, limit {self.limit:.4g}"


NOISE = "noise"


def noise_case(size: int, seed: int = 0) -> Case:
    """Uniform noise: floating-point recipes must keep their tolerance on it; integer ranges, measured on photos, cannot."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Case(NOISE, pixels)


def inputs(cases: list[Case]) -> Array:
    """The cases' crops as (N, 3, S, S) RGB in [0, 1]."""
    return np.concatenate([to_tensor(case.crop) for case in cases])


def measure(cases: list[Case], reference: Outputs, got: Outputs, encode: Encode | None) -> list[CaseParity]:
    """Compare outputs case by case.

    Raises:
        ParityError: shapes differ from the reference's, or an output holds NaN or infinity.
    """
    for name, want, have in ((SWAPPED_NAME, reference.swapped, got.swapped), (MASK_NAME, reference.mask, got.mask)):
        if want is None and have is None:
            continue
        if want is None or have is None:
            raise ParityError(f"{'the artifact' if want is None else 'the reference'} alone has an output {name}")
        if want.shape != have.shape:
            raise ParityError(f"{name} has shape {have.shape}, the reference has {want.shape}")
        bad = have.size - int(np.isfinite(have).sum())
        if bad:
            raise ParityError(f"{name} holds {bad} values that are NaN or infinite, of {have.size}", kind="parity-not-finite")
    return [_measure_case(case, i, reference, got, encode) for i, case in enumerate(cases)]


def _measure_case(case: Case, i: int, reference: Outputs, got: Outputs, encode: Encode | None) -> CaseParity:
    (a, mask_a), (b, mask_b) = got.case(i), reference.case(i)
    composite_db = identity = None
    if case.frame is not None and case.back is not None:
        # Before they become bytes: a mask of 1e-6 in place of 0 truncates 120 to 119 over a whole background, which is invisible.
        frames = [paste_back.blend(case.frame, *pair, case.back, case.paste) for pair in ((a, mask_a), (b, mask_b))]
        composite_db = metrics.psnr_db(frames[0], frames[1], peak=255)
        if encode is not None:
            identity = metrics.cosine(encode(to_image(a)), encode(to_image(b)))
    return CaseParity(
        case=case.name,
        swapped_psnr_db=metrics.psnr_db(a, b, peak=1.0),
        swapped_max=metrics.max_error(a, b),
        mask_mean=None if mask_a is None or mask_b is None else metrics.mean_error(mask_a, mask_b),
        composite_psnr_db=composite_db,
        identity_cosine=identity,
        quality=_quality(case, a, b),
    )


def _quality(case: Case, got: Array, reference: Array) -> Quality | None:
    if case.truth is None:
        return None
    truth = to_tensor(case.truth)
    return Quality(metrics.psnr_db(got, truth, peak=1.0), metrics.psnr_db(reference, truth, peak=1.0))


def composite(case: Case, outputs: Outputs, i: int) -> Image | None:
    """The finished frame of case ``i``, (H, W, 3) uint8 RGB; None if its crop was not cut from a photo."""
    if case.frame is None or case.back is None:
        return None
    return paste_back.paste_back(case.frame, *outputs.case(i), case.back, case.paste)


def violations(measured: list[CaseParity], tolerance: Tolerance, *, pixels: bool = False) -> list[Violation]:
    """Every metric outside the tolerance, worst first."""
    limits = tolerance.for_pixels() if pixels else tolerance
    return sorted((violation for case in measured for violation in _case_violations(case, limits)), key=lambda v: -v.severity)


AT_LEAST = ("swapped_psnr_db", "composite_psnr_db", "identity_cosine")
AT_MOST = ("swapped_max", "mask_mean")


def _case_violations(case: CaseParity, tolerance: Tolerance) -> list[Violation]:
    outside = []
    for metric in (*AT_LEAST, *AT_MOST):
        value, limit = getattr(case, metric), getattr(tolerance, metric)
        if value is None:
            continue
        holds = value >= limit if metric in AT_LEAST else value <= limit
        if not holds:  # also for NaN
            outside.append(Violation(case.case, metric, value, limit))
    return outside


@dataclass(frozen=True)
class ParityReport:
    """Parity by artifact.

    Attributes:
        violations: what is outside its tolerance, worst first, as lines that name the artifact.
        failed: artifacts with a violation.
    """

    measured: dict[str, list[CaseParity]]
    violations: list[str]
    failed: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        measured = {name: [asdict(case) for case in cases] for name, cases in self.measured.items()}
        return {"complaints": self.violations, "measured": measured}

    def error(self, hint: str) -> ParityError:
        """The worst violation as an error."""
        rest = f" ({len(self.violations)} limits broken in all)" if len(self.violations) > 1 else ""
        return ParityError(f"{self.violations[0]}{rest}", hint=hint)


def judge(
    outputs: Mapping[str, Outputs],
    cases: list[Case],
    reference: Outputs,
    recipes: Mapping[str, Recipe],
    encode: Encode | None,
) -> ParityReport:
    """Measure every artifact's outputs, and check them against its recipe's tolerance; both by artifact."""
    measured: dict[str, list[CaseParity]] = {}
    ranked: list[tuple[float, str, str]] = []
    for name, got in outputs.items():
        recipe = recipes[name]
        try:
            measured[name] = measure(cases, reference, got, encode)
        except ParityError as exc:
            ranked.append((float("inf"), f"{recipe.name} {name}: {exc.message}", name))
            continue
        gated = [case for case in measured[name] if case.case != NOISE or not recipe.is_static]
        ranked += [
            (violation.severity, f"{recipe.name} {name}: {violation}", name)
            for violation in violations(gated, recipe.gate, pixels=got.pixels)
        ]
    ranked.sort(key=lambda entry: -entry[0])
    return ParityReport(measured, [line for _, line, _ in ranked], tuple(dict.fromkeys(name for *_, name in ranked)))
