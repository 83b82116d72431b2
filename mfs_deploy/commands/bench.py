"""mfs bench: what a bundle costs to run, here or on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mfs_deploy.commands import options
from mfs_deploy.commands.console import Console, output_options
from mfs_deploy.commands.tables import table

if TYPE_CHECKING:
    from mfs_deploy.evaluate.result_types import CountedEntry, InstructionsResult, PhoneResult, TimesResult


@click.command("bench", short_help="Time a bundle here or on a phone, or count its instructions on arm64.")
@click.argument("bundle", type=options.PATH)
@options.phone
@options.cpu
@click.option("--layers", "by_layer", is_flag=True, help="With --on arm64: each layer's instructions as well (minutes).")
@click.option(
    "--sustained", type=click.IntRange(0, 86400), default=0, metavar="SECONDS", help="On a phone: frames without a pause."
)
@click.option("--runs", type=click.IntRange(100), default=200, show_default=True, help="Frames to time.")
@click.option("--threads", type=click.IntRange(1, 16), default=1, show_default=True, help="Threads of a runtime.")
@click.option("--compare", "old", type=options.PATH, metavar="OLD.json", help="What mfs bench --json printed before: print ratios.")
@output_options
def command(
    console: Console,
    bundle: Path,
    machine: str | None,
    cpu: str,
    by_layer: bool,
    device: str | None,
    serial: str | None,
    runner: Path | None,
    litert: Path | None,
    sustained: int,
    runs: int,
    threads: int,
    old: Path | None,
) -> None:
    """Time every artifact of BUNDLE, each runtime in a process of its own, one after another, with what stands around it.

    With --on android or ios the whole swap of a frame is timed on a phone, by stage, after the phone's outputs were checked against
    the reference tensors; the bundle is copied there under a random name, and deleted afterwards.

    With --on arm64 executed instructions are counted instead: they are reproducible on any machine, so CI can hold a budget, but
    they are not latency.  It needs: mfs arm64 setup.
    """
    from mfs_deploy.errors import UsageError
    from mfs_deploy.evaluate import bench_arm64, bench_phone, bench_results
    from mfs_deploy.evaluate.bench import on_host

    machine = options.machine_of(machine, device)
    if by_layer and machine != "arm64":
        raise UsageError("--layers counts instructions", hint="add --on arm64")
    if machine not in options.PHONES and sustained:
        raise UsageError("--sustained is for phones, which slow down as they warm up", hint="add --on android or --on ios")
    if machine in options.PHONES and old is not None:
        raise UsageError("--compare is not for phones: their clocks follow their heat", hint="leave it out")
    if machine == "ios" and threads != 1:
        raise UsageError("Core ML chooses its threads itself", hint="leave --threads out")
    phone = options.make_phone(machine, serial, runner, litert)
    before = None if old is None else bench_results.read(old)
    if phone is not None:
        phone_result = bench_phone.on_phone(bundle, phone, runs=runs, threads=threads, sustained=sustained, progress=console)
        console.finish()
        console.result(phone_result, phone_text(phone_result))
        return
    if machine == "arm64":
        found: TimesResult | InstructionsResult = bench_arm64.on_arm64(bundle, cpu, by_layer=by_layer, progress=console)
    else:
        found = on_host(bundle, runs=runs, threads=threads, progress=console)
    console.finish()
    if before is not None:
        bench_results.compare(before, found)
    console.result(found, text(found))


def phone_text(found: PhoneResult) -> str:
    from mfs_deploy.devices.phone import runtime
    from mfs_deploy.devices.report_types import STAGES

    stages = [stage for stage in STAGES if stage != "total"]
    header = ["artifact", "recipe", "median", "p90", "p99", *stages, "FPS sustained", "run by"]
    rows = []
    for name, a in found["artifacts"].items():
        times, total = a["latency_ms"], a["latency_ms"]["total"]
        sustained = f"{a['sustained']['fps']:.1f} ({a['sustained']['seconds']:.0f} s)" if "sustained" in a else "-"
        whole = (f"{ms:.2f} ms" for ms in (total["p50"], total["p90"], total["p99"]))
        by_stage = (f"{times[stage]['p50']:.2f} ms" for stage in stages)
        rows.append([name, a["recipe"], *whole, *by_stage, sustained, runtime(a)])
    threads = "" if found["threads"] is None else f", {found['threads']} thread{'s' if found['threads'] != 1 else ''}"
    lines = [f"a whole frame on {found['phone']}, by {found['by']}{threads}", table(header, rows)]
    return "\n".join([*lines, *(f"not run: {why}" for why in found["refused"].values())])


def text(found: TimesResult | InstructionsResult) -> str:
    if "cpu" in found:
        lines = [instructions_table(found)]
        for name, artifact in found["artifacts"].items():
            if "layers" in artifact:
                lines += ["", f"{name}, by layer", layers_table(artifact)]
        return "\n".join(lines)
    lines = [times_table(found)]
    if found["stages"]:
        lines.append("around it: " + ", ".join(f"{name.removesuffix('_ms')} {ms:.1f} ms" for name, ms in found["stages"].items()))
    return "\n".join(lines)


def times_table(found: TimesResult) -> str:
    from mfs_deploy.evaluate.result_types import MILLISECONDS as keys

    header = ["artifact", "recipe", *(key.removesuffix("_ms") for key in keys), "memory", "run by", *_compared_header(found)]
    rows = []
    for name, a in found["artifacts"].items():
        memory = "-" if a["peak_mb"] is None else f"{a['peak_mb']:.0f} MB"
        rows.append([name, a["recipe"], *(f"{a[key]:.2f} ms" for key in keys), memory, a["runtime"], *_compared(found, name)])
    return table(header, rows)


def instructions_table(found: InstructionsResult) -> str:
    kinds = ("fma32", "fma16", "sdot", "load", "store", "branch")
    header = ["artifact", "recipe", "instructions", "of the bound", *kinds, *_compared_header(found)]
    rows = []
    for name, a in found["artifacts"].items():
        counts = a["instructions"]
        by_kind = (f"{counts[kind] / 1e6:.1f} M" for kind in kinds)
        ratio = f"{counts['total'] / a['bound']:.1f} times {a['bound'] / 1e6:.1f} M"
        rows.append([name, a["recipe"], f"{counts['total'] / 1e6:.1f} M", ratio, *by_kind, *_compared(found, name)])
    return table(header, rows)


def layers_table(artifact: CountedEntry) -> str:
    whole = artifact["instructions"]["total"]
    layers = artifact.get("layers", {})
    ranked = sorted(layers.items(), key=lambda item: -item[1]["total"])
    rows = [(name, f"{c['total'] / 1e6:.2f} M", f"{100 * c['total'] / whole:.1f}%") for name, c in ranked]
    return table(("layer", "instructions", "share"), rows)


def _compared_header(found: TimesResult | InstructionsResult) -> list[str]:
    return ["of the old"] if "compared" in found else []


def _compared(found: TimesResult | InstructionsResult, name: str) -> list[str]:
    if "compared" not in found:
        return []
    one = found["compared"].get(name)
    if one is None:
        return ["-"]
    return [f"{one['ratio']:.3f}" + (f" ({one['low']:.3f} to {one['high']:.3f})" if "low" in one else "")]
