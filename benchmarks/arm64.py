"""Instructions of a frame on an emulated Cortex-A76: our artifacts, and what the converters give without us.

    mfs arm64 setup; python -m benchmarks.arm64

writes benchmarks/results/arm64.json, and from it the tables in the pages (between their markers).  The
demo person of MobileFaceSwap at 224, ranges from the demo's calibration crops, one thread.  The baseline is the network as it is
trained, BatchNorm and all, through pnnx and litert-torch, with the runtimes' default options.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.fx.passes.shape_prop import ShapeProp

from benchmarks import pages
from mfs_deploy import metrics
from mfs_deploy.architectures import interface
from mfs_deploy.backends import launch
from mfs_deploy.backends.base import Conversion
from mfs_deploy.backends.job import Job
from mfs_deploy.backends.ncnn import pnnx, rewrites
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.backends.tflite import backend as tflite
from mfs_deploy.backends.worker import MARK
from mfs_deploy.devices.arm64 import count, machine
from mfs_deploy.evaluate.bench_arm64 import LANES
from mfs_deploy.exporter.calibrate import CalibrationContext, calibrate
from mfs_deploy.exporter.prepare import prepare
from mfs_deploy.exporter.request import DEMO, CalibrationOptions, Network, ParityOptions, Person
from mfs_deploy.graph import merge_output_branches, pad_even_kernels, pad_input_channels
from mfs_deploy.graph.trace import is_resize, module_of, trace
from mfs_deploy.quant import recipes

RESULTS = pages.RESULTS / "arm64.json"
CPU = "cortex-a76"
ARCH, SIZE = "mobilefaceswap", 224
OURS = [
    ("ncnn", "fp32"),
    ("ncnn", "fp16"),
    ("ncnn", "w8a8"),
    ("tflite", "fp32"),
    ("tflite", "fp16"),
    ("tflite", "w8a8"),
    ("onnx", "fp32"),
    ("onnx", "w8a8"),
]
BY_LAYER = [("ncnn", "fp16"), ("tflite", "fp32"), ("tflite", "w8a8")]
SHOWN = 12  # layers of each
POINTWISE, CHANNELWISE, DENSE = "1x1 convolutions", "depthwise convolutions", "other convolutions"
RESIZE, ELSE = "resizes", "all else"


def _only_ncnn(n: int) -> Any:
    chosen = (merge_output_branches, pad_even_kernels, pad_input_channels)[:n]
    return patch.object(rewrites, "rewrite", lambda graph, may: [rewrite.apply(graph, may) for rewrite in chosen])


@contextmanager
def _only_tflite(n: int) -> Iterator[None]:
    with ExitStack() as stack:
        if n < 1:
            stack.enter_context(patch.object(tflite, "split_into_blocks", lambda model: 0))
        if n < 2:
            stack.enter_context(patch.object(tflite, "rewritten", lambda job: job))
        yield


# Artifacts, the files of their rewrites, and how to convert with the first n of these alone.
LADDERS = (
    ("ncnn", "fp16", ("graph/merge_output_branches.py", "graph/pad_even_kernels.py", "graph/pad_input_channels.py"), _only_ncnn),
    ("tflite", "w8a8", ("backends/tflite/blocks.py", "graph/merge_pointwise.py"), _only_tflite),
)

# Run by the emulated Python, which has no torch: a file of a converter, as it is.
NCNN_FRAMES = """
import os, sys, numpy as np, ncnn
net = ncnn.Net()
net.opt.num_threads = 1
for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
    setattr(net.opt, option, {half})
assert net.load_param({file!r} + ".param") == 0 and net.load_model({file!r} + ".bin") == 0
values = np.ascontiguousarray(np.load({target!r})[0])
frame = ncnn.Mat(values).clone()
def run():
    e = net.create_extractor()
    e.input("in0", frame)
    return [e.extract(name) for name in ("out0", "out1")]
"""
TFLITE_FRAMES = """
import os, numpy as np
from ai_edge_litert.interpreter import Interpreter
i = Interpreter(model_path={file!r}, num_threads=1)
i.allocate_tensors()
i.set_tensor(i.get_input_details()[0]["index"], np.ascontiguousarray(np.load({target!r}).transpose(0, 2, 3, 1)))
run = i.invoke
"""
MARKED = """
run()
for _ in range(3):
    try:
        os.close({mark})
    except OSError:
        pass
    run()
try:
    os.close({mark})
except OSError:
    pass
