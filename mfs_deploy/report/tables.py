"""The page's tables and charts, from a manifest and from results.  ``page.html`` calls these functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle.manifest_types import Manifest, ParityEntry, RecipeEntry
from mfs_deploy.devices.arm64.count import TOTAL
from mfs_deploy.devices.phone import runtime
from mfs_deploy.devices.report_types import Stage
from mfs_deploy.evaluate.result_types import MILLISECONDS, Agreement, CountedEntry, InstructionsResult, PhoneResult, TimesResult
from mfs_deploy.report.charts import (
    Bar,
    Chart,
    Mark,
    Part,
    largest,
)

NONE = "-"
SHOWN_LAYERS = 15
# Classes of ``armcount.c`` as the chart shows them; what is in none of these is "other".
CLASSES: dict[str, tuple[str, ...]] = {
    "multiply-add, float32": ("fma32",),
    "multiply-add, float16": ("fma16", "fmlal"),
    "dot product, int8": ("sdot", "i8mm", "bf16dot"),
    "other vector arithmetic": ("intmul", "simd_other"),
    "load": ("load",),
    "store": ("store",),
    "branch": ("branch",),
}
OTHER = "other"
LOOKS = {name: f"look{i}" for i, name in enumerate([*CLASSES, OTHER])}
BOUND = "arithmetic alone"
STAGES: dict[Stage, str] = {"detect": "look2", "align": "look4", "network": "look0", "paste": "look5"}  # of a frame on a phone


@dataclass(frozen=True)
class Table:
    """``words``: the columns of text, by number; all others hold numbers.  The first column names its row."""

    caption: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    words: frozenset[int] = field(default=frozenset({0}))


def title(name: str, recipe: str) -> str:
    return f"{BACKENDS[name].TITLE} {recipe}"


# ---- parity


def parity(caption: str, artifacts: Mapping[str, ParityEntry], recipes: Mapping[str, str]) -> Table:
    """Each artifact against PyTorch, a row for each case.  ``artifacts`` as a manifest's or a result's, with their recipes."""
    header = ("artifact", "on", "PSNR", "max error", "mask", "frame PSNR", "identity", "to the truth", "PyTorch's", "run by")
    rows = []
    for name, entry in artifacts.items():
        for case in entry["cases"]:
            quality = case["quality"]
            rows.append(
                (
                    title(name, recipes[name]),
                    case["case"],
                    decibels(case["swapped_psnr_db"]),
                    _maybe(case["swapped_max"], ".1e"),
                    _maybe(case["mask_mean"], ".1e"),
                    decibels(case["composite_psnr_db"]),
                    _maybe(case["identity_cosine"], ".6f"),
                    decibels(quality and quality["psnr_db"], 2),
                    decibels(quality and quality["reference_psnr_db"], 2),
                    entry["runtime"],
                )
            )
    return Table(caption, header, rows, frozenset({0, 1, 9}))


def gates(recipes: Mapping[str, RecipeEntry]) -> Table:
    header = ("recipe", "PSNR at least", "max error at most", "mask at most", "frame PSNR at least", "identity at least")
    keys = ("swapped_psnr_db", "swapped_max", "mask_mean", "composite_psnr_db", "identity_cosine")
    gate_of: dict[str, Mapping[str, object]] = {name: table["gate"] for name, table in recipes.items()}
    rows = [(name, *(f"{gate[key]:g}" for key in keys)) for name, gate in gate_of.items()]
    return Table("What each recipe must hold", header, rows)


def agreement(found: Agreement) -> Table:
    """PSNR of each two runtimes' outputs."""

    def cell(a: str, b: str) -> str:
        if a == b:
            return NONE
        return "same bits" if found[a][b] is None else decibels(found[a][b])

    return Table("PSNR of each two", ("", *found), [(a, *(cell(a, b) for b in found)) for a in found])


def stages(errors: Mapping[str, float]) -> Table:
    rows = [(name.replace("_", " "), f"{error:.1e}") for name, error in errors.items()]
    return Table("Before any converter", ("step", "largest error"), rows)


# ---- latency


