"""mfs batch: many people's bundles out of one kit."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mfs_deploy.commands import options
from mfs_deploy.commands.console import Console, output_options
from mfs_deploy.commands.tables import table
from mfs_deploy.errors import IncompleteError, ParityError

if TYPE_CHECKING:
    from mfs_deploy.batch.chunk import BatchRequest
    from mfs_deploy.batch.parity import PersonParity
    from mfs_deploy.batch.results import PersonResult

SHOWN = 10  # failures that are listed; the results table has all


@click.command("batch", short_help="Many people's bundles out of one kit; resumable.")
@click.argument("people", type=options.PATH)
@click.option("--kit", type=options.PATH, required=True, help="What mfs kit pack wrote.")
@click.option(
    "--out", required=True, metavar="PLACE", help="A folder, or s3://bucket/prefix; each person's bundle goes there under their id."
)
@options.backends
@options.kit_recipe
@options.detector
@click.option("--workers", type=click.IntRange(1), help="Processes; as many as there are cores unless said.")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="ray: on the cluster of RAY_ADDRESS, else on one that is started here; all must find the same files under the same paths.",
)
@click.option(
    "--parity",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Then measure N of them, spread over all, against PyTorch; needs PyTorch and the backends' runtimes.",
)
@output_options
def command(console: Console, backends: str, workers: int | None, parity: int, out: str, **kwargs: Any) -> int:
    """Make a bundle for each of PEOPLE: a CSV or Parquet file, or a folder of photos and identity files.

    \b
    id,photo,landmarks
    p001,photos/1.jpg,"203,101,247,103,225,126,204.4,140.4,243.6,141.6"

    Columns: id, photo or identity, and landmarks, aligned or face as in mfs export. A person that cannot be done is told in
    results.csv (with pyarrow, in results.parquet too) and stops nobody else. Run it again to do what is missing or has changed.
    Exit code 12 if someone could not be done, 7 if a measured bundle differs from PyTorch.
    """
    from mfs_deploy.batch import run, stores
    from mfs_deploy.batch.chunk import BatchRequest
    from mfs_deploy.batch.results import RESULTS

    place = out if stores.is_url(out) else Path(out)
    request = BatchRequest(backends=options.parse_backends(backends), workers=workers or 0, out=place, **kwargs)
    found = run.run(request, console)
    measured = measure(request, found, parity, console) if parity else []
    console.finish()
    counts = Counter(result.status for result in found)
    results = stores.open_store(place).where(RESULTS)
    failed = [vars(result) for result in found if result.status == "failed"]
    data = {"counts": dict(counts), "results": results, "failed": failed, "parity": [vars(one) for one in measured]}
    console.result(data, summary(found, measured, results))
    if any(one.complaints for one in measured):
        return ParityError.exit_code
    return IncompleteError.exit_code if failed else 0


def measure(request: BatchRequest, results: Sequence[PersonResult], count: int, console: Console) -> list[PersonParity]:
    from mfs_deploy.batch import parity as batch_parity
    from mfs_deploy.batch.people import read_people

    made = {result.id for result in results if result.status != "failed"}
    chosen = batch_parity.spread([entry for entry in read_people(request.people) if entry.id in made], count)
    console.start(len(chosen))
    found = []
    for one in batch_parity.measure(request, chosen):
        found.append(one)
        console.step(f"{one.id} measured")
    return found


def summary(results: Sequence[PersonResult], measured: Sequence[PersonParity], table_path: str) -> str:
    counts = Counter(result.status for result in results)
    lines = [", ".join(f"{counts[status]} {status}" for status in ("done", "unchanged", "failed") if counts[status])]
    if times := [result.seconds for result in results if result.status == "done"]:
        fastest, middle, slowest = (1000 * f(times) for f in (min, statistics.median, max))
        lines.append(f"a person took {middle:.0f} ms ({fastest:.0f} to {slowest:.0f})")
    failed = [result for result in results if result.status == "failed"]
    if failed:
        lines += ["", table(("failed", "kind", "why"), [(result.id, result.error_kind, result.error) for result in failed[:SHOWN]])]
        if len(failed) > SHOWN:
            lines.append(f"and {len(failed) - SHOWN} more")
    if measured:
        ordered = sorted(measured, key=lambda one: one.psnr_db)
        worst, median, best = ordered[0], ordered[len(ordered) // 2], ordered[-1]
        lines.append(
            f"parity of {len(measured)}: {worst.id} {worst.psnr_db:.1f} dB (worst), {median.id} {median.psnr_db:.1f} dB (median), "
            f"{best.id} {best.psnr_db:.1f} dB"
        )
        lines += [f"{one.id}: {complaint}" for one in measured for complaint in one.complaints]
    else:
        lines.append("parity not measured (--parity N)")
    return "\n".join([*lines, f"results: {table_path}"])
