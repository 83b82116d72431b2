"""Train a reader of faces by plain regression: on photos, on results (whose face is the source's) and on targets."""

from __future__ import annotations

from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from models.demo.training import state
from models.demo.training.reader import FaceReader, as_read
from models.demo.training.samples import Samples, number_names

SHARES = {"source": 1 / 3, "result": 5 / 12, "target": 1 / 4}  # of a batch
HELD_OUT_EVERY = 500  # steps


def train(run: Path, settings: state.Settings, data: Samples, held: Samples, widths: float = 1.0) -> None:
    torch.manual_seed(0)
    reader = FaceReader(data.numbers.shape[2], widths).to(state.device())
    optimiser = torch.optim.AdamW(reader.parameters(), settings.rate, weight_decay=1e-2, fused=True)
    path = run / f"{settings.stage}.pt"
    now = state.State(settings, {"reader": reader}, optimiser).resume(path)
    for step in state.steps_of(now, path):
        reader.train()
        generator = torch.Generator().manual_seed(step)
        faces, numbers = [], []
        for name, share in SHARES.items():
            rows = torch.randint(len(data), (round(share * settings.batch),), generator=generator)
            faces.append(as_read(data.take(rows, (name,), mirrored=step % 2 == 1)[0]))
            numbers.append(data.numbers[int(name == "target"), rows])
        loss = F.smooth_l1_loss(reader.read(torch.cat(faces).to(state.device())), torch.cat(numbers).to(state.device()))
        state.descend(optimiser, loss, state.schedule(step, settings.steps))
        if step % state.LOG_EVERY == 0:
            state.log(run / f"log-{settings.stage}.csv", {"step": step, "loss": loss.item()})
        if (step + 1) % HELD_OUT_EVERY == 0 or step + 1 == settings.steps:
            row, by_name = measure(reader, held)
            state.log(run / f"held-out-{settings.stage}.csv", {"step": step + 1, **row, **by_name})
            click.echo(f"{settings.stage} {step + 1}: " + ", ".join(f"{k} {v:.3f}" for k, v in row.items()), err=True)


@torch.no_grad()
def measure(reader: FaceReader, held: Samples) -> tuple[dict[str, float], dict[str, float]]:
    """R2 of the numbers read off held-out photos, mean and by number, and how often a true result is nearer to its source."""
    reader.eval()
    read: dict[str, Tensor] = {}
    for name in SHARES:
        parts = torch.arange(len(held)).split(64)
        read[name] = torch.cat([reader.read(as_read(held.take(rows, (name,))[0]).to(state.device())).cpu() for rows in parts])
    numbers = held.numbers[0]
    r2 = 1 - (read["source"] - numbers).square().mean(0) / numbers.var(0).clamp_min(1e-6)
    nearer = F.cosine_similarity(read["result"], read["source"]) > F.cosine_similarity(read["result"], read["target"])
    row = {"r2": r2.mean().item(), "truth_right": nearer.float().mean().item()}
    return row, dict(zip(number_names(), r2.tolist(), strict=True))
