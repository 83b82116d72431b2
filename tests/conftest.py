"""What most tests start from: the portrait, the stand-in checkpoint of seed 1, its baked network, and the recorded numbers.

The recorded arrays (``golden/``) are what the authors' own code produced, run once under its own framework on the same
stand-in checkpoint and portrait.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden"
SEED = 1


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "upstream_seed1_224.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """The astronaut, (512, 512, 3) uint8 RGB."""
    from mfs_deploy import sample

    return sample.portrait()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder in the published form, seed 1.  Written once, also when several processes test at once."""
    import fcntl

    from mfs_deploy import standin

    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    folder = shared / "checkpoints"
    with open(shared / "checkpoints.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            standin.write(folder, SEED)
            (folder / "complete").touch()
    return folder


@pytest.fixture(scope="session")
def crop(golden: dict[str, np.ndarray]) -> np.ndarray:
    """The aligned portrait as the network takes it, (1, 3, 224, 224) RGB in [0, 1]."""
    from mfs_deploy import images

    return images.to_tensor(np.ascontiguousarray(golden["target_aligned_bgr"][..., ::-1]))


@pytest.fixture(scope="session")
def net(golden: dict[str, np.ndarray]):
    """The baked network of the portrait under seed 1, in eval mode."""
    import torch

    from mfs_deploy import standin
    from mfs_deploy.nets.mobilefaceswap import Generator

    generator = Generator().eval()
    standin.fill(generator, SEED)
    from mfs_deploy.bake import bake, load

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
