"""What ``manifest.json`` holds, key by key.  ``docs/bundle-format.md`` says what each key means."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict, final

from mfs_deploy.bundle.schema import Since

SCHEMA = 2  # written; each earlier one is read too
New = Since(2)


class FileEntry(TypedDict):
    bytes: int
    sha256: str


class CheckpointEntry(TypedDict):
    role: str
    name: str
    bytes: int
    sha256: str
    recognised: str


# ---- the network's interface


class SpecEntry(TypedDict):
    """An input or output in its reference form, (1, C, S, S) float32."""

    name: str
    shape: list[int]
    low: float
    high: float
    colour: str
    meaning: str


class ContractEntry(TypedDict):
    arch: str
    size: int
    input: SpecEntry
    outputs: list[SpecEntry]


class AlignmentEntry(TypedDict):
    base: float
    points: list[list[float]]
    solver: str
    landmarks: Annotated[list[str], New]
    matrix: Annotated[str, New]
    interpolation: Annotated[str, New]
    outside: Annotated[float, New]
    rounding: Annotated[str, New]


@final
class MaskPasteEntry(TypedDict):
    """Paste-back of a network that gives a mask."""

    kind: Annotated[str, New]
    steps: Annotated[list[str], New]
    threshold: float
    threshold_rule: Annotated[str, New]
    morph_kernel: int
    morph_shape: Annotated[str, New]
    morph_border: Annotated[str, New]
    dilations: int
    erosions: int
    blur: Annotated[str, New]
    blur_kernel: int
    blur_border: Annotated[str, New]
    border: int
    border_blur_kernel: int
    border_rule: Annotated[str, New]
    interpolation: Annotated[str, New]
    outside: Annotated[float, New]
    blend: Annotated[str, New]
    rounding: Annotated[str, New]


@final
class EllipsePasteEntry(TypedDict):
    """Paste-back of a network without a mask."""

    kind: Annotated[str, New]
    steps: Annotated[list[str], New]
    centre: list[float]
    radii: list[float]
    edge: float
    ellipse_rule: Annotated[str, New]
    interpolation: Annotated[str, New]
    outside: Annotated[float, New]
    blend: Annotated[str, New]
    rounding: Annotated[str, New]


# ---- recipes and calibration


class FormatEntry(TypedDict):
    weights: str
    activations: str


class GateEntry(TypedDict):
    swapped_psnr_db: float
    swapped_max: float
    mask_mean: float
    composite_psnr_db: float
    identity_cosine: float


class RecipeEntry(TypedDict):
    weights: str
    activations: str
    description: str
    operations: dict[str, FormatEntry]
    layers: dict[str, FormatEntry]
    gate: GateEntry


class CoverageEntry(TypedDict):
    crops: int
    different: int
    brightness: list[float]
    contrast: list[float]
    turned: list[float] | None


class CalibrationEntry(TypedDict, total=False):
    """Empty where no recipe needs one."""

    method: str
    sha256: str
    reused: bool
    largest_share_outside: NotRequired[float]  # of ranges of another identity
    coverage: NotRequired[CoverageEntry]  # of ranges that were measured, and so the next
    skipped: NotRequired[int]


# ---- artifacts


class TensorEntry(TypedDict):
    """An input or output as its file has it."""

    name: str
    shape: list[int]
    dtype: str
    kind: Annotated[str, New]
    element: Annotated[str, New]
    colour: Annotated[str, New]
    scale: Annotated[float, New]
    zero_point: Annotated[int, New]
    low: Annotated[float, New]
    high: Annotated[float, New]


class QualityEntry(TypedDict):
    psnr_db: float
    reference_psnr_db: float


class CaseEntry(TypedDict):
    case: str
    swapped_psnr_db: float
    swapped_max: float
    mask_mean: float | None
    composite_psnr_db: float | None
    identity_cosine: float | None
    quality: QualityEntry | None


class ParityEntry(TypedDict):
    runtime: str
    cases: list[CaseEntry]  # none where it was not measured


class ArtifactEntry(TypedDict):
    files: list[str]
    bytes: int
    sha256: dict[str, str]
    layout: str
    recipe: str
    format: str
    inputs: list[TensorEntry]
    outputs: list[TensorEntry]
    parameters: dict[str, int]
    macs: int
    float32_layers: list[str]
    parity: ParityEntry


# ---- the whole


class ReferenceEntry(TypedDict, total=False):
    """Empty where parity was not measured."""

    file: str


class Float16Entry(TypedDict, total=False):
    """Empty where parity was not measured."""

    largest_value: float
    at: str
    headroom: float
    kept_in_float32: list[str]


class WeightsEntry(TypedDict):
    sha256: str


class LicencesEntry(TypedDict):
    code: str
    weights: str


class SyntheticMediaEntry(TypedDict):
    label: str
    disclosure: str
    digital_source_type: str
    consent: str


class NetworkEntry(TypedDict):
    """Which network a bundle holds: what results measured on it carry, so that they can be told from another's."""

    architecture: str
    size: int
    weights_sha256: str


class CommonEntry(TypedDict):
    """What the manifests of all people say alike."""

    schema: int
    tool: str
    architecture: str
    contract: ContractEntry
    alignment: AlignmentEntry
    paste_back: MaskPasteEntry | EllipsePasteEntry
    checkpoint: list[CheckpointEntry]
    licences: LicencesEntry
    synthetic_media: SyntheticMediaEntry


class Manifest(CommonEntry):
    recipes: dict[str, RecipeEntry]
    calibration: CalibrationEntry
    artifacts: dict[str, ArtifactEntry]
    reference: ReferenceEntry
    stages: dict[str, float]  # none where parity was not measured
    float16: Float16Entry
    weights: WeightsEntry
    versions: dict[str, str]
    files: dict[str, FileEntry]