def latency_chart(result: TimesResult) -> Chart:
    bars = tuple(
        Bar(
            title(name, a["recipe"]),
            f"{a['median_ms']:.2f} ms",
            (Part("median", a["median_ms"], "look0"),),
            (Mark("90th percentile", a["p90_ms"]), Mark("99th percentile", a["p99_ms"])),
        )
        for name, a in result["artifacts"].items()
    )
    return Chart("Time of a frame, network alone", "milliseconds, median", bars)


def swap_chart(result: TimesResult) -> Chart | None:
    """The whole swap of a photo by stage, if the steps around the network were timed."""
    around = result["stages"]
    if not {"align_ms", "paste_ms"} <= set(around):
        return None
    bars = []
    for name, a in result["artifacts"].items():
        parts = (
            Part("align", around["align_ms"], "look4"),
            Part("network", a["median_ms"], "look0"),
            Part("paste back", around["paste_ms"], "look5"),
        )
        bars.append(Bar(title(name, a["recipe"]), f"{sum(part.value for part in parts):.2f} ms", parts))
    return Chart("Time of a whole swap, by stage", "milliseconds, medians added up", tuple(bars))


def latency(result: TimesResult) -> Table:
    header = ("artifact", "median", "p90", "p99", "first frame", "load", "memory", "frames", *compared_header(result), "run by")
    rows = [
        (
            title(name, a["recipe"]),
            *(f"{a[key]:.2f} ms" for key in MILLISECONDS),
            NONE if a["peak_mb"] is None else f"{a['peak_mb']:.0f} MB",
            f"{len(a['times_ms']):,}",
            *compared(result, name),
            a["runtime"],
        )
        for name, a in result["artifacts"].items()
    ]
    return Table("Times", header, rows, frozenset({0, len(header) - 1}))


# ---- on a phone


def phone_chart(result: PhoneResult) -> Chart:
    bars = []
    for name, a in result["artifacts"].items():
        times = a["latency_ms"]
        parts = tuple(Part(stage, times[stage]["p50"], look) for stage, look in STAGES.items())
        marks = (Mark("90th percentile", times["total"]["p90"]), Mark("99th percentile", times["total"]["p99"]))
        bars.append(Bar(title(name, a["recipe"]), f"{times['total']['p50']:.2f} ms", parts, marks))
    return Chart("Time of a whole frame, by stage", "milliseconds, medians", tuple(bars))


def phone(result: PhoneResult) -> Table:
    header = ("artifact", "median", "p90", "p99", *STAGES, "FPS sustained", "slowest second", "open", "frames", "run by")
    rows = []
    for name, a in result["artifacts"].items():
        times, long = a["latency_ms"], a.get("sustained")
        sustained = (
            (f"{long['fps']:.1f} for {long['seconds']:.0f} s", f"{long['fps_by_second']['min']:.1f} FPS") if long else (NONE,) * 2
        )
        whole = times["total"]
        cells = [f"{ms:.2f} ms" for ms in (whole["p50"], whole["p90"], whole["p99"])]
        cells += [f"{times[stage]['p50']:.2f} ms" for stage in STAGES]
        cells += [*sustained, f"{a['open_ms']:.0f} ms", f"{result['runs']:,}", runtime(a)]
        rows.append((title(name, a["recipe"]), *cells))
    return Table("A whole frame on the phone", header, rows, frozenset({0, len(header) - 1}))


# ---- instructions


