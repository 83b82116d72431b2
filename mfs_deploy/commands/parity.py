"""mfs parity: check a bundle's artifacts against PyTorch's outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mfs_deploy.commands import options
from mfs_deploy.commands.console import Console, output_options
from mfs_deploy.commands.tables import parity_table, table

if TYPE_CHECKING:
    from mfs_deploy.bundle.manifest_types import ArtifactEntry
    from mfs_deploy.evaluate.result_types import Agreement, ParityResult


@click.command("parity", short_help="Re-check a bundle; for CI.")
@click.argument("bundle", type=options.PATH)
@options.phone
@options.cpu
@output_options
def command(
    console: Console,
    bundle: Path,
    machine: str | None,
    cpu: str,
    device: str | None,
    serial: str | None,
    runner: Path | None,
    litert: Path | None,
) -> None:
    """Re-check BUNDLE: its checksums, then every artifact against its reference tensors.

    With --on arm64 the runtimes' arm64 builds run the artifacts too, on a processor that computes float16 as phones do (an x86
    machine computes it in float32), and a table gives the PSNR of each pair.  Core ML has no runtime there.  It needs:
    mfs arm64 setup.  Where the extra "tensorflow" is installed, TensorFlow's own interpreter has a line in that table.

    With --on android or ios a phone runs them too: its outputs are copied back and must be within the same tolerances.

    Exit code 0 if all holds, 7 if an artifact departs from PyTorch, 8 if a file was changed.
    """
    from mfs_deploy.bundle import manifest
    from mfs_deploy.devices.arm64.machine import RUNTIMES
    from mfs_deploy.devices.arm64.machine import machine as emulated
    from mfs_deploy.devices.phone import OnPhone
    from mfs_deploy.evaluate import bundle_parity

    machine = options.machine_of(machine, device)
    phone = options.make_phone(machine, serial, runner, litert)
    other: bundle_parity.ParityMachine | None = None
    if phone is not None:
        other = OnPhone(phone, bundle)
    elif machine == "arm64":
        other = bundle_parity.WorkerMachine(emulated(cpu), RUNTIMES)
    checked = bundle_parity.check_bundle(bundle, console, other)
    console.finish()
    artifacts = checked.manifest["artifacts"]
    network = manifest.network(checked.manifest)
    data: ParityResult = {
        "bundle": str(bundle),
        "architecture": network["architecture"],
        "size": network["size"],
        "weights_sha256": network["weights_sha256"],
        "artifacts": {name: {"recipe": artifact["recipe"], **artifact["parity"]} for name, artifact in artifacts.items()},
        "agreement_db": checked.agreement,
    }
    lines = [parity_table(artifacts)]
    if other is not None:
        data["elsewhere"] = {"machine": other.name, "artifacts": checked.on_other}
        there: dict[str, ArtifactEntry] = {name: {**artifacts[name], "parity": entry} for name, entry in checked.on_other.items()}
        lines += ["", f"on {other.name}", parity_table(there)]
    if isinstance(other, OnPhone):
        lines += [f"not run: {why}" for why in other.refused.values()]
    if len(checked.agreement) > 1 + len(artifacts):
        lines += ["", "PSNR of each two, in dB", agreement_table(checked.agreement)]
    console.result(data, "\n".join(lines))


def agreement_table(agreement: Agreement) -> str:
    def cell(a: str, b: str) -> str:
        if a == b:
            return "-"
        return "same bits" if agreement[a][b] is None else f"{agreement[a][b]:.1f}"

    return table(("", *agreement), [(a, *(cell(a, b) for b in agreement)) for a in agreement])
