"""Makes every table and picture again from the results that are there, without measuring.

python -m benchmarks.remake
"""

from __future__ import annotations

import json

from benchmarks import architectures, arm64, demo_model, parity, recipes, stamping
from benchmarks.peers import measure


def remake() -> None:
    for benchmark in (parity, architectures, recipes, stamping, demo_model, arm64, measure):
        benchmark.show(json.loads(benchmark.RESULTS.read_text("utf-8")))


if __name__ == "__main__":
    remake()
