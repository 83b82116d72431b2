"""Makes every table and picture again from the results that are there, without measuring.

python benchmarks/remake.py
"""

from __future__ import annotations

import json

import architectures
import arm64
import demo_model
import parity
import peers
import recipes
import stamping

if __name__ == "__main__":
    for benchmark in (parity, architectures, recipes, stamping, demo_model, arm64, peers):
        benchmark.show(json.loads(benchmark.RESULTS.read_text("utf-8")))
