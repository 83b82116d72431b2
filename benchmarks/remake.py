"""Makes every table and picture again from the results that are there, without measuring.

python benchmarks/remake.py
"""

from __future__ import annotations

import json

from benchmarks import architectures, arm64, demo_model, parity, recipes, stamping
from benchmarks.peers import measure as peers

if __name__ == "__main__":
    for benchmark in (parity, architectures, recipes, stamping, demo_model, arm64, peers):
        benchmark.show(json.loads(benchmark.RESULTS.read_text("utf-8")))
