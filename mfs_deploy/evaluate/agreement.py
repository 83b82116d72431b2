"""Agreement of every two runtimes, on every processor, and of PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from mfs_deploy import metrics
from mfs_deploy.evaluate.parity import Outputs
from mfs_deploy.evaluate.result_types import Agreement

REFERENCE = "PyTorch"


def pairwise_psnr(reference: Outputs, outputs: Mapping[str, Outputs]) -> Agreement:
    """PSNR in dB between the swapped crops of every two, over all cases; None if they are bit-identical."""
    everyone = {REFERENCE: reference, **outputs}
    psnr_db: Agreement = {name: {} for name in everyone}
    for (a, left), (b, right) in combinations(everyone.items(), 2):
        same = left.swapped.tobytes() == right.swapped.tobytes()
        value = None if same else metrics.rounded(metrics.psnr_db(left.swapped, right.swapped, peak=1.0))
        psnr_db[a][b] = psnr_db[b][a] = value
    return psnr_db
