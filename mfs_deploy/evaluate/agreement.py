"""Who agrees with whom: the outputs of every runtime on every processor, and of PyTorch, against each other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from mfs_deploy import metrics
from mfs_deploy.evaluate.parity import Outputs
from mfs_deploy.evaluate.result_types import Agreement

REFERENCE = "PyTorch"


def matrix(reference: Outputs, outputs: Mapping[str, Outputs]) -> Agreement:
    """PSNR in dB of the swapped crops of each two, over all cases; None where they are the same in every bit."""
    everyone = {REFERENCE: reference, **outputs}
    found: Agreement = {name: {} for name in everyone}
    for (a, left), (b, right) in combinations(everyone.items(), 2):
        same = left.swapped.tobytes() == right.swapped.tobytes()
        found[a][b] = found[b][a] = None if same else float(f"{metrics.psnr_db(left.swapped, right.swapped, peak=1.0):.4g}")
    return found
