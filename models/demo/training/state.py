"""A run's folder: settings, states and logs.  A stopped stage goes on where it was; a foreign or damaged folder is refused."""

from __future__ import annotations

import contextlib
import csv
import ctypes
import math
import pickle
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from mfs_deploy.files import replacing

FORMAT = "mfs-deploy demo training 2"
SAVE_EVERY_S = 120.0
LOG_EVERY = 50  # steps
CLIP = 5.0  # largest norm of a gradient
SMALLEST = 0.02  # size that a bias is taken to have at least: many begin at zero


@dataclass(frozen=True)
class Settings:
    """Of one stage; a state that was saved under other settings is refused.

    Attributes:
        steps: in all; the learning rate falls over them as half a cosine.
        rate: peak learning rate: of AdamW for the readers, else as a share of each tensor's root mean square.
        data: name of the samples' folder, with its size and number.
    """

    stage: str
    steps: int
    batch: int
    rate: float
    data: str
    size: int
    samples: int


@dataclass
class State:
    """What a stopped stage needs to go on."""

    settings: Settings
    nets: dict[str, nn.Module]
    optimiser: torch.optim.Optimizer
    step: int = 0

    def save(self, path: Path) -> None:
        nets = {name: net.state_dict() for name, net in self.nets.items()}
        content = {"format": FORMAT, "settings": asdict(self.settings), "step": self.step, "nets": nets}
        with replacing(path) as temporary:
            torch.save({**content, "optimiser": self.optimiser.state_dict()}, temporary)

    def resume(self, path: Path) -> State:
        """This state, or the one saved at ``path``, whole.

        Raises:
            click.ClickException: the file is damaged, or not of this stage and these settings.
        """
        if not path.exists():
            return self
        saved = read(path)
        if saved["settings"] != asdict(self.settings):
            other = {k: v for k, v in saved["settings"].items() if v != asdict(self.settings).get(k)}
            raise click.ClickException(f"{path} was begun with other settings ({other}); move it away to begin anew")
        if type(saved["step"]) is not int or not 0 <= saved["step"] <= self.settings.steps:
            raise click.ClickException(f"{path} is damaged: step {saved['step']!r} of {self.settings.steps}; move it away")
        # Held against the networks before any of them is changed, so nothing is resumed in part.
        for name, net in self.nets.items():
            check_arrays(net.state_dict(), saved["nets"].get(name, {}), f"{path}: {name}")
        with refusing(path):
            for name, net in self.nets.items():
                net.load_state_dict(saved["nets"][name])
            self.optimiser.load_state_dict(saved["optimiser"])
        self.step = saved["step"]
        return self

    @property
    def is_done(self) -> bool:
        return self.step == self.settings.steps


def read(path: Path) -> dict[str, Any]:
    """A saved state's content, its form checked.  Raises ClickException."""
    if path.is_symlink() or not path.is_file():
        raise click.ClickException(f"{path} is not a regular file; run the stage that makes it first")
    with refusing(path):
        saved = torch.load(path, weights_only=True, map_location="cpu")
        if not isinstance(saved, dict) or saved.get("format") != FORMAT:
            raise ValueError(f"not a state of {FORMAT!r}")
        if not {"settings", "step", "nets", "optimiser"} <= saved.keys():
            raise ValueError("parts are missing")
        return saved


@contextlib.contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Errors of reading ``path`` as one line that names it."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, AttributeError, pickle.UnpicklingError) as exc:
        first = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise click.ClickException(f"{path} is damaged or foreign: {first}; move it away to begin anew") from exc


def check_arrays(expected: Mapping[str, Tensor], saved: Mapping[str, Tensor], what: str) -> None:
    """Raise ClickException unless names, shapes and types agree and all values are finite."""
    if expected.keys() != saved.keys():
        raise click.ClickException(f"{what}: {sorted(expected.keys() ^ saved.keys())[:3]} are missing or unknown; move it away")
    for name, tensor in saved.items():
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            raise click.ClickException(f"{what}.{name} is {tensor.dtype} {tuple(tensor.shape)}; move it away")
        if not torch.isfinite(tensor).all():
            raise click.ClickException(f"{what}.{name} is not finite: the run diverged or the file is damaged; move it away")


def load_nets(path: Path, nets: Mapping[str, nn.Module]) -> None:
    """Networks from the state of an earlier stage, those that it has."""
    saved = read(path)["nets"]
    for name, net in nets.items():
        if name in saved:
            check_arrays(net.state_dict(), saved[name], f"{path}: {name}")
            net.load_state_dict(saved[name])


def steps_of(state: State, path: Path) -> Iterator[int]:
    """Steps left to do; the state is saved every two minutes and at the end."""
    first = state.step
    started = saved = time.monotonic()
    for step in range(first, state.settings.steps):
        yield step
        state.step = step + 1
        now = time.monotonic()
        if now - saved > SAVE_EVERY_S or state.is_done:
            state.save(path)
            saved = now
            rate = (now - started) / (state.step - first)
            left = (state.settings.steps - state.step) * rate / 60
            click.echo(f"{path.stem}: step {state.step}/{state.settings.steps}, {rate:.2f} s a step, {left:.0f} min left", err=True)


def schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate: a short warm-up, then half a cosine."""
    return min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


def relative(tensors: Iterable[nn.Parameter], rate: float) -> list[dict[str, Any]]:
    """A group of the optimiser for each tensor, whose learning rate is ``rate`` times the tensor's root mean square.

    Adam moves every number by about the learning rate, whatever its gradient.  Here sizes differ by a thousand: a kernel predictor
    reads 4,608 numbers with weights near 0.001, and at one rate for all a step changed its kernels by more than they were.
    """

    def size(tensor: Tensor) -> float:
        return float(tensor.detach().square().mean().sqrt())

    return [{"params": [t], "lr": rate * (size(t) if t.dim() > 1 else max(size(t), SMALLEST))} for t in tensors]


def descend(optimiser: torch.optim.Optimizer, loss: Tensor, share: float) -> None:
    for group in optimiser.param_groups:
        group.setdefault("peak", group["lr"])
        group["lr"] = group["peak"] * share
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], CLIP)
    optimiser.step()


def log(path: Path, row: Mapping[str, float]) -> None:
    new = not path.exists()
    with open(path, "a", newline="") as f:
        writer = csv.DictWriter(f, row)
        if new:
            writer.writeheader()
        writer.writerow({key: f"{value:.6g}" for key, value in row.items()})


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def keep_memory() -> None:
    """Have the C library reuse freed memory: giving it back and asking again cost a third of a step on two cores."""
    with contextlib.suppress(AttributeError, OSError):  # glibc alone has it
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 1 << 28)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            mallopt(option, value)
