"""Our backends keep the contract that other packages' backends are held to."""

from __future__ import annotations

from testing.backend_contract import check_backend


def test_the_contract_is_kept(name, tmp_path):
    check_backend(name, tmp_path)
