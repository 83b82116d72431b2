"""A detector of SCRFD's form as README.md has it converted: PyTorch to ONNX to ncnn by pnnx, and on the phone the same faces.

The authors' weights are not here; these are random.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from mfs_deploy.faces import detectors
from testing import core_library

README = Path(__file__).parents[2] / "mobile_core" / "README.md"


@pytest.fixture(scope="module")
def onnx(tmp_path_factory) -> Path:
    """Backbone, a pyramid of three strides, and for each a head that ends in rows over cells and anchors."""
    import torch
    from torch import nn

    def block(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
        layer = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False, groups=groups)
        return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())

    class Head(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.stem = nn.Sequential(block(width, width, groups=width), nn.Conv2d(width, width, 1), nn.ReLU())
            self.outputs = nn.ModuleList(nn.Conv2d(width, 2 * values, 3, padding=1) for values in (1, 4, 10))
            self.scale = nn.Parameter(torch.tensor(1.5))

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            x = self.stem(x)
            maps = [output(x) for output in self.outputs]
            maps[1] = maps[1] * self.scale
            rows = [m.permute(0, 2, 3, 1).reshape(-1, values) for m, values in zip(maps, (1, 4, 10), strict=True)]
            return [rows[0].sigmoid(), *rows[1:]]

    class Net(nn.Module):
        def __init__(self, width: int = 16) -> None:
            super().__init__()
            self.stem = nn.Sequential(block(3, width, 2), nn.MaxPool2d(2, 2))
            self.stages = nn.ModuleList(block(width, width, 2) for _ in range(3))
            self.sides = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(3))
            self.heads = nn.ModuleList(Head(width) for _ in range(3))

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            x = self.stem(x)
            levels = []
            for stage, side in zip(self.stages, self.sides, strict=True):
                x = stage(x)
                levels.append(side(x))
            for i in (1, 0):
                levels[i] = levels[i] + nn.functional.interpolate(levels[i + 1], scale_factor=2.0, mode="nearest")
            found = [head(level) for head, level in zip(self.heads, levels, strict=True)]
            return [outputs[i] for i in range(3) for outputs in found]

    torch.manual_seed(7)
    net = Net().eval()
    with torch.no_grad():
        for head in net.heads:
            head.outputs[0].weight *= 40  # scores that differ
            head.outputs[2].weight *= 10
            head.outputs[1].bias.fill_(2.0)
    path = tmp_path_factory.mktemp("scrfd") / "scrfd.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.rand(1, 3, 320, 320),), path, dynamo=False, input_names=["input.1"])
    return path


@pytest.fixture(scope="module")
def converted(onnx) -> Path:
    """By the lines of the README, word for word."""
    section = README.read_text("utf-8").split("## A face detector")[1].split("##")[0]
    lines = re.findall(r"^    (.*)$", section, re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["pnnx", "mkdir", "sed"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where pip puts pnnx
    script = "\n".join(lines)
    subprocess.run(["sh", "-ec", script], cwd=onnx.parent, env={**os.environ, "PATH": path}, check=True, capture_output=True)
    return onnx.parent / "detector"


@pytest.mark.parametrize("crop", [(slice(0, 320), slice(0, 320)), (slice(0, 500), slice(100, 300)), (slice(0, 512), slice(0, 512))])
def test_the_phone_finds_the_face_that_the_exporter_finds(library, golden_bundle, onnx, converted, portrait, crop):
    upright = np.ascontiguousarray(portrait[crop])
    best = detectors.open_detector(onnx).detect(upright)[0]
    session = library.session()
    session.load(golden_bundle, "ncnn", detector=converted)
    result = session.swap(core_library.frame([upright.copy()], "RGB"), None)
    assert result.swapped == 1
    np.testing.assert_allclose(np.array(result.landmarks).reshape(5, 2), best.landmarks, atol=1.0)
