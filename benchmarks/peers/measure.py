"""Our files, the converters' own and other toolkits', on the same weights and the same frame, in one run.

    python -m benchmarks.peers.measure

writes benchmarks/results/peers.json, and from it the tables in the pages (between their markers) and the picture in
docs/peers.svg.  MNN, OpenVINO and ExecuTorch get an environment of their own in build/peers (requirements.txt), made on the
first run; one that cannot be had, or fails, has the reason in its row.

Each file runs in a process of its own (``runner.py``).  Time goes in rounds: each process in turn opens its file anew and runs
some frames, while all others are stopped, so a slow minute of the machine falls on all.  A median is the median over rounds of the
rounds' medians.  Instructions on arm64 are those of ``arm64.py``, and MNN's are counted here in the same way.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import arm64, pages
from benchmarks.peers import tables, timing
from benchmarks.peers.contestant import CONTESTANTS
from benchmarks.peers.environment import ENVIRONMENT, PEERS, REQUIREMENTS, command, failure, last_line, python_of, set_up, versions
from mfs_deploy import metrics
from mfs_deploy.architectures import interface
from mfs_deploy.backends import launch
from mfs_deploy.backends.base import Conversion
from mfs_deploy.backends.coreml import package as mil_package
from mfs_deploy.backends.ncnn import pnnx
from mfs_deploy.backends.onnx import backend as onnx
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.backends.tflite import backend as tflite
from mfs_deploy.bundle import provenance
from mfs_deploy.devices.arm64 import count, machine
from mfs_deploy.errors import MfsError
from mfs_deploy.exporter.calibrate import CalibrationContext, calibrate
from mfs_deploy.exporter.prepare import prepare
from mfs_deploy.exporter.request import DEMO, CalibrationOptions, Network, ParityOptions, Person
from mfs_deploy.graph.trace import trace
from mfs_deploy.quant import recipes

RESULTS = pages.RESULTS / "peers.json"
ARCH, SIZE = "mobilefaceswap", 224
COMPANIONS = {".param": ".bin", ".xml": ".bin"}

# Run by the emulated Python.
MNN_FRAMES = """
import os, sys, numpy as np
sys.path.insert(0, {wheel!r})
import MNN
net = MNN.Interpreter({file!r})
session = net.createSession({{"backend": "CPU", "numThread": 1, "precision": {precision!r}}})
value = np.load({target!r})
net.getSessionInput(session).copyFrom(MNN.Tensor(value.shape, MNN.Halide_Type_Float, value, MNN.Tensor_DimensionType_Caffe))
def run():
    net.runSession(session)
"""


# ---- files


def make_files(folder: Path, failed: dict[str, str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All files of all contestants; a frame, and PyTorch's swapped crop and mask for it."""
    baked = prepare(Network(DEMO), Person(DEMO), ParityOptions())
    contract, target = interface(ARCH).contract(SIZE), baked.crops[:1]
    calibrated = calibrate(CalibrationOptions(photos=DEMO), CalibrationContext(ARCH, SIZE, None), baked.graph, target)
    np.save(folder / "target.npy", target)
    np.save(folder / "crops.npy", calibrated.crops)
    for one in CONTESTANTS:
        if one.maker == "ours":
            place = (folder / one.file).parent
            place.mkdir()
            recipe = recipes.load(one.precision)
            ranges = calibrated.stored.ranges if recipe.is_static else {}
            BACKENDS[one.backend].convert(Conversion(baked.graph, contract, recipe, ranges=ranges, coreml_io="tensor"), place)
            say(f"made {one.key}")
    converters_own(baked.net, folder)
    for name, net in (("net", baked.net), ("swap", baked.graph)):
        (folder / f"{name}.onnx").write_bytes(onnx._export(trace(net), contract).SerializeToString())
        torch.export.save(torch.export.export(net, (torch.from_numpy(target),)), folder / f"{name}.pt2")
    for tool in (*PEERS, "onnx", "tflite"):
        if tool not in failed:
            reason = failure(command("files.py", tool, tool, str(folder)))
            if reason:
                failed[tool] = reason.replace(str(folder), "")
            say(f"made the files of {tool}" if reason is None else f"{tool}: {reason}")
    return target, baked.reference.swapped[:1], baked.reference.mask[:1]


