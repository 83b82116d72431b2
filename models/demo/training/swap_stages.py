"""The swap network's stages: fixed depthwise kernels first, then the predictor is fitted to them, then all of the generator.

To predict depthwise kernels from the start is slow: with fixed kernels and styles alone as much is learned in a third of the time,
and the published predictor learns to give those kernels in half a minute.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mfs_deploy.architectures.mobilefaceswap.generator import DECODER_IN, ENCODER, Generator, PredictedWeights
from mfs_deploy.bundle.provenance import weights_sha256
from mfs_deploy.files import replacing
from models.demo.training import losses, state
from models.demo.training.channel_sizes import Sizes
from models.demo.training.reader import FaceReader, as_read
from models.demo.training.samples import Samples
from models.demo.training.state import State

STYLES, BRANCHES = 8.0, 6.0  # learning rates over the other tensors': narrow, and slow to learn
IDENTITY_FROM = 1_000  # step of the first stage: features must be there before they can be read
HELD_OUT_EVERY = 1_000  # steps
CODES_AT_ONCE = 128
MAP_RATE = 2e-3
FIT_BATCH, SETTLE_BATCH, SETTLE_PASSES = 2, 16, 80


class Kernels(nn.Module):
    """Depthwise kernels of each stage as plain parameters: the same for everyone."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [(width, 4) for width in ENCODER[:-1]] + [(width, 3) for width in DECODER_IN]
        self.stages = nn.ParameterList(nn.Parameter(torch.randn(width, k, k)) for width, k in sizes)


