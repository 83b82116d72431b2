"""Exports the recorded stand-in checkpoint at every recipe and writes what parity measured.

    python -m benchmarks.parity

writes benchmarks/results/parity.json, and from it the table in the pages (between its markers).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks import pages
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.commands.console import Console
from mfs_deploy.exporter import pipeline
from mfs_deploy.exporter.request import ExportRequest, Formats, Network, Person
from mfs_deploy.faces import portrait
from mfs_deploy.faces.find import FaceLocation
from testing import standin

RESULTS = pages.RESULTS / "parity.json"
RECIPES = ("fp32", "fp16")  # integers are measured on trained weights, elsewhere
COLUMNS = ("backend", "recipe", "size", "PSNR", "max error", "mask", "finished frame", "identity cosine", "on noise", "run by")


def measure() -> dict[str, Any]:
    """Parity entries by recipe and backend, with the tool versions they were measured with."""
    results: dict[str, Any] = {"checkpoint": f"stand-in of seed {standin.SEED}", "size": 224, "recipes": {}}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, photo = standin.write(Path(folder) / "checkpoint", standin.SEED), Path(folder) / "portrait.png"
        Image.fromarray(portrait.read_portrait()).save(photo)
        for name in RECIPES:
            person = Person(str(photo), FaceLocation(portrait.LANDMARKS))
            request = ExportRequest(Network(str(checkpoint)), person, Path(folder) / name, Formats(recipe=name))
            manifest = pipeline.export(request, Console(as_json=False, quiet=False)).manifest
            results["versions"] = manifest["versions"]
            results["stages"] = manifest["stages"]
            results["recipes"][name] = {
                backend: {"bytes": artifact["bytes"], **artifact["parity"]} for backend, artifact in manifest["artifacts"].items()
            }
    return results


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table, a row for each backend and recipe."""
    rows = []
    for backend, module in BACKENDS.items():
        for name in sorted(results["recipes"], reverse=True):
            entry = results["recipes"][name][backend]
            target, noise = entry["cases"]
            cells = (
                module.TITLE,
                name,
                f"{entry['bytes'] / 1e6:.2f} MB",
                f"{target['swapped_psnr_db']:.1f} dB",
                f"{target['swapped_max']:.1e}",
                f"{target['mask_mean']:.1e}",
                f"{target['composite_psnr_db']:.1f} dB",
                f"{target['identity_cosine']:.6f}",
                f"{noise['swapped_psnr_db']:.1f} dB",
                entry["runtime"],
            )
            rows.append(cells)
    return pages.markdown(COLUMNS, rows)


def show(results: dict[str, Any]) -> None:
    """Fill the pages from results."""
    pages.fill("parity", table(results))


if __name__ == "__main__":
    pages.run(measure, show, RESULTS)
