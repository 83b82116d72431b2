"""Tries every backend on this machine: converts and runs a network."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib import metadata

from mfs_deploy.backends import launch
from mfs_deploy.backends.base import Backend
from mfs_deploy.backends.job import Job
from mfs_deploy.backends.registry import BACKENDS, has
from mfs_deploy.errors import MfsError, install_line
from mfs_deploy.evaluate import parity
from mfs_deploy.progress import SILENT, Progress
from mfs_deploy.quant import recipes

REINSTALL = "reinstall the versions in constraints.txt"
ARCH, SIZE, RECIPE = "mobilefaceswap", 224, "fp32"


@dataclass(frozen=True)
class Diagnosis:
    """One backend.  ``state``: the result of a conversion in words; ``advice``: what to do, or empty."""

    backend: str
    installed: bool
    versions: str
    works: bool
    state: str
    advice: str


def examine(progress: Progress = SILENT) -> list[Diagnosis]:
    """Try every backend, each in a process of its own, as many at once as there are cores."""
    progress.start(len(BACKENDS))
    found = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {pool.submit(_examine, backend): name for name, backend in BACKENDS.items()}
        for done in as_completed(running):
            found[running[done]] = done.result()
            progress.step(running[done])
    return [found[name] for name in BACKENDS]


def recipes_by_backend() -> dict[str, dict[str, bool]]:
    """The backends that have each shipped recipe, installed or not."""
    return {recipe: {name: has(name, recipes.load(recipe)) for name in BACKENDS} for recipe in recipes.names()}


def _examine(backend: Backend) -> Diagnosis:
    versions, missing = {}, []
    for package in ("torch", *backend.PACKAGES):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            missing.append(package)
    text = ", ".join(f"{package} {version}" for package, version in versions.items())
    if missing:
        state = f"needs {', '.join(missing)}"
        return Diagnosis(backend.NAME, False, text, False, state, install_line(backend.EXTRA))
    try:
        return Diagnosis(backend.NAME, True, text, True, _try(backend), "")
    except MfsError as exc:
        return Diagnosis(backend.NAME, True, text, False, exc.message, exc.hint or REINSTALL)
    except (ImportError, OSError) as exc:  # an installed package that does not load
        return Diagnosis(backend.NAME, True, text, False, str(exc).splitlines()[0] if str(exc) else repr(exc), REINSTALL)


def _try(backend: Backend) -> str:
    """Convert and run a network of random weights, and describe the result.  Raises what the backend raises."""
    import torch

    from mfs_deploy import architectures
    from mfs_deploy.evaluate.reference import run_pytorch

    torch.manual_seed(0)
    net = architectures.get(ARCH).blank().eval()
    cases = [parity.noise_case(SIZE)]
    targets = parity.inputs(cases)
    recipe = recipes.load(RECIPE)
    with launch.scratch() as scratch:
        job = Job(backend=backend.NAME, arch=ARCH, size=SIZE, recipe=asdict(recipe), convert=True)
        (done,) = launch.run([job], targets, scratch, weights=net.state_dict())
    outputs = {backend.NAME: parity.Outputs.of(done.outputs, pixels=done.result.pixels)}
    report = parity.judge(outputs, cases, run_pytorch(net, targets), {backend.NAME: recipe}, None)
    if report.violations:
        raise report.error(hint=REINSTALL)
    psnr_db = report.measured[backend.NAME][0].swapped_psnr_db
    return f"yes, {done.result.convert_s:.0f} s, {psnr_db:.0f} dB ({done.result.runtime})"
