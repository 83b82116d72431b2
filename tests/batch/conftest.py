"""Many people, and the bundles of a batch of them that ran undisturbed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from testing import batches


@pytest.fixture(scope="session")
def identities(once, kit) -> Callable[[int], Path]:
    """A number to a folder with so many identity files, ``p000.safetensors`` and on, of people who do not exist.

    Do not write into it.
    """
    import numpy as np

    from mfs_deploy.architectures.mobilefaceswap.architecture import random_identity
    from mfs_deploy.checkpoint import identity_file
    from mfs_deploy.stamping import kit as kits

    encoder = kits.load(kit).encoder_sha256

    def folder(count: int) -> Path:
        def make(folder: Path) -> None:
            for i in range(count):
                person = random_identity(np.random.default_rng(1000 + i))
                identity_file.save(folder / f"p{i:03}.safetensors", person.embedding, person.feature_map, encoder)

        return once(f"identities-{count}", make)

    return folder


@pytest.fixture(scope="session")
def undisturbed(once, small_kit, identities) -> Callable[[int], dict[str, str]]:
    """A number of people to the hashes of their bundles, made by one worker into a folder."""
    from mfs_deploy import cli

    def run(count: int) -> dict[str, str]:
        def make(folder: Path) -> None:
            args = ["--kit", str(small_kit), "--out", str(folder / "out"), "--backends", "onnx", "--workers", "1", "--quiet"]
            assert cli.main(["batch", str(identities(count)), *args]) == 0

        return batches.hashes(once(f"undisturbed-{count}", make) / "out")

    return run


@pytest.fixture(scope="module")
def people(request, identities) -> Path:
    """So many identity files as the test's module says by ``PEOPLE``."""
    return identities(request.module.PEOPLE)


@pytest.fixture(scope="module")
def expected_hashes(request, undisturbed) -> dict[str, str]:
    """Of the bundles of ``people``."""
    return undisturbed(request.module.PEOPLE)
