"""What a phone's report holds: that of mfs-bench-device and of the demo apps, as far as it is used here."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict, get_args

Stage = Literal["detect", "align", "network", "paste", "total"]  # of a frame
STAGES: tuple[Stage, ...] = get_args(Stage)


class DistributionEntry(TypedDict):
    """Milliseconds of a stage, or frames per second."""

    p50: float
    p90: float
    p99: float
    min: float
    max: float
    mean: float


class LatencyEntry(TypedDict):
    """By stage, in milliseconds."""

    detect: DistributionEntry
    align: DistributionEntry
    network: DistributionEntry
    paste: DistributionEntry
    total: DistributionEntry


class SustainedEntry(TypedDict):
    """Frames without a pause."""

    seconds: float
    frames: int
    fps: float
    fps_by_second: DistributionEntry
    samples: list[dict[str, Any]]  # of the phone's heat and clocks, whatever it tells


class FrameEntry(TypedDict):
    name: str
    width: int
    height: int


class PhoneMachineEntry(TypedDict):
    system: str
    architecture: str
    cpu: str
    cores: int


class ComplaintsEntry(TypedDict):
    complaints: list[str]


class RuntimeEntry(TypedDict):
    """``runtime``: who ran an artifact, with its version; ``precision``: what it computed in."""

    runtime: str
    precision: str


class PhoneReport(RuntimeEntry):
    schema: int
    tool: str
    manifest_sha256: str
    backend: str
    recipe: str
    threads: int | None  # None: the runtime decides
    open_ms: float
    pixels: bool
    frame: FrameEntry
    machine: PhoneMachineEntry
    parity: ComplaintsEntry
    latency_ms: NotRequired[LatencyEntry]  # where frames were timed
    sustained: NotRequired[SustainedEntry]
