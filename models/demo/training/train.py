"""Train the demo weights on rendered triplets: first the identity encoder, then generator and baked network end to end.

    python -m models.demo.training.train encoder --run RUN --steps 2600
    python -m models.demo.training.train swap --run RUN --steps 4400
    python -m models.demo.training.train ship --run RUN --out models/demo/weights

RUN keeps the state (a stopped run goes on where it was), ``log-*.csv`` and the rendered samples.  CPU or CUDA.  A ``swap`` at a
smaller ``--size`` first is where a larger one begins.
"""

from __future__ import annotations

import contextlib
import csv
import ctypes
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mfs_deploy import files
from mfs_deploy.architectures.mobilefaceswap.generator import Generator
from mfs_deploy.architectures.mobilefaceswap.small_encoder import EMBEDDING, SmallEncoder
from mfs_deploy.demo.rendering import triplets
from mfs_deploy.demo.rendering.people import People
from models.demo.training import losses
from models.demo.training.channel_sizes import Sizes

SAVE_EVERY = 100  # steps
LOG_EVERY = 20
BRANCHES = 6.0  # their learning rate over the predictors': they are narrow and slow to learn
IDENTITY_EVERY = 2  # steps: to judge it takes a tenth of one
FACES = 500_000  # first seed of the encoder's triplets
CLIP = 5.0  # largest norm of a gradient
SMALLEST = 0.02  # size that a bias is taken to have at least: many begin at zero


@dataclass
class State:
    """What a stopped run needs to go on."""

    step: int
    nets: dict[str, nn.Module]
    optimiser: torch.optim.Optimizer

    def save(self, path: Path) -> None:
        temporary = path.with_suffix(".tmp")
        nets = {name: net.state_dict() for name, net in self.nets.items()}
        torch.save({"step": self.step, "nets": nets, "optimiser": self.optimiser.state_dict()}, temporary)
        temporary.rename(path)

    def load(self, path: Path) -> None:
        saved = torch.load(path, weights_only=True)
        self.step = saved["step"]
        for name, net in self.nets.items():
            net.load_state_dict(saved["nets"][name])
        self.optimiser.load_state_dict(saved["optimiser"])


@click.group()
def main() -> None:
    """Train the demo weights."""
    keep_memory()


def keep_memory() -> None:
    """Have the C library reuse freed memory: giving it back and asking again cost a third of a step on two cores."""
    with contextlib.suppress(AttributeError, OSError):  # glibc alone has it
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 1 << 28)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            mallopt(option, value)


