"""In place of ``mfs-bench-device`` and of the apps where there is no processor for them: the same options, the same report, from
this package's own runtimes.  It runs the networks that it is given; only its times are not a phone's.

    fake_bench_device.py --bundle DIR --backend B [--reference DIR] [--dump DIR] [--threads N] [--warmup N] [--runs N] ...
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from mfs_deploy import files, metrics
from mfs_deploy.architectures import INTERFACES
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import manifest
from mfs_deploy.faces import pixels


def distribution(values: list[float]) -> dict[str, float]:
    p50, p90, p99 = np.percentile(values, (50, 90, 99))
    return {"p50": p50, "p90": p90, "p99": p99, "min": min(values), "max": max(values), "mean": float(np.mean(values))}


def measure(options: dict[str, str]) -> dict[str, Any]:
    bundle, reference = Path(options["bundle"]), Path(options["reference"])
    said = manifest.read(bundle)
    contract = INTERFACES[said["architecture"]].contract(said["contract"]["size"])
    entry = said["artifacts"][options["backend"]]
    started = time.perf_counter()
    runner = BACKENDS[options["backend"]].open(bundle / entry["files"][0], contract)
    opened = time.perf_counter()
    crops = np.load(reference / "target_rgb.npy")
    outputs = [runner.run(pixels.to_tensor(crop)) for crop in crops]
    arrays = {spec.name: np.concatenate(values) for spec, values in zip(contract.outputs, zip(*outputs, strict=True), strict=True)}
    if "dump" in options:
        Path(options["dump"]).mkdir(parents=True)
        for name, array in arrays.items():
            np.save(Path(options["dump"], f"{name}.npy"), array)
    frame, times = runner.frame(pixels.to_tensor(crops[0])), []
    for _ in range(int(options["warmup"]) + int(options["runs"])):
        began = time.perf_counter()
        frame()
        times.append(1000 * (time.perf_counter() - began))
    times = times[int(options["warmup"]) :]
    want, names = np.load(reference / "swapped.npy"), np.load(reference / "case.npy")
    psnr = [metrics.psnr_db(got, wanted, peak=1) for got, wanted in zip(arrays["swapped"], want, strict=True)]
    cases = [{"case": str(name), "swapped_psnr_db": value} for name, value in zip(names, psnr, strict=True)]
    found: dict[str, Any] = {
        **{"schema": 1, "tool": "stand-in", "manifest_sha256": files.sha256(bundle / manifest.NAME), "bundle": bundle.name},
        "machine": {"system": "Linux", "architecture": "none", "cpu": "stand-in", "cores": 1, "compiler": ""},
        **{"backend": options["backend"], "runtime": runner.runtime, "recipe": entry["recipe"], "precision": "float32"},
        **{"pixels": runner.pixels, "threads": int(options.get("threads", "1")), "open_ms": 1000 * (opened - started)},
        "frame": {"name": "reference", "width": 512, "height": 512},
        "parity": {"cases": cases, "align_max": 0, "paste_max": 0, "complaints": []},
    }
    if times:
        nothing = distribution([0.0])
        found["latency_ms"] = dict.fromkeys(("detect", "align", "paste"), nothing)
        found["latency_ms"] |= dict.fromkeys(("network", "total"), distribution(times))
    if seconds := float(options.get("sustained", "0")):
        fps = 1000 / float(np.median(times))
        samples = [{"seconds": 0.0, "heat": {"0 cpu": 31.5}, "khz": [1800000]}]
        found["sustained"] = {"seconds": seconds, "frames": int(fps * seconds), "fps": fps, "fps_by_second": distribution([fps])}
        found["sustained"]["samples"] = samples
    return found


def main(arguments: list[str]) -> int:
    options = dict(zip((name.removeprefix("--") for name in arguments[::2]), arguments[1::2], strict=True))
    print(json.dumps(measure(options)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
