"""Tables as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mfs_deploy.bundle.manifest_types import ArtifactEntry, QualityEntry


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns aligned with spaces."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def parity_table(artifacts: Mapping[str, ArtifactEntry]) -> str:
    """Each artifact against PyTorch, a line for each case."""
    header = (
        "artifact",
        "recipe",
        "size",
        "on",
        "PSNR",
        "max error",
        "mask",
        "frame PSNR",
        "identity",
        "to truth (PyTorch)",
        "run by",
    )
    rows = []
    for name, artifact in artifacts.items():
        for case in artifact["parity"]["cases"]:
            rows.append(
                (
                    name,
                    artifact["recipe"],
                    f"{artifact['bytes'] / 1e6:.2f} MB",
                    case["case"],
                    f"{case['swapped_psnr_db']:.1f} dB",
                    f"{case['swapped_max']:.1e}",
                    "-" if case["mask_mean"] is None else f"{case['mask_mean']:.1e}",
                    "-" if case["composite_psnr_db"] is None else f"{case['composite_psnr_db']:.1f} dB",
                    "-" if case["identity_cosine"] is None else f"{case['identity_cosine']:.6f}",
                    _quality(case["quality"]),
                    artifact["parity"]["runtime"],
                )
            )
    return table(header, rows)


def _quality(quality: QualityEntry | None) -> str:
    """PSNR to the truth of the artifact and of PyTorch, if the truth is known."""
    return "-" if quality is None else f"{quality['psnr_db']:.2f} ({quality['reference_psnr_db']:.2f}) dB"