def run_option(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--run", type=click.Path(path_type=Path), required=True, help="Folder of the run.")(command)
    return click.option("--steps", type=int, required=True, help="Steps in all, those of an earlier start included.")(command)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


# The identity encoder


@main.command()
@run_option
@click.option("--batch", type=int, default=16, show_default=True, help="Triplets in a batch.")
@click.option("--shards", type=int, default=128, show_default=True, help="Shards of triplets to render and go through.")
def encoder(run: Path, steps: int, batch: int, shards: int) -> None:
    """Contrast faces: the result of a swap must be nearer to its source than to the target it was made from.

    That target shares head, scene and light with the result, so they cannot be what a person is known by.  A linear head beside the
    encoder reads the face's own parameters off the embedding: without it contrast alone starts slowly.
    """
    torch.manual_seed(0)
    run.mkdir(parents=True, exist_ok=True)
    numbers = face_numbers([triplets.people(seed) for seed in range(FACES, FACES + shards)]).to(device())
    net, head = SmallEncoder().to(device()), nn.Linear(EMBEDDING, numbers.shape[2]).to(device())
    optimiser = torch.optim.AdamW([*net.parameters(), *head.parameters()], 2e-3, weight_decay=1e-2, fused=True)
    state = resume(run / "encoder.pt", State(0, {"encoder": net, "head": head}, optimiser))
    samples = batches(run / "samples", shards, triplets.SOURCE_SIZE, batch, state.step, seed=FACES)
    for step in steps_of(state, steps, run / "encoder.pt"):
        net.train()
        rows, sample = next(samples)
        source, target, result, _ = _turned(sample.floats(device()), step)
        embedding, _ = net(torch.cat([source, result, target]))
        sources, targets = numbers[:, rows]
        parts = losses.identity(embedding, head(10 * embedding), torch.cat([sources, sources, targets]))
        descend(optimiser, parts["loss"], schedule(step, steps), net, head)
        if step % LOG_EVERY == 0:
            log(run / "log-encoder.csv", {"step": step, **{k: v.item() for k, v in parts.items()}})


def face_numbers(shards: list[tuple[People, People]]) -> Tensor:
    """(2, N, D) what makes the faces of sources and targets, each number with mean 0 and deviation 1 over the sources."""
    names = [f.name for f in fields(People)]
    own = names[names.index("skin") :]
    own.remove("texture")  # where in the noise atlas the skin lies: nothing that can be read off

    def values(faces: People) -> Tensor:
        return torch.cat([getattr(faces, name).float().reshape(len(faces), -1) for name in own], 1)

    both = torch.stack([torch.cat([values(shard[i]) for shard in shards]) for i in range(2)])
    return (both - both[0].mean(0)) / both[0].std(0).clamp_min(1e-6)


# Generator and baked network


@main.command()
@run_option
@click.option("--size", type=int, default=224, show_default=True, help="Side of the crops: 224, or smaller to begin.")
@click.option("--batch", type=int, default=8, show_default=True)
@click.option("--rate", type=float, default=0.01, show_default=True, help="Peak learning rate, over a tensor's size.")
@click.option("--shards", type=int, default=160, show_default=True, help="Shards of samples to render and go through.")
def swap(run: Path, steps: int, size: int, batch: int, rate: float, shards: int) -> None:
    """Train to give the exact result of the swap; at a larger size from the weights of the smaller."""
    torch.manual_seed(1)
    face = SmallEncoder().to(device())
    face.load_state_dict(torch.load(run / "encoder.pt", weights_only=True)["nets"]["encoder"])
    face.eval().requires_grad_(False)  # stays as it is: a judge of identity must not be trained by what it judges
    generator = Generator().to(device())
    losses.start_generator(generator)
    sizes = Sizes().to(device())
    branches = [*generator.final.parameters(), *generator.mask.parameters()]
    predictors = [
        *generator.predictor.parameters(),
        *generator.EncoderModulation.parameters(),
        *generator.DecoderModulation.parameters(),
    ]
    nets: dict[str, nn.Module] = {"generator": generator, "sizes": sizes, "encoder": face}
    begin_from(nets, run, size)
    groups = [*sized(predictors, rate), *sized(branches, BRANCHES * rate)]
    state = resume(run / f"swap-{size}.pt", State(0, nets, torch.optim.Adam(groups, fused=True)))
    samples = batches(run / "samples", shards, size, batch, state.step)
    for step in steps_of(state, steps, run / f"swap-{size}.pt"):
        source, target, result, mask = _turned(next(samples)[1].floats(device()), step)
        embedding, feature_map = face(source)
        made, made_mask = generator.swap(generator(embedding, feature_map), target, sizes)
        known = losses.known(face, made, embedding) if step % IDENTITY_EVERY == 0 else None
        measured = losses.swap(made, made_mask, result, mask, known)
        descend(state.optimiser, measured["loss"], schedule(step, steps), generator)
        if step % LOG_EVERY == 0:
            log(run / f"log-swap-{size}.csv", {"step": step, **{k: v.item() for k, v in measured.items()}})


def _turned(images: tuple[Tensor, ...], step: int) -> tuple[Tensor, ...]:
    """Every other batch in the mirror, which is as true and twice as many."""
    return tuple(image.flip(3) for image in images) if step % 2 else images


def sized(tensors: Iterable[nn.Parameter], rate: float) -> list[dict[str, Any]]:
    """A group of the optimiser for each tensor, whose learning rate is ``rate`` times the tensor's root mean square.

    Adam moves every number by about the learning rate, whatever its gradient.  Here sizes differ by a thousand: a kernel predictor
    reads 4,608 numbers with weights near 0.001, and at one rate for all a step changed its kernels by more than they were.
    """

    def size(tensor: Tensor) -> float:
        return float(tensor.detach().square().mean().sqrt())

    return [{"params": [t], "lr": rate * (size(t) if t.dim() > 1 else max(size(t), SMALLEST))} for t in tensors]


def begin_from(nets: dict[str, nn.Module], run: Path, size: int) -> None:
    """Load the weights of the size before, if there is one."""
    earlier = [path for path in _stages(run) if path.name != f"swap-{size}.pt"]
    if earlier:
        saved = torch.load(earlier[-1], weights_only=True)
        for name, net in nets.items():
            net.load_state_dict(saved["nets"][name])


def batches(
    folder: Path, shards: int, size: int, batch: int, step: int, seed: int = 0
) -> Iterator[tuple[Tensor, triplets.Triplets]]:
    """Batches without end, from shard after shard, each shuffled; ``step`` tells where a stopped run was.

    With each batch the rows of its samples, counted from the first shard on.
    """
    per_shard = triplets.SHARD // batch
    done = step // per_shard
    while True:
        now = done % shards
        for i, shard in enumerate(triplets.cached(folder, seed + now, shards - now, size)):
            order = torch.randperm(triplets.SHARD, generator=torch.Generator().manual_seed(done))
            for rows in torch.split(order[: per_shard * batch], batch):
                yield (now + i) * triplets.SHARD + rows, shard.take(rows)
            done += 1


@main.command()
@click.option("--run", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write the two files into.")
def ship(run: Path, out: Path) -> None:
    """Write the weights of the last stage as float16 safetensors, and a plot of the logs."""
    saved = torch.load(_stages(run)[-1], weights_only=True)["nets"]
    out.mkdir(parents=True, exist_ok=True)
    generator, sizes, face = Generator(), Sizes(), SmallEncoder()
    for name, part in (("generator", generator), ("sizes", sizes), ("encoder", face)):
        part.load_state_dict(saved[name])
    sizes.fold(generator)
    for net, file in ((generator, "generator"), (face, "identity_encoder")):
        state = {key: value for key, value in net.state_dict().items() if value.is_floating_point()}
        path = out / f"{file}.safetensors"
        save_file({key: value.half().contiguous() for key, value in state.items()}, path)
        click.echo(f'"{path.name}" = "{files.sha256(path)}"')  # for card.toml
    plot(run, run / "training.png")


def plot(run: Path, out: Path) -> None:
    """Every column of the logs of a run over its steps, one panel a log."""
    from matplotlib.figure import Figure

    logs = [run / "log-encoder.csv", *(run / f"log-{stage.stem}.csv" for stage in _stages(run))]
    figure = Figure(figsize=(5 * len(logs), 4), layout="constrained")
    for panel, path in zip(figure.subplots(1, len(logs), squeeze=False)[0], logs, strict=True):
        with open(path, newline="") as f:
            rows = [{key: float(value) for key, value in row.items() if value is not None} for row in csv.DictReader(f)]
        for key in list(rows[0])[1:]:
            measured = [row for row in rows if key in row]  # identity is judged every other step
            panel.plot([row["step"] for row in measured], [row[key] for row in measured], label=key, linewidth=1)
        panel.set(title=path.stem.removeprefix("log-"), xlabel="step", yscale="log")
        panel.legend()
    figure.savefig(out, dpi=80)


def _stages(run: Path) -> list[Path]:
    """The states of the swap, smallest size first."""
    return sorted(run.glob("swap-*.pt"), key=lambda path: int(path.stem.split("-")[1]))


# What both share


def steps_of(state: State, steps: int, path: Path) -> Iterator[int]:
    """Steps left to do, saving on the way and at the end."""
    started = time.monotonic()
    first = state.step
    for step in range(first, steps):
        yield step
        state.step = step + 1
        if state.step % SAVE_EVERY == 0 or state.step == steps:
            state.save(path)
            rate = (time.monotonic() - started) / (state.step - first)
            click.echo(f"step {state.step}/{steps}, {rate:.2f} s a step, {(steps - state.step) * rate / 60:.0f} min left", err=True)


def resume(path: Path, state: State) -> State:
    if path.exists():
        state.load(path)
    return state


def schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate: a short warm-up, then half a cosine."""
    return min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


def descend(optimiser: torch.optim.Optimizer, loss: Tensor, share: float, *nets: nn.Module) -> None:
    for group in optimiser.param_groups:
        group.setdefault("peak", group["lr"])
        group["lr"] = group["peak"] * share
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_([p for net in nets for p in net.parameters()], CLIP)
    optimiser.step()


def log(path: Path, row: dict[str, float]) -> None:
    new = not path.exists()
    with open(path, "a", newline="") as f:
        writer = csv.DictWriter(f, row)
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