class Swapper(nn.Module):
    """A generator on its way: ``kernels`` in place of its predictor while there are any."""

    def __init__(self, reader: FaceReader, kernels: Kernels | None) -> None:
        super().__init__()
        self.reader, self.kernels, self.generator, self.sizes = reader, kernels, Generator(), Sizes()
        losses.start_generator(self.generator)

    def forward(self, code: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Swapped (N, 3, S, S) and mask (N, 1, S, S) of (N, D) numbers and (N, 3, S, S) targets."""
        embedding, feature_map = self.reader.express(code)
        return self.generator.swap(self._weights(embedding, feature_map), target, self.sizes)

    def _weights(self, embedding: Tensor, feature_map: Tensor) -> PredictedWeights:
        if self.kernels is None:
            predicted: PredictedWeights = self.generator(embedding, feature_map)
            return predicted
        depthwise = tuple(k.expand(len(embedding), *k.shape) for k in self.kernels.stages)
        modulations = chain(self.generator.EncoderModulation, self.generator.DecoderModulation)
        return PredictedWeights(depthwise, tuple(m(embedding) for m in modulations))

    def nets(self) -> dict[str, nn.Module]:
        return {name: net for name, net in self.named_children() if net is not None}

    def groups(self, rate: float) -> list[dict[str, object]]:
        g = self.generator
        modulations = [*g.EncoderModulation, *g.DecoderModulation]
        styles = [p for m in modulations for p in m.style.parameters()]
        own = [m.weight for m in modulations]
        own += [*(self.kernels.parameters() if self.kernels is not None else g.predictor.parameters())]
        branches = [*g.final.parameters(), *g.mask.parameters()]
        groups = [*state.relative(own, rate), *state.relative(styles, STYLES * rate), *state.relative(branches, BRANCHES * rate)]
        if self.kernels is None:
            groups.append({"params": self.reader.map_parameters(), "lr": MAP_RATE})
        return groups


def train(run: Path, settings: state.Settings, start: Path | None, reader_state: Path, data: Samples, held: Samples) -> None:
    """One stage, from the weights of the stage ``start``; its kernels stay fixed unless the stage is ``whole``."""
    torch.manual_seed(1)
    judge = open_reader(reader_state, data).to(state.device())
    net = Swapper(open_reader(reader_state, data), None if settings.stage == "whole" else Kernels()).to(state.device())
    for parameter in net.reader.parameters():
        parameter.requires_grad_(False)
    for parameter in net.reader.map_parameters():
        parameter.requires_grad_(settings.stage == "whole")
    if start is not None:
        state.load_nets(start, net.nets())
    optimiser = torch.optim.Adam(net.groups(settings.rate), fused=True)
    path = run / f"{settings.stage}.pt"
    now = State(settings, net.nets(), optimiser).resume(path)
    codes, held_codes = (_codes(judge, samples) for samples in (data, held))
    for step in state.steps_of(now, path):
        net.train()
        net.reader.eval()
        rows = torch.randint(len(data), (settings.batch,), generator=torch.Generator().manual_seed(step))
        mirrored = step % 2 == 1
        target, result, mask = (t.to(state.device()) for t in data.take(rows, ("target", "result", "mask"), mirrored=mirrored))
        made, made_mask = net(codes[int(mirrored), rows].to(state.device()), target)
        likeness = alike(judge, made, result) if start is not None or step >= IDENTITY_FROM else None
        parts = losses.swap(made, made_mask, result, mask, likeness)
        state.descend(optimiser, parts["loss"], state.schedule(step, settings.steps))
        if step % state.LOG_EVERY == 0:
            inside = losses.psnr_inside_db(made.detach(), result, mask).mean()
            state.log(run / f"log-{settings.stage}.csv", {"step": step, "psnr_db": inside.item(), **_items(parts)})
        if (step + 1) % HELD_OUT_EVERY == 0 or step + 1 == settings.steps:
            row = measure(net, judge, held, held_codes)
            state.log(run / f"held-out-{settings.stage}.csv", {"step": step + 1, **row})
            click.echo(f"{settings.stage} {step + 1}: " + ", ".join(f"{k} {v:.3f}" for k, v in row.items()), err=True)


def fit(run: Path, start: Path, reader_state: Path, data: Samples, settings: state.Settings) -> None:
    """Have the predictor give the fixed kernels, for everyone alike: the map is its position alone."""
    torch.manual_seed(1)
    fixed, net = Swapper(open_reader(reader_state, data), Kernels()), Swapper(open_reader(reader_state, data), None)
    state.load_nets(start, fixed.nets())
    state.load_nets(start, net.nets())
    assert fixed.kernels is not None
    sizes = [kernel.detach().square().mean().sqrt() for kernel in fixed.kernels.stages]
    kernels = [kernel.detach() / size for kernel, size in zip(fixed.kernels.stages, sizes, strict=True)]
    predictor, position = net.generator.predictor, net.reader.position.detach()
    optimiser = torch.optim.Adam(state.relative(predictor.parameters(), settings.rate), fused=True)
    now = State(settings, net.nets(), optimiser).resume(run / "fit.pt")
    if now.is_done:
        return
    for step in range(settings.steps):
        given = predictor(position.expand(settings.batch, -1, -1, -1))
        errors = torch.stack([(a - b).square().mean() for a, b in zip(given, kernels, strict=True)])
        state.descend(optimiser, errors.sum(), state.schedule(step, settings.steps))
        state.log(run / "log-fit.csv", {"step": step, "largest": errors.max().item(), "mean": errors.mean().item()})
    with torch.no_grad():
        for _ in range(SETTLE_PASSES):  # BatchNorm's running averages
            predictor(position.expand(SETTLE_BATCH, -1, -1, -1))
        nn.init.zeros_(net.reader.project.weight)
        nn.init.zeros_(net.reader.project.bias)
        for squares, size in zip(net.sizes.squares, sizes, strict=True):  # they are those of kernels of another size
            squares.div_(size.square())
    now.step = settings.steps
    now.save(run / "fit.pt")


def open_reader(path: Path, data: Samples) -> FaceReader:
    reader = FaceReader(data.numbers.shape[2])
    state.load_nets(path, {"reader": reader})
    return reader.eval().requires_grad_(False)


def alike(judge: FaceReader, made: Tensor, result: Tensor) -> Tensor:
    """(N,) cosine of the numbers that are read off the two."""
    with torch.no_grad():
        right = judge.read(as_read(result))
    return F.cosine_similarity(judge.read(as_read(made)), right)


@torch.no_grad()
def measure(net: Swapper, judge: FaceReader, held: Samples, codes: Tensor) -> dict[str, float]:
    """Means over held-out samples; an identity is right where the result is nearer to the source than to the target."""
    net.eval()
    rows: list[Tensor] = []
    for index in torch.arange(len(held)).split(16):
        source, target, result, mask = (t.to(state.device()) for t in held.take(index, ("source", "target", "result", "mask")))
        made, made_mask = net(codes[0, index].to(state.device()), target)
        numbers = [judge.read(as_read(image)) for image in (source, target, made, result)]
        right, true_right = (
            (F.cosine_similarity(numbers[i], numbers[0]) > F.cosine_similarity(numbers[i], numbers[1])).float() for i in (2, 3)
        )
        both = ((made_mask > 0.5) & (mask > 0.5)).sum(dim=(1, 2, 3)) / ((made_mask > 0.5) | (mask > 0.5)).sum(dim=(1, 2, 3))
        inside = [losses.psnr_inside_db(image, result, mask) for image in (made, target)]
        rows.append(torch.stack([*inside, right, true_right, both.float()], 1))
    names = ("psnr_db", "untouched_db", "identity_right", "truth_right", "mask_iou")
    return dict(zip(names, torch.cat(rows).mean(0).tolist(), strict=True))


@torch.no_grad()
def _codes(reader: FaceReader, samples: Samples) -> Tensor:
    """(2, N, D) numbers read off the sources and off their mirror images, kept beside the samples."""
    key = weights_sha256({name: tensor.cpu() for name, tensor in reader.state_dict().items()})
    path = samples.folder / f"codes-{key[:16]}.npy"
    if not path.exists():
        both = []
        for mirrored in (False, True):
            parts = torch.arange(len(samples)).split(CODES_AT_ONCE)
            faces = (samples.take(rows, ("source",), mirrored=mirrored)[0].to(state.device()) for rows in parts)
            both.append(torch.cat([reader.read(face).cpu() for face in faces]))
        with replacing(path) as temporary:
            np.save(temporary, torch.stack(both).numpy())
    with state.refusing(path):
        codes = torch.from_numpy(np.load(path, allow_pickle=False))
        if codes.shape != samples.numbers.shape or not torch.isfinite(codes).all():
            raise ValueError(f"codes of shape {tuple(codes.shape)}")
        return codes


def _items(parts: dict[str, Tensor]) -> dict[str, float]:
    return {"identity": float("nan"), **{name: part.item() for name, part in parts.items()}}
