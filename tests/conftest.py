"""What most tests start from: the portrait, the stand-in checkpoint of seed 1, its baked network, and the recorded numbers.

The recorded arrays (``golden/``) are what the authors' own code produced, run once under its own framework on the same
stand-in checkpoint and portrait.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

USERS_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "mfs-deploy")  # before tests hide it
METADATA = {"version": "1.2.3", "recipe": "as asked", "identity": "Zoë"}
LONGEST = {"android_demo", "arm64", "batch", "commands", "every", "export", "mobile_core", "packaging", "report", "tflite"}

pytest_plugins = ["testing.verbs"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: one that starts last runs on while the other process has nothing left to do."""
    items.sort(key=lambda item: item.path.parent.name not in LONGEST)


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    from testing.standin import GOLDEN

    with np.load(GOLDEN / "upstream_seed1_224.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """The astronaut, (512, 512, 3) uint8 RGB."""
    from mfs_deploy.faces.portrait import read_portrait

    return read_portrait()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder of this run of the tests, the same for all its processes."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session", autouse=True)
def cache_home(shared: Path) -> Iterator[Path]:
    """So that templates are built once a run, and the user's own cache is neither read nor written.

    Two processes may still build the same one at once; it is put in place whole, so that costs time only.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(shared / "cache"))
        yield shared / "cache"


@pytest.fixture(scope="session")
def once(shared: Path) -> Callable[[str, Callable[[Path], object]], Path]:
    """A name, and what fills a new folder, to that folder: filled once, also when several processes test at once."""
    import fcntl

    def fill(name: str, make: Callable[[Path], object]) -> Path:
        with open(shared / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / f"{name}.complete").exists():
                shutil.rmtree(shared / name, ignore_errors=True)  # of an earlier failure
                (shared / name).mkdir()
                make(shared / name)
                (shared / f"{name}.complete").touch()
        return shared / name

    return fill


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


