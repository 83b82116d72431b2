"""Times of the whole swap of a frame on a phone, with every artifact that it has a runtime for."""

from __future__ import annotations

from pathlib import Path

from mfs_deploy.bundle import manifest
from mfs_deploy.devices.phone import NoRuntime, Phone, Run, require_one
from mfs_deploy.devices.report_types import PhoneReport
from mfs_deploy.errors import ParityError
from mfs_deploy.evaluate.bench import open_artifacts
from mfs_deploy.evaluate.bench_results import SCHEMA
from mfs_deploy.evaluate.result_types import OnPhoneEntry, PhoneResult
from mfs_deploy.progress import SILENT, Progress


def on_phone(folder: Path, phone: Phone, *, runs: int, threads: int, sustained: int, progress: Progress = SILENT) -> PhoneResult:
    """Time the whole swap of a frame on a phone, with every artifact that it has a runtime for.

    Args:
        sustained: seconds of frames without a pause after the timed ones; 0 for none.

    Raises:
        BundleError: as ``bench.on_host``.
        DeviceError: the phone is gone, a step failed there, or it runs none of the artifacts.
        ParityError: an artifact is outside its tolerance on the phone, so its times mean nothing.
    """
    entries, _, jobs = open_artifacts(folder, lambda name: name in phone.runs)
    progress.start(len(jobs) + 1)
    reports: dict[str, PhoneReport] = {}
    refused: dict[str, str] = {}
    with phone.push(folder) as pushed:
        progress.step(f"copied to {phone.name}")
        for name in jobs:
            try:
                report = pushed.measure(Run(name, threads=threads, runs=runs, sustained=sustained)).report
            except NoRuntime as exc:
                refused[name] = exc.message
                progress.step(f"{name}: no runtime on the phone, skipped")
                continue
            if report["parity"]["complaints"]:
                raise ParityError(
                    f"{name} on {phone.name}: {report['parity']['complaints'][0]}", hint="mfs parity --on android reports more"
                )
            reports[name] = report
            progress.step(f"{name}: {report['latency_ms']['total']['p50']:.1f} ms")
    require_one(reports, refused)
    any_report = next(iter(reports.values()))  # the machine and its threads are the same in all
    machine = any_report["machine"]
    return {
        "schema": SCHEMA,
        **manifest.network(entries),
        "phone": phone.name,
        "by": phone.way,
        "machine": {
            "processor": machine["cpu"],
            "cores": machine["cores"],
            "system": f"{machine['system']} {machine['architecture']}",
        },
        "threads": any_report["threads"],
        "runs": runs,
        "artifacts": {name: _of_report(report) for name, report in reports.items()},
        "refused": refused,
    }


def _of_report(report: PhoneReport) -> OnPhoneEntry:
    """The entries of a phone's report that a result holds."""
    found: OnPhoneEntry = {
        "recipe": report["recipe"],
        "runtime": report["runtime"],
        "precision": report["precision"],
        "open_ms": report["open_ms"],
        "frame": report["frame"],
        "latency_ms": report["latency_ms"],
    }
    if "sustained" in report:
        found["sustained"] = report["sustained"]
    return found
