"""The same network gives the same bytes, in another process and another folder, with nothing of the machine in them."""

from __future__ import annotations

import getpass
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = """
import sys, pathlib, torch
from mfs_deploy import architecture
from mfs_deploy.backends import coreml
from mfs_deploy.backends.base import Conversion
from mfs_deploy.bake import load
from mfs_deploy.graph import simplify
from mfs_deploy.quant import recipe

graph = simplify(load(torch.load(sys.argv[1], weights_only=True)))
contract = architecture.get("mobilefaceswap").contract(224)
metadata = {"identity": "portrait", "version": "1.2.3"}  # the other order
coreml.convert(Conversion(graph, contract, recipe.load("fp16"), metadata=metadata), pathlib.Path(sys.argv[2]))
"""


def contents(package: Path) -> dict[str, bytes]:
    return {str(p.relative_to(package)): p.read_bytes() for p in sorted(package.rglob("*")) if p.is_file()}


@pytest.mark.slow  # imports torch and coremltools a second time
def test_two_processes_write_the_same_bytes(convert, net, tmp_path):
    torch.save(net.state_dict(), tmp_path / "net.pt")
    here = os.environ.get("PYTHONHASHSEED", "random")
    environment = os.environ | {"PYTHONHASHSEED": "1" if here != "1" else "2", "OMP_NUM_THREADS": "1"}
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "net.pt"), str(other)], check=True, env=environment, timeout=300)
    first, second = contents(convert("fp16", "image")), contents(other / "swap.mlpackage")
    assert first.keys() == second.keys()
    for name in first:
        assert first[name] == second[name], name


def test_no_date_path_or_name_of_this_machine(convert):
    from datetime import date

    host = platform.node()
    strangers = [str(date.today()), "conversion_date", "/tmp", "/home", str(Path.home()), str(Path.cwd())]
    # Short names occur by chance in weights.
    strangers += [name for name in (getpass.getuser(), host) if len(name) > 5]
    for recipe in ("fp16", "fp32"):
        for name, data in contents(convert(recipe, "image")).items():
            for word in strangers:
                assert word.encode() not in data, (name, word)
