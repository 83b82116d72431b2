"""The interface of a phone: it takes a copy of a bundle and measures its artifacts.  Also checks the reports of phones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from mfs_deploy import files
from mfs_deploy.backends.job import Job, Result
from mfs_deploy.backends.launch import JobResult
from mfs_deploy.bundle import manifest
from mfs_deploy.bundle.schema import parse, schema_error, without_unknown
from mfs_deploy.devices import run_tool
from mfs_deploy.devices.report_types import PhoneReport, RuntimeEntry
from mfs_deploy.errors import DeviceError, MfsError, ParityError

SCHEMA = 1
MAX_BYTES = 10_000_000  # of a report
OPEN_TIMEOUT_S = 300  # to open and check a bundle; frames and sustained runs come on top
FRAME_S = 15  # for the slowest frame; an emulated phone takes 8

AROUND_NETWORK = ("align_max", "paste_max")  # prefixes of the complaints about the steps around the network


@dataclass(frozen=True)
class Run:
    """One measurement of one artifact.  ``sustained``: seconds of frames without a pause; ``dump``: fetch the outputs too."""

    backend: str
    threads: int = 1
    warmup: int = 10
    runs: int = 200
    sustained: int = 0
    dump: bool = False

    @property
    def timeout_s(self) -> float:
        return OPEN_TIMEOUT_S + self.sustained + FRAME_S * (self.warmup + self.runs)


@dataclass(frozen=True)
class PhoneResult:
    """``outputs`` (N, C, S, S) float32 by name, for the reference's crops; empty unless asked for."""

    report: PhoneReport
    outputs: dict[str, NDArray[np.float32]]


class NoRuntime(DeviceError):
    """The phone has no runtime for an artifact; other artifacts may run."""

    kind = "device-runtime"


class PushedBundle(Protocol):
    """A bundle on a phone."""

    def measure(self, run: Run) -> PhoneResult:
        """Measure one artifact.

        Raises:
            NoRuntime: the phone cannot run this artifact.
            DeviceError: the phone is gone, or a step failed.
        """


class Phone(Protocol):
    """A phone that has answered."""

    @property
    def name(self) -> str:
        """Its model and system, for people: "Google Pixel 8, Android 14"."""

    @property
    def way(self) -> str:
        """What measures there: "mfs-bench-device", or "app"."""

    @property
    def runs(self) -> tuple[str, ...]:
        """Backends whose artifacts it may be able to run."""

    def push(self, bundle: Path) -> AbstractContextManager[PushedBundle]:
        """Copy a bundle to the phone under a random name; it is deleted afterwards where the phone allows that."""


@contextmanager
def clearing(clear: Callable[[], str]) -> Iterator[None]:
    """Call ``clear`` at the end, in any case.  It deletes copies on a phone, and returns a hint where that failed, else "".

    Raises:
        DeviceError: something is left there.  If another error was raised, its hint says so instead.
    """
    try:
        yield
    except MfsError as exc:
        exc.hint = "; ".join(filter(None, (exc.hint, clear())))
        raise
    except BaseException:
        clear()
        raise
    if left := clear():
        raise DeviceError("the phone's copy of the bundle could not be deleted", hint=left)


@dataclass(frozen=True)
class OnPhone:
    """A phone as a machine that checks a bundle's parity.

    ``refused``: by artifact, the reason why the phone did not run it.
    """

    phone: Phone
    bundle: Path
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.phone.name

    @property
    def runs(self) -> tuple[str, ...]:
        return self.phone.runs

    def run(
        self, jobs: Sequence[Job], targets: NDArray[np.float32], folder: Path, on_done: Callable[[Job], None]
    ) -> list[JobResult]:
        """Results without ``targets``: the phone reads the bundle's own reference crops, which are the same.

        Raises:
            DeviceError: as ``PushedBundle.measure``; or no artifact runs there.
            ParityError: the phone's alignment or paste-back differs from the exporter's.
        """
        found = []
        with self.phone.push(self.bundle) as pushed:
            for job in jobs:
                try:
                    measured = pushed.measure(Run(job.backend, warmup=0, runs=0, dump=True))
                except NoRuntime as exc:
                    self.refused[job.backend] = exc.message
                    on_done(job)
                    continue
                on_done(job)
                # Its complaints about the network are ignored: the outputs are judged here.
                around = [line for line in measured.report["parity"]["complaints"] if line.startswith(AROUND_NETWORK)]
                if around:
                    raise ParityError(
                        f"on {self.name}: {around[0]}", hint="the runner or app is of another version: build it again"
                    )
                by = runtime(measured.report)
                result = Result(job.backend, by, measured.report["pixels"], convert_s=0, info={}, frame_ms=None)
                found.append(JobResult(job, result, measured.outputs, folder))
        require_one(found, self.refused)
        return found


