"""What ``mfs parity --json`` and ``mfs bench --json`` print."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict, final, get_args

from mfs_deploy.bundle.manifest_types import NetworkEntry, ParityEntry
from mfs_deploy.devices.report_types import FrameEntry, LatencyEntry, RuntimeEntry, SustainedEntry


class MachineEntry(TypedDict):
    processor: str
    cores: int | None
    system: str


# ---- parity

Agreement = dict[str, dict[str, float | None]]  # dB of each two; None where they give the same bits


class RanEntry(ParityEntry):
    recipe: str


class ElsewhereEntry(TypedDict):
    machine: str
    artifacts: dict[str, ParityEntry]


class ParityResult(NetworkEntry):
    bundle: str
    artifacts: dict[str, RanEntry]
    agreement_db: Agreement
    elsewhere: NotRequired[ElsewhereEntry]


# ---- bench


@final
class RatioEntry(TypedDict):
    """Instructions, new over old."""

    ratio: float


@final
class IntervalEntry(TypedDict):
    """Median times, new over old, and the interval that holds the true ratio with 95% confidence."""

    ratio: float
    low: float
    high: float


class BenchResult(NetworkEntry):
    """What the three kinds have in common."""

    schema: int
    machine: MachineEntry


class MeasuredHere(BenchResult):
    versions: dict[str, str]


Millisecond = Literal["median_ms", "p90_ms", "p99_ms", "first_ms", "load_ms"]
MILLISECONDS: tuple[Millisecond, ...] = get_args(Millisecond)


class TimedEntry(TypedDict):
    """``first_ms`` is of the first frame, ``times_ms`` of each after it, ``load_ms`` of opening the artifact."""

    recipe: str
    runtime: str
    median_ms: float
    p90_ms: float
    p99_ms: float
    first_ms: float
    load_ms: float
    times_ms: list[float]
    peak_mb: float | None


@final
class TimesResult(MeasuredHere):
    threads: int
    artifacts: dict[str, TimedEntry]
    stages: dict[str, float]
    compared: NotRequired[dict[str, IntervalEntry]]


class CountedEntry(TypedDict):
    """Executed instructions by class; ``bound``: multiply-adds alone, with every vector full."""

    recipe: str
    instructions: dict[str, int]
    bound: int
    layers: NotRequired[dict[str, dict[str, int]]]


@final
class InstructionsResult(MeasuredHere):
    cpu: str
    multiply_adds: int
    artifacts: dict[str, CountedEntry]
    compared: NotRequired[dict[str, RatioEntry]]


class OnPhoneEntry(RuntimeEntry):
    recipe: str
    open_ms: float
    frame: FrameEntry
    latency_ms: LatencyEntry
    sustained: NotRequired[SustainedEntry]


class PhoneResult(BenchResult):
    phone: str
    by: str
    threads: int | None
    runs: int
    artifacts: dict[str, OnPhoneEntry]
    refused: dict[str, str]


AnyResult = ParityResult | TimesResult | InstructionsResult | PhoneResult
