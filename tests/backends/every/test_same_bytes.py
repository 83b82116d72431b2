"""Every backend keeps layers in float32 when told to, and writes the same bytes in another process."""

from __future__ import annotations

import os
import subprocess
import sys


def test_overflowing_layers_kept_in_float32_make_the_network_right(
    name, backend, float32_island, loud, contract, crop, expected, matches, stored, as_run
):
    path = float32_island(name)
    matches("fp16")(backend.open(path, contract).run(crop), expected)
    info = backend.describe(path)
    assert info.float32_layers == ("encoder_4_1", "mask_0_1", "decoder_0_0")
    assert info.parameters == stored(as_run(loud), ("Encoder.4.1", "mask.0.1", "Decoder.0.0"))


SCRIPT = """
import sys
from pathlib import Path
from safetensors.torch import load_file
from mfs_deploy import architectures
from mfs_deploy.backends.registry import BACKENDS
from mfs_deploy.backends.base import Conversion
from mfs_deploy.graph import simplify
from mfs_deploy.quant import recipes
arch = architectures.get("mobilefaceswap")
graph = simplify(arch.load(load_file(sys.argv[2])))
metadata = {"identity": "Zoë", "recipe": "as asked", "version": "1.2.3"}  # in another order
job = Conversion(graph, arch.INTERFACE.contract(224), recipes.load("fp16"), frozenset(), metadata)
BACKENDS[sys.argv[1]].convert(job, Path(sys.argv[3]))
"""


def test_another_process_writes_the_same_bytes_and_no_progress(name, artifact, files, net, tmp_path):
    from safetensors.torch import save_file

    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    out = tmp_path / "elsewhere"
    out.mkdir()
    seed = "7" if os.environ.get("PYTHONHASHSEED") != "7" else "8"
    command = [sys.executable, "-c", SCRIPT, name, str(tmp_path / "weights.safetensors"), str(out)]
    done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, cwd=tmp_path, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    here = artifact(name, "fp16")
    contents = [{p.relative_to(path.parent): p.read_bytes() for p in files(path)} for path in (here, out / here.name)]
    assert contents[0].keys() == contents[1].keys()
    for file in contents[0]:
        assert contents[0][file] == contents[1][file], file
    assert sorted(p.name for p in tmp_path.iterdir()) == ["elsewhere", "weights.safetensors"]
