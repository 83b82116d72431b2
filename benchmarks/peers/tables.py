"""Tables and the picture from what ``measure.py`` measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import pages

MAKERS = {"ours": "ours", "converter": "the converter's own", "peer": "a peer", "rewritten": "a peer, on our rewritten graph"}
COLOURS = {"ours": "#2a7f62", "converter": "#b0b0b0", "peer": "#c8553d", "rewritten": "#e3b23c"}
EXACT_DB = 100  # to PyTorch: float32 throughout
QUIET = 1.2  # times its processor time, at most, that a frame on one thread takes where nobody else works
THREADS = ("threads_1", "threads_2")
Entry = dict[str, Any]


def table(results: dict[str, Any]) -> str:
    """A row for each contestant, ours first; one that did not run says why."""
    columns = (
        *("who", "file", "precision", "size", "PSNR to PyTorch", "max error", "load"),
        *("1 thread (p10 - p90)", "its processor time", "2 threads (p10 - p90)", f"instructions, {results['arm64_cpu']}"),
    )
    return pages.markdown(columns, [_row(one) for one in results["contestants"]])


def _row(one: Entry) -> tuple[str, ...]:
    if "error" in one:
        words = one["error"].replace("|", "/").replace("`", "'")
        return (MAKERS[one["maker"]], one["title"], one["precision"], _cell(one, "bytes", _megabytes), f"`{words}`", *("-",) * 6)
    return (
        MAKERS[one["maker"]],
        one["title"],
        one["precision"],
        _cell(one, "bytes", _megabytes),
        _cell(one, "psnr_db", "{:.1f} dB".format),
        _cell(one, "max_error", "{:.1e}".format),
        _cell(one.get("threads_1", {}), "load_ms", "{:.1f} ms".format),
        _time(one.get("threads_1")),
        _cell(one.get("threads_1", {}), "cpu_ms", "{:.1f} ms".format),
        _time(one.get("threads_2")),
        _cell(one, "arm64_instructions", lambda value: f"{value / 1e6:.1f} M"),
    )


def _megabytes(value: float) -> str:
    return f"{value / 1e6:.2f} MB"


def _cell(one: Entry, name: str, text: Callable[[float], str]) -> str:
    return text(one[name]) if name in one else "-"


def _time(time: Entry | None) -> str:
    return "-" if time is None else f"{time['median_ms']:.1f} ms ({time['p10_ms']:.1f} - {time['p90_ms']:.1f})"


def fastest(results: dict[str, Any]) -> str:
    """The fastest file of ours, of the converters, and of each peer: among those that are exact, and among all."""
    timed = [one for one in results["contestants"] if all(threads in one for threads in THREADS)]
    groups = {
        name: [one for one in timed if one["maker"] == maker]
        for maker, name in (("ours", "ours"), ("converter", "the converters' own"))
    }
    for one in timed:
        if one["maker"] == "peer":
            groups.setdefault(one["title"], []).append(one)
    failed = sorted({one["title"] for one in results["contestants"] if "error" in one and one["maker"] == "peer"} - set(groups))
    columns = (
        "the fastest file of",
        "float32, 1 thread",
        "float32, 2 threads",
        "any precision, 1 thread",
        "any precision, 2 threads",
    )
    rows = [
        (name, *(_best(ones, choice, threads) for choice in (_exact, bool) for threads in THREADS)) for name, ones in groups.items()
    ]
    return pages.markdown(columns, [*rows, *((name, *("did not run",) * 4) for name in failed)])


def _exact(one: Entry) -> bool:
    return bool(one["precision"] == "fp32" and one["psnr_db"] >= EXACT_DB)


def _best(ones: list[Entry], choice: Callable[[Entry], bool], threads: str) -> str:
    chosen = [one for one in ones if choice(one)]
    if not chosen:
        return "-"
    best = min(chosen, key=lambda one: one[threads]["median_ms"])
    what = f"{best['title']} {best['precision']}" if best["maker"] != "peer" else best["precision"]
    return f"{best[threads]['median_ms']:.1f} ms ({what})"


def busy(results: dict[str, Any]) -> str:
    """A warning if other programs used the processor during the measurement, else nothing."""
    times = [one["threads_1"] for one in results["contestants"] if "threads_1" in one]
    ratio = statistics.median(time["median_ms"] / time["cpu_ms"] for time in times)
    if ratio <= QUIET:
        return ""
    return (
        f"**Not reliable: other programs used the processor.** A frame on one thread took {ratio:.1f} times its processor "
        "time. Measure again.\n\n"
    )


def draw(results: dict[str, Any], path: Path) -> None:
    """Times of a frame, the fastest first, whiskers from p10 to p90; the same bytes for the same results."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    matplotlib.rcParams["svg.hashsalt"] = "peers"
    figure = Figure(figsize=(11, 7), layout="constrained")
    for axes, threads, title in zip(figure.subplots(1, 2), THREADS, ("1 thread", "2 threads"), strict=True):
        timed = sorted((one for one in results["contestants"] if threads in one), key=lambda one: -one[threads]["median_ms"])
        names = [f"{one['title'].split(' (')[0]} {one['precision']}" for one in timed]
        middle = [one[threads]["median_ms"] for one in timed]
        reach = [
            [max(0.0, one[threads]["median_ms"] - one[threads]["p10_ms"]) for one in timed],
            [max(0.0, one[threads]["p90_ms"] - one[threads]["median_ms"]) for one in timed],
        ]
        axes.barh(range(len(timed)), middle, color=[COLOURS[one["maker"]] for one in timed], xerr=reach, ecolor="#404040")
        axes.set(yticks=range(len(timed)), yticklabels=names, xlabel="milliseconds a frame", title=title)
        axes.spines[["top", "right"]].set_visible(False)
    handles = [Patch(color=COLOURS[maker], label=name) for maker, name in MAKERS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def show(results: dict[str, Any]) -> None:
    pages.fill("peers", table(results))
    pages.fill("fastest", busy(results) + fastest(results))
    draw(results, pages.ROOT / "docs" / "peers.svg")
