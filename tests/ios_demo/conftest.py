"""The iOS app's files, and a fresh bundle to hold them against.  No Swift compiler runs here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

APP = Path(__file__).parents[2] / "ios_demo"


@pytest.fixture(scope="session")
def sources() -> dict[str, Any]:
    """File name to each Swift file, parsed.  Skipped, with the reason, without tree-sitter-swift."""
    for module in ("tree_sitter", "tree_sitter_swift"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install -c constraints.txt -e '.[dev]'")
    from testing.swift_source import Source

    found = [Source.read(path) for path in sorted(APP.rglob("*.swift"))]
    assert len({source.name for source in found}) == len(found) > 20
    return {source.name: source for source in found}


@pytest.fixture(scope="session")
def app(sources) -> dict[str, str | int | float]:
    """The one file of what the app takes for granted."""
    return sources["AppContract.swift"].constants()


@pytest.fixture(scope="session")
def bundle(artifact, contract, crop, expected, once) -> Path:
    """A bundle in Core ML, freshly converted, with its reference tensors."""
    import numpy as np

    from mfs_deploy.evaluate import parity
    from testing import core_bundles

    def make(folder: Path) -> None:
        (folder / "fresh").mkdir()
        pixels = np.ascontiguousarray(np.rint(crop[0].transpose(1, 2, 0) * 255).astype(np.uint8))
        cases = [parity.Case("target", pixels)]
        core_bundles.write(folder / "fresh", contract, {"coreml": artifact("coreml", "fp32")}, cases, parity.Outputs(*expected))

    pytest.importorskip("coremltools")
    return once("ios-bundle", make) / "fresh"


@pytest.fixture(scope="session")
def said(bundle) -> dict[str, Any]:
    """The bundle's manifest."""
    return json.loads((bundle / "manifest.json").read_text("utf-8"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--apple-types", type=Path, help="the package of npm's @nativescript/types-ios, unpacked")
