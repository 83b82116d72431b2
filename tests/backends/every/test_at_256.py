"""Every backend's artifact of another size than the usual 224 computes what PyTorch computes."""

from __future__ import annotations

import torch

from mfs_deploy import architectures, metrics
from mfs_deploy.graph.cost import cost


def test_artifact_matches_pytorch_at_256(name, backend, graph, new_artifact, noise, matches, as_run):
    """In fp32, whose bounds are the tightest; tests/commands has float16 at 256, of the other architecture."""
    path = new_artifact(name, graph, "fp32", size=256, coreml_io="tensor")
    target, wanted = noise(256)
    matches("fp32")(backend.open(path, architectures.interface("mobilefaceswap").contract(256)).run(target), wanted)
    assert backend.describe(path).macs == cost(as_run(graph), 256).macs
    with torch.inference_mode():
        after = graph(torch.from_numpy(target))[0].numpy()
    assert metrics.max_error(after, wanted[0]) < 1e-5  # the conversion left the graph alone
