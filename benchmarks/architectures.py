"""Both architectures side by side: size, work, parity and the time of a frame, on stand-in checkpoints.

    python -m benchmarks.architectures

writes benchmarks/results/architectures.json, and from it the table in the pages (between its markers).  Times are the median of a
frame, one thread, each runtime in a process of its own and nothing beside it.
"""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from benchmarks import pages
from mfs_deploy import architectures, metrics
from mfs_deploy.backends import launch
from mfs_deploy.backends.job import Job
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.bundle import provenance
from mfs_deploy.evaluate import parity as judged
from mfs_deploy.evaluate.reference import run_pytorch
from mfs_deploy.exporter import write_bundle
from mfs_deploy.faces import find, portrait
from mfs_deploy.graph import simplify
from mfs_deploy.graph.cost import cost
from mfs_deploy.graph.trace import trace
from mfs_deploy.quant import recipes
from testing import standin, standin_mobilefsgan

RESULTS = pages.RESULTS / "architectures.json"
SEED = 1
RECIPES = ("fp32", "fp16")


def generator(name: str) -> torch.nn.Module:
    net = architectures.get(name).generator({})
    {"mobilefaceswap": standin, "mobilefsgan": standin_mobilefsgan}[name].fill(net, SEED)
    return net.eval()


def measure() -> dict[str, Any]:
    return {
        "machine": f"{platform.machine()}, {platform.processor() or 'unknown processor'}",
        "versions": provenance.versions(p for backend in BACKENDS.values() for p in backend.PACKAGES),
        "architectures": [measure_one(name) for name in architectures.INTERFACES],
    }


def measure_one(name: str) -> dict[str, Any]:
    arch = architectures.get(name)
    size = arch.INTERFACE.sizes[0]
    net = generator(name)
    baked = arch.bake(net, arch.random_identity(np.random.default_rng(SEED)))
    baked_net = arch.load(baked)
    face = find.align_face(portrait.read_portrait(), size, find.FaceLocation(portrait.LANDMARKS), None, arch.INTERFACE.alignment)
    targets = judged.inputs([judged.Case("target", face.crop)])
    reference = run_pytorch(baked_net, targets)
    before, after = cost(trace(baked_net), size), cost(simplify(baked_net), size)
    found: dict[str, Any] = {
        "title": arch.INTERFACE.title,
        "size": size,
        "trained_parameters": sum(p.numel() for p in net.parameters()),
        "baked": asdict(before),
        "simplified": asdict(after),
        "artifacts": {},
    }
    for recipe in RECIPES:
        for backend in BACKENDS:
            job = Job(backend=backend, arch=name, size=size, recipe=asdict(recipes.load(recipe)), convert=True, time=True)
            with launch.scratch() as scratch:
                (done,) = launch.run([job], targets, scratch, weights=baked)
                found["artifacts"][f"{backend} {recipe}"] = {
                    "bytes": write_bundle.artifact_bytes(done),
                    "psnr_db": metrics.psnr_db(done.outputs["swapped"], reference.swapped, peak=1.0),
                    "frame_ms": done.result.frame_ms if BACKENDS[backend].RUNS_HERE else None,
                }
            print(name, recipe, backend, found["artifacts"][f"{backend} {recipe}"], flush=True)
    return found


def table(results: dict[str, Any]) -> str:
    both = results["architectures"]
    rows: list[tuple[str, ...]] = [
        ("parameters as trained", *(f"{one['trained_parameters']:,}" for one in both)),
        ("baked", *(f"{one['baked']['parameters']:,}, {one['baked']['macs'] / 1e9:.3g} GMAC" for one in both)),
        (
            "after exact rewrites",
            *(f"{one['simplified']['parameters']:,}, {one['simplified']['macs'] / 1e9:.3g} GMAC" for one in both),
        ),
    ]
    for backend, module in BACKENDS.items():
        for recipe in RECIPES:
            entries = [one["artifacts"][f"{backend} {recipe}"] for one in both]
            rows.append((f"{module.TITLE} {recipe}", *map(_cell, entries)))
    return pages.markdown(("", *(f"{one['title']}, {one['size']} pixels" for one in both)), rows)


def _cell(entry: dict[str, Any]) -> str:
    time = "" if entry["frame_ms"] is None else f", {entry['frame_ms']:.3g} ms"
    return f"{entry['bytes'] / 1e6:.2f} MB, {entry['psnr_db']:.0f} dB{time}"


def show(results: dict[str, Any]) -> None:
    """Fill the pages from results."""
    pages.fill("architectures", table(results))


if __name__ == "__main__":
    pages.run(measure, show, RESULTS)