@pytest.fixture
def mfs(capfd) -> Callable[..., Ran]:
    """``mfs VERB ARGS...`` in this process."""

    def run(*args: object) -> Ran:
        from mfs_deploy import cli

        capfd.readouterr()
        code = cli.main([str(a) for a in args])
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def kept(cache_home: Path, once: Callable[[str, Callable[[Path], object]], Path]) -> Callable[[str], Path]:
    """The name of a part of the cache to its folder, which is the user's own: what takes minutes to make is kept between runs."""

    def link(name: str) -> Path:
        place = cache_home / "mfs-deploy" / name

        def make(_: Path) -> None:
            (USERS_CACHE / name).mkdir(parents=True, exist_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(USERS_CACHE / name)

        once(f"kept-{name}", make)
        return place

    return link


@pytest.fixture(scope="session")
def environment(kept: Callable[[str], Path], once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The folder of the emulated phone, half a minute and a hundred megabytes.  Skipped only where the machine cannot have one."""
    from mfs_deploy.devices.arm64 import machine, setup

    try:
        setup.check()
    except machine.NotSetUp as exc:
        pytest.skip(exc.message)
    kept("arm64")
    once("arm64", lambda _: setup.setup())
    return machine.folder()


@pytest.fixture(scope="session")
def checkpoint(once) -> Path:
    """A folder in the published form, seed 1."""
    from testing import standin

    return once("checkpoints", lambda folder: standin.write(folder, standin.SEED))


@pytest.fixture(scope="session")
def crop(golden: dict[str, np.ndarray]) -> np.ndarray:
    """The aligned portrait as the network takes it, (1, 3, 224, 224) RGB in [0, 1]."""
    from mfs_deploy.faces import pixels

    return pixels.to_tensor(np.ascontiguousarray(golden["target_aligned_bgr"][..., ::-1]))


@pytest.fixture(scope="session")
def net(golden: dict[str, np.ndarray]):
    """The baked network of the portrait under seed 1, in eval mode."""
    import torch

    from mfs_deploy.architectures.mobilefaceswap.generator import Generator
    from testing import standin

    generator = Generator().eval()
    standin.fill(generator, standin.SEED)
    from mfs_deploy.architectures.mobilefaceswap.bake import bake, load

    return load(bake(generator, torch.tensor(golden["identity_embedding"]), torch.tensor(golden["identity_feature_map"])))


@pytest.fixture(scope="session")
def graph(net):
    """The simplified graph of ``net``."""
    from mfs_deploy.graph import simplify

    return simplify(net)


@pytest.fixture(scope="session")
def expected(net, crop) -> tuple[np.ndarray, np.ndarray]:
    """What PyTorch makes of ``crop``: swapped (1, 3, 224, 224) and mask (1, 1, 224, 224)."""
    import torch

    with torch.inference_mode():
        swapped, mask = net(torch.from_numpy(crop))
    return swapped.numpy(), mask.numpy()


@pytest.fixture(scope="session")
def demo_bundle(once) -> Path:
    """The demo's bundle of all backends with all defaults, as ``make demo`` makes it.  Do not write into it."""
    from mfs_deploy import cli

    def make(folder: Path) -> None:
        assert cli.main(["export", "--checkpoint", "demo", "--source", "demo", "--out", str(folder / "demo"), "--quiet"]) == 0

    return once("demo-bundle", make) / "demo"


# ---- artifacts


@pytest.fixture(scope="session")
def contract():
    """The interface of the network at 224."""
    from mfs_deploy import architectures

    return architectures.interface("mobilefaceswap").contract(224)


@pytest.fixture(scope="session")
def new_artifact(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A backend's name, a graph and a recipe's name to the path of a new artifact, with ``METADATA``."""
    from mfs_deploy import architectures
    from mfs_deploy.backends.base import Conversion
    from mfs_deploy.backends.registry import BACKENDS
    from mfs_deploy.quant import recipes

    def run(backend: str, network, recipe: str, keep=(), size: int = 224, coreml_io: str = "image", into: Path | None = None):
        folder = tmp_path_factory.mktemp(backend) if into is None else into
        contract = architectures.interface("mobilefaceswap").contract(size)
        job = Conversion(network, contract, recipes.load(recipe), frozenset(keep), METADATA, coreml_io)
        BACKENDS[backend].convert(job, folder)
        return folder / BACKENDS[backend].FILES[0]

    return run


@pytest.fixture(scope="session")
def lowered(graph, contract, once) -> bytes:
    """``graph`` as TFLite's converter, which takes 15 s, gives it to be finished by a recipe."""
    from mfs_deploy.backends.tflite import backend as tflite

    return (once("lowered", lambda folder: tflite.lower(graph, contract, folder / tflite.FILES[0])) / tflite.FILES[0]).read_bytes()


@pytest.fixture(scope="session")
def artifact(new_artifact, once, graph, contract, request) -> Callable[..., Path]:
    """The names of a backend and a recipe to the path of the artifact of ``graph``, converted once.  Do not write into it.

    tests/backends/every holds its bytes against those of a whole conversion in another process.
    """
    from mfs_deploy.backends.base import Conversion
    from mfs_deploy.backends.registry import BACKENDS
    from mfs_deploy.backends.tflite import backend as tflite
    from mfs_deploy.quant import recipes

    def path(backend: str, recipe: str, **options: str) -> Path:
        def make(folder: Path) -> None:
            if backend == "tflite":
                job = Conversion(graph, contract, recipes.load(recipe), frozenset(), METADATA)
                (folder / tflite.FILES[0]).write_bytes(tflite.finish(request.getfixturevalue("lowered"), job))
            else:
                new_artifact(backend, graph, recipe, into=folder, **options)

        return once("-".join((backend, recipe, *options.values())), make) / BACKENDS[backend].FILES[0]

    return path


@pytest.fixture(scope="session")
def golden_bundle(artifact, contract, net, portrait, once) -> Path:
    """For all that phones run, in float32, with the photo of the recorded numbers and what PyTorch makes of it."""
    import torch

    from mfs_deploy.evaluate import parity
    from mfs_deploy.faces import align
    from mfs_deploy.faces.portrait import LANDMARKS
    from testing import core_bundles

    def make(folder: Path) -> None:
        crop, back = align.align(portrait, LANDMARKS, contract.size)
        cases = [parity.Case("target", crop, portrait, back, LANDMARKS), parity.noise_case(contract.size)]
        with torch.inference_mode():
            swapped, mask = net(torch.from_numpy(parity.inputs(cases)))
        (folder / "golden").mkdir()
        outputs = parity.Outputs(swapped.numpy(), mask.numpy())
        artifacts = {name: artifact(name, "fp32") for name in ("ncnn", "tflite", "coreml")}
        core_bundles.write(folder / "golden", contract, artifacts, cases, outputs)

    return once("bundle-golden", make) / "golden"


# The next three are of the backend that the test's folder is named after.


@pytest.fixture
def convert(new_artifact, request) -> Callable[..., Path]:
    """A graph and a recipe's name to the path of a new artifact."""
    return partial(new_artifact, request.path.parent.name)


@pytest.fixture
def fp32(artifact, request) -> Path:
    return artifact(request.path.parent.name, "fp32")


@pytest.fixture
def fp16(artifact, request) -> Path:
    return artifact(request.path.parent.name, "fp16")


@pytest.fixture(scope="session")
def loud(graph):
    """The same function as ``graph``, but the bottleneck's values and a weight are beyond what float16 holds."""
    import copy

    import torch

    loud = copy.deepcopy(graph)
    with torch.no_grad():
        for name, factor in (("Encoder.4.1", 2.0**18), ("mask.0.1", 2.0**-18), ("Decoder.0.0", 2.0**-18)):
            loud.get_submodule(name).weight *= factor
    return loud


@pytest.fixture(scope="session")
def float32_island(new_artifact, loud, crop) -> Callable[[str], Path]:
    """The name of a backend to the path of a new float16 artifact of ``loud``, with what ``scan`` finds kept in float32."""
    from mfs_deploy.quant.float16_headroom import scan

    keep = scan(loud, crop).keep_float32
    assert keep == {"encoder_4_1", "leaky_relu_4", "interpolate", "mask_0_1", "decoder_0_0"}
    return lambda backend: new_artifact(backend, loud, "fp16", keep, coreml_io="tensor")