def require_one(ran: Sized, refused: Mapping[str, str]) -> None:
    """Raises NoRuntime where no artifact ran on a phone."""
    if not ran:
        raise NoRuntime("no artifact ran on the phone: " + "; ".join(refused.values()))


def runtime(report: RuntimeEntry) -> str:
    """The runtime that ran an artifact, with version and precision."""
    return f"{report['runtime']}, {report['precision']}"


def check(text: str, run: Run, bundle: Path) -> PhoneReport:
    """Parse and check a phone's report: it is of this bundle's artifact, and every entry used has its form.

    Raises:
        DeviceError: it is not a report, or of another bundle or artifact.
    """
    try:
        if len(text) > MAX_BYTES:
            raise ValueError(f"{len(text):,} characters")
        found = without_unknown(parse(text), PhoneReport)
        problem = _problem(found, run)
        if problem is not None:
            raise ValueError(problem)
    except (ValueError, RecursionError) as exc:
        raise DeviceError(
            f"the phone's report cannot be used: {str(exc)[:200]}", hint="the runner or app is of another version: build it again"
        ) from exc
    wanted = {
        "manifest_sha256": files.sha256(bundle / manifest.NAME),
        "backend": run.backend,
        "recipe": manifest.read(bundle)["artifacts"][run.backend]["recipe"],
    }
    for key, value in wanted.items():
        if found[key] != value:
            raise DeviceError(f"the phone measured something else: {key} is {found[key][:64]!r}, not {value!r}")
    return cast(PhoneReport, found)


def _problem(found: Any, run: Run) -> str | None:
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        return f"its schema is {found.get('schema') if isinstance(found, dict) else None!r}, this version reads {SCHEMA}"
    problem = schema_error(found, PhoneReport, "report")
    asked = {"latency_ms": run.runs, "sustained": run.sustained}
    return problem or next((f"report lacks {key!r}" for key, value in asked.items() if value and key not in found), None)


@dataclass(frozen=True)
class AppError:
    """An app's error, which it writes instead of a report; ``status`` is mobile_core's mfs_status, if the error came from there."""

    words: str
    status: object


def app_error(text: str) -> AppError | None:
    """The error in a report, or None; ``check`` checks the rest."""
    try:
        report = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(report, dict) or "error" not in report:
        return None
    return AppError(run_tool.one_line(str(report["error"])), report.get("status"))


def output_names(bundle: Path) -> list[str]:
    return [spec["name"] for spec in manifest.read(bundle)["contract"]["outputs"]]


def read_outputs(folder: Path, bundle: Path) -> dict[str, NDArray[np.float32]]:
    """A phone's outputs, ``<name>.npy`` by the names in the bundle's contract.

    Raises:
        DeviceError: one is missing or of another type or shape.
    """
    held = manifest.read(bundle)
    try:
        return {
            spec["name"]: _read_output(folder / f"{spec['name']}.npy", spec["shape"][1:]) for spec in held["contract"]["outputs"]
        }
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError) as exc:
        raise DeviceError(f"the phone's outputs cannot be read: {exc}") from exc


def _read_output(path: Path, sides: Sequence[int]) -> NDArray[np.float32]:
    array = np.load(path, allow_pickle=False, mmap_mode="r")
    if array.dtype != np.float32 or array.ndim != 4 or list(array.shape[1:]) != list(sides):
        raise ValueError(f"{path.name} is {array.dtype} {array.shape}, expected float32 (N, {', '.join(map(str, sides))})")
    return np.array(array)