"""


def guest(code: str, folder: Path, **facts: Any) -> dict[str, int]:
    """Instructions of a frame of ``run`` in ``code``."""
    counts = folder / "counts"
    there = machine.machine(CPU, counts=counts)
    whole = code.format(**facts) + MARKED.format(mark=MARK)
    subprocess.run(
        [*there.command, "-c", whole], env={**there.environment, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True
    )
    return count.frame(counts)


def converters_own(net: torch.nn.Module, target: np.ndarray, folder: Path) -> dict[str, dict[str, int]]:
    """The baseline: no rewrite of ours."""
    contract, graph = interface(ARCH).contract(SIZE), trace(net)
    np.save(folder / "target.npy", target)
    pnnx._trace(graph, contract, folder / "swap.pt")
    found = {}
    for recipe, half in (("fp32", 0), ("fp16", 1)):
        place = folder / recipe
        place.mkdir()
        command = [str(pnnx._pnnx()), str(folder / "swap.pt"), f"inputshape=[1,3,{SIZE},{SIZE}]f32", f"fp16={half}"]
        subprocess.run(command, cwd=place, check=True, capture_output=True)
        file = str(folder / "swap.ncnn")
        found[f"ncnn {recipe}"] = guest(NCNN_FRAMES, place, file=file, half=bool(half), target=str(folder / "target.npy"))
        print(f"ncnn {recipe}, the converter's own", found[f"ncnn {recipe}"][count.TOTAL], flush=True)
    tflite.lower(graph, contract, folder / "swap.tflite")
    found["tflite fp32"] = guest(TFLITE_FRAMES, folder, file=str(folder / "swap.tflite"), target=str(folder / "target.npy"))
    print("tflite fp32, the converter's own", found["tflite fp32"][count.TOTAL], flush=True)
    return found


def measure() -> dict[str, Any]:
    baked = prepare(Network(DEMO), Person(DEMO), ParityOptions())
    contract, target = interface(ARCH).contract(SIZE), baked.crops[:1]
    context = CalibrationContext(ARCH, SIZE, None)
    ranges = calibrate(CalibrationOptions(photos=DEMO), context, baked.graph, target).stored.ranges
    found: dict[str, Any] = {"cpu": CPU, "versions": machine.versions(), "ours": {}, "layers": {}}
    with launch.scratch() as scratch:
        (scratch / "own").mkdir()
        found["work"] = work_of(baked.graph)
        found["converters_own"] = converters_own(baked.net, target, scratch / "own")
        found["ablation"] = ablation(baked.graph, ranges, target, scratch)
        for backend, name in OURS:
            recipe, folder = recipes.load(name), scratch / f"{backend}-{name}"
            folder.mkdir()
            job = Conversion(baked.graph, contract, recipe, ranges=ranges if recipe.is_static else {})
            BACKENDS[backend].convert(job, folder)
            counts = folder / "counts"
            one = replace(Job.of_artifact(folder, backend, ARCH, SIZE, asdict(recipe)), count=count.FRAMES)
            (done,) = launch.run([one], target, folder / "run", machine=machine.machine(CPU, counts=counts))
            psnr = metrics.psnr_db(done.outputs["swapped"], baked.reference.swapped[:1], peak=1.0)
            size = sum((folder / file).stat().st_size for file in BACKENDS[backend].FILES)
            found["ours"][f"{backend} {name}"] = {"instructions": count.frame(counts), "psnr_db": psnr, "bytes": size}
            print(backend, name, found["ours"][f"{backend} {name}"], flush=True)
            if (backend, name) in BY_LAYER:
                counts = folder / "layer-counts"
                one = replace(one, count=0, count_layers=True)
                (done,) = launch.run([one], target, folder / "layers", machine=machine.machine(CPU, counts=counts))
                layers = count.layers(counts, done)
                found["layers"][f"{backend} {name}"] = {layer: kinds[count.TOTAL] for layer, kinds in layers.items()}
    return found


def ablation(graph: torch.fx.GraphModule, ranges: Any, target: np.ndarray, scratch: Path) -> list[dict[str, Any]]:
    """Each of ``LADDERS`` with one more of its rewrites each time."""
    contract, found = interface(ARCH).contract(SIZE), []
    for backend, name, files, only in LADDERS:
        recipe = recipes.load(name)
        for n in range(len(files) + 1):
            folder = scratch / f"ablation-{backend}-{n}"
            folder.mkdir()
            with only(n):
                BACKENDS[backend].convert(Conversion(graph, contract, recipe, ranges=ranges if recipe.is_static else {}), folder)
            counts = folder / "counts"
            one = replace(Job.of_artifact(folder, backend, ARCH, SIZE, asdict(recipe)), count_layers=True)
            (done,) = launch.run([one], target, folder / "run", machine=machine.machine(CPU, counts=counts))
            layers = {layer: kinds[count.TOTAL] for layer, kinds in count.layers(counts, done).items()}
            step = f"with `{files[n - 1]}`" if n else "none of them"
            found.append({"artifact": f"{backend} {name}", "name": step, "instructions": sum(layers.values()), "layers": layers})
            print(backend, name, step, found[-1]["instructions"], flush=True)
    return found


def ablation_table(found: dict[str, Any]) -> str:
    rows = []
    for one in found["ablation"]:
        most_expensive = sorted(one["layers"].items(), key=lambda item: -item[1])[:5]
        backend, recipe = one["artifact"].split()
        artifact, total = f"{BACKENDS[backend].TITLE} {recipe}", f"{one['instructions'] / 1e6:.1f} M"
        rows.append((artifact, one["name"], total, ", ".join(f"{n} {c / 1e6:.1f}" for n, c in most_expensive)))
    return pages.markdown(("artifact", "rewrites", "instructions", "most expensive layers left (M)"), rows)


def table(found: dict[str, Any]) -> str:
    own = {name: counts[count.TOTAL] for name, counts in found["converters_own"].items()}
    rows = []
    for backend, recipe in OURS:
        name = f"{backend} {recipe}"
        one = found["ours"][name]
        total = one["instructions"][count.TOTAL]
        base = own.get(name)
        float32 = own.get(f"{backend} fp32")
        rows.append(
            (
                BACKENDS[backend].TITLE,
                recipe,
                "-" if base is None else f"{base / 1e6:.1f} M",
                f"{total / 1e6:.1f} M",
                "-" if base is None else f"{total / base:.2f}",
                "-" if float32 is None else f"{total / float32:.2f}",
                f"{one['psnr_db']:.1f} dB",
                f"{one['bytes'] / 1e6:.2f} MB",
            )
        )
    columns = (
        "runtime",
        "recipe",
        "the converter's own",
        "ours",
        "ratio",
        "of its fp32",
        "PSNR to PyTorch there",
        "size",
    )
    return pages.markdown(columns, rows)


def layers_table(found: dict[str, Any]) -> str:
    columns, ranked = [], []
    for backend, recipe in BY_LAYER:
        layers = found["layers"][f"{backend} {recipe}"]
        columns += [f"{BACKENDS[backend].TITLE} {recipe}", "instructions"]
        ranked.append(sorted(layers.items(), key=lambda item: -item[1])[:SHOWN])
    rows = [tuple(cell for layers in ranked for cell in (layers[i][0], f"{layers[i][1] / 1e6:.1f} M")) for i in range(SHOWN)]
    return pages.markdown(columns, rows)


def work_of(graph: torch.fx.GraphModule) -> dict[str, tuple[str, int]]:
    """Every layer of the simplified network: its operation type and its MACs."""
    found = {}
    with torch.inference_mode():
        ShapeProp(graph).propagate(torch.zeros(1, 3, SIZE, SIZE))
    for node in graph.graph.nodes:
        conv = module_of(graph, node, torch.nn.Conv2d)
        if conv is None:
            found[node.name] = (RESIZE if is_resize(node) else ELSE, 0)
        else:
            operation = CHANNELWISE if conv.groups > 1 else POINTWISE if conv.kernel_size == (1, 1) else DENSE
            found[node.name] = (operation, node.meta["tensor_meta"].shape.numel() * conv.weight[0].numel())
    return found


def operations_table(found: dict[str, Any]) -> str:
    rows = []
    for operation in (POINTWISE, CHANNELWISE, DENSE, RESIZE, ELSE):
        macs = sum(n for known, n in found["work"].values() if known == operation)
        cells = [f"{macs / 1e6:.1f} M" if macs else "-"]
        for name, lanes in (("tflite fp32", LANES["float32"]), ("tflite w8a8", LANES["int8"])):
            cost = sum(n for layer, n in found["layers"][name].items() if found["work"].get(layer, (ELSE, 0))[0] == operation)
            cells += [f"{cost / 1e6:.1f} M", f"{macs / lanes / 1e6:.1f} M" if macs else "-"]
        rows.append((operation, *cells))
    return pages.markdown(("operation type", "MACs", "fp32", "lower bound", "w8a8", "lower bound"), rows)


def show(found: dict[str, Any]) -> None:
    """Fill the pages from results."""
    pages.fill("operations", operations_table(found))
    pages.fill("arm64", table(found))
    pages.fill("ablation", ablation_table(found))
    pages.fill("layers", layers_table(found))


if __name__ == "__main__":
    pages.run(measure, show, RESULTS)