def converters_own(net: torch.nn.Module, folder: Path) -> None:
    """What each converter gives for the network as it was trained; ONNX is written for the peers anyway."""
    contract, graph = interface(ARCH).contract(SIZE), trace(net)
    pnnx._trace(graph, contract, folder / "net.pt")
    for name, half in (("fp32", 0), ("fp16", 1)):
        place = folder / f"pnnx-{name}"
        place.mkdir()
        (place / "net.pt").symlink_to(folder / "net.pt")
        command = [str(pnnx._pnnx()), "net.pt", f"inputshape=[1,3,{SIZE},{SIZE}]f32", f"fp16={half}"]
        subprocess.run(command, cwd=place, check=True, capture_output=True)
    tflite.lower(graph, contract, folder / "net.tflite")
    ct = mil_package.coremltools()
    with mil_package.quiet():
        program = torch.export.export(net, (torch.zeros(contract.input.shape),)).run_decompositions({})
        ct.convert(program, minimum_deployment_target=ct.target.iOS16, skip_model_load=True).save(str(folder / "net.mlpackage"))
    say("made the converters' own")


def size(file: Path) -> int:
    if file.is_dir():
        return sum(part.stat().st_size for part in file.rglob("*") if part.is_file())
    files = [file] + [file.with_suffix(COMPANIONS[file.suffix]) for _ in range(file.suffix in COMPANIONS)]
    return sum(part.stat().st_size for part in files)


# ---- all


def measure_parity(folder: Path, found: dict[str, dict[str, Any]], swapped: np.ndarray, mask: np.ndarray) -> None:
    for one in CONTESTANTS:
        outputs = folder / "outputs" / f"{one.key.replace(' ', '-')}.npz"
        if outputs.exists():
            made = np.load(outputs)
            found[one.key]["psnr_db"] = metrics.psnr_db(made["swapped"], swapped, peak=1.0)
            found[one.key]["max_error"] = metrics.max_error(made["swapped"], swapped)
            found[one.key]["mask_max_error"] = metrics.max_error(made["mask"], mask)


def instructions(folder: Path, found: dict[str, dict[str, Any]]) -> None:
    """MNN's of a frame on arm64."""
    wheel = ENVIRONMENT / "arm64"
    pip = [python_of("mnn"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps", "--upgrade"]
    platforms = [
        part for tag in ("2_28", "2_17", "2014") for part in ("--platform", f"manylinux{'' if tag == '2014' else '_'}{tag}_aarch64")
    ]
    constraint = ("--constraint", str(REQUIREMENTS), "--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp")
    reason = None if (wheel / "MNN").exists() else failure([*pip, *platforms, *constraint, "--target", str(wheel), "mnn"])
    for one in CONTESTANTS:
        if one.runtime == "mnn" and (folder / one.file).exists() and reason is None:
            place = folder / f"counts-{Path(one.file).stem}"
            place.mkdir()
            facts = {"file": str(folder / one.file), "target": str(folder / "target.npy"), "wheel": str(wheel)}
            try:
                counted = arm64.guest(MNN_FRAMES, place, precision="low" if one.precision == "fp16" else "high", **facts)
                found[one.key]["arm64_instructions"] = counted[count.TOTAL]
            except (MfsError, subprocess.CalledProcessError) as exc:
                reason = last_line(str(exc), 1)
    if reason:
        say(f"no instructions of MNN on arm64: {reason}")


def from_arm64(results: dict[str, Any]) -> None:
    """Fill in the instructions of ours and the converters' files, from the last run of ``arm64.py``."""
    known = json.loads(arm64.RESULTS.read_text("utf-8"))
    for one, entry in zip(CONTESTANTS, results["contestants"], strict=True):
        counted = known["ours"].get(f"{one.backend} {one.precision}", {}).get("instructions") if one.maker == "ours" else None
        if one.maker == "converter":
            counted = known["converters_own"].get(f"{one.backend} {one.precision}")
        if counted:
            entry["arm64_instructions"] = counted[count.TOTAL]


def measure() -> dict[str, Any]:
    machine.check_cpu(arm64.CPU)
    failed = set_up()
    found: dict[str, dict[str, Any]] = {}
    with launch.scratch() as folder:
        _, swapped, mask = make_files(folder, failed)
        for one in CONTESTANTS:
            entry = found[one.key] = {"maker": one.maker, "title": one.title, "precision": one.precision, "runtime": one.runtime}
            if (folder / one.file).exists():
                entry["bytes"] = size(folder / one.file)
            else:
                entry["error"] = failed.get(one.runtime, "was not made")
        instructions(folder, found)
        timing.measure(CONTESTANTS, folder, found)
        measure_parity(folder, found, swapped, mask)
    from mfs_deploy.evaluate.bench import processor_name as _processor

    return {
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"},
        "versions": {
            **provenance.versions(p for backend in BACKENDS.values() for p in backend.PACKAGES),
            "peers": versions(),
        },
        "arm64_cpu": arm64.CPU,
        "method": {"rounds": timing.ROUNDS, "frames": timing.FRAMES, "threads": list(timing.THREADS)},
        "contestants": list(found.values()),
    }


def show(results: dict[str, Any]) -> None:
    from_arm64(results)
    tables.show(results)


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    pages.run(measure, show, RESULTS)