def by_class(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by the chart's classes; they add up to the total if the counter's own do."""
    found = {name: sum(counts.get(own, 0) for own in owns) for name, owns in CLASSES.items()}
    return {**found, OTHER: max(0, counts[TOTAL] - sum(found.values()))}


def instruction_chart(result: InstructionsResult) -> Chart:
    bars = tuple(
        Bar(
            title(name, a["recipe"]),
            millions(a["instructions"][TOTAL]),
            tuple(Part(kind, value / 1e6, LOOKS[kind]) for kind, value in by_class(a["instructions"]).items()),
            (Mark(BOUND, a["bound"] / 1e6),),
        )
        for name, a in result["artifacts"].items()
    )
    return Chart("Instructions of a frame, by class", "millions of executed instructions", bars)


def instructions(result: InstructionsResult) -> Table:
    header = ("artifact", "in all", BOUND, "ratio", *CLASSES, OTHER, *compared_header(result))
    rows = []
    for name, a in result["artifacts"].items():
        total, kinds = a["instructions"][TOTAL], by_class(a["instructions"])
        ratio = f"{total / a['bound']:.2f}" if a["bound"] else NONE
        cells = (millions(total), millions(a["bound"]), ratio, *map(millions, kinds.values()), *compared(result, name))
        rows.append((title(name, a["recipe"]), *cells))
    return Table("Instructions", header, rows)


def layer_chart(name: str, artifact: CountedEntry) -> Chart:
    whole = artifact["instructions"][TOTAL] or 1
    totals = [(layer, counts[TOTAL]) for layer, counts in artifact["layers"].items()]
    bars = tuple(
        Bar(layer, f"{millions(total)}, {100 * total / whole:.1f}%", (Part(TOTAL, total / 1e6, "look0"),))
        for layer, total in largest(totals, SHOWN_LAYERS)
    )
    named = f"the {SHOWN_LAYERS} largest of {len(totals)} layers" if len(totals) > SHOWN_LAYERS else f"{len(totals)} layers"
    return Chart(f"{title(name, artifact['recipe'])}: {named}", "millions of executed instructions", bars)


def layers(name: str, artifact: CountedEntry) -> Table:
    """All layers, in the order of execution."""
    whole = artifact["instructions"][TOTAL] or 1
    rows = []
    for layer, counts in artifact["layers"].items():
        share = f"{100 * counts[TOTAL] / whole:.1f}%"
        rows.append((layer, millions(counts[TOTAL]), share, *(millions(value) for value in by_class(counts).values())))
    return Table(f"{title(name, artifact['recipe'])}, by layer", ("layer", "in all", "share", *CLASSES, OTHER), rows)


# ---- the manifest


def artifacts(manifest: Manifest) -> Table:
    header = ("artifact", "format", "size", "multiply-adds", "parameters", "layers kept in float32")
    rows = [
        (
            title(name, a["recipe"]),
            a["format"],
            megabytes(a["bytes"]),
            millions(a["macs"]),
            ", ".join(f"{count:,} {kind}" for kind, count in a["parameters"].items()) or NONE,
            ", ".join(a["float32_layers"]) or "none",
        )
        for name, a in manifest["artifacts"].items()
    ]
    return Table("Artifacts", header, rows, frozenset({0, 1, 4, 5}))


def files(manifest: Manifest) -> Table:
    rows = [(name, f"{facts['bytes']:,}", facts["sha256"]) for name, facts in manifest["files"].items()]
    return Table("Files", ("file", "bytes", "SHA-256"), rows, frozenset({0, 2}))


def checkpoint(manifest: Manifest) -> Table:
    header = ("role", "file", "bytes", "recognised as", "SHA-256")
    rows = [
        (file["role"], file["name"], f"{file['bytes']:,}", file["recognised"] or NONE, file["sha256"])
        for file in manifest["checkpoint"]
    ]
    return Table("Checkpoint", header, rows, frozenset({0, 1, 3, 4}))


def pairs(caption: str, values: Mapping[str, str], header: Sequence[str]) -> Table:
    return Table(caption, (header[0], header[1]), list(values.items()), frozenset({0, 1}))


# ---- numbers as text


def decibels(value: float | None, digits: int = 1) -> str:
    return NONE if value is None else f"{value:.{digits}f} dB"


def millions(value: float) -> str:
    return f"{value / 1e6:,.2f} M"


def megabytes(value: float) -> str:
    return f"{value / 1e6:.2f} MB"


def compared_header(result: TimesResult | InstructionsResult) -> tuple[str, ...]:
    return ("of the old",) if "compared" in result else ()


def compared(result: TimesResult | InstructionsResult, name: str) -> tuple[str, ...]:
    """New over old, with the 95% confidence interval of times."""
    if "compared" not in result:
        return ()
    one = result["compared"].get(name)
    if one is None:
        return (NONE,)
    return (f"{one['ratio']:.3f}" + (f" ({one['low']:.3f} to {one['high']:.3f})" if "low" in one else ""),)


def _maybe(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)
