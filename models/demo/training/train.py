"""Train the demo weights on rendered people, stage by stage.

    python -m models.demo.training.train run --run RUN
    python -m models.demo.training.train ship --run RUN --out models/demo/weights

RUN keeps samples, states and logs, outside the repository; ``run`` goes on where it was stopped, until all stages are done.  CPU or
CUDA.  ``--tiny`` goes through every stage in a minute, to try the machinery.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
from safetensors.torch import save_file

from mfs_deploy import files
from models.demo.training import reader_stage, state, swap_stages
from models.demo.training.reader import FaceReader
from models.demo.training.samples import Samples, open_samples
from models.demo.training.state import Settings

HELD_OUT = 900_100_000  # first seed; neither trained on nor among the people that the shipped weights are measured on
FIRST_SEEDS = {"small": 0, "middle": 10_000, "large": 20_000, "judge": 30_000}
HELD_OUT_SAMPLES = 128

STAGES = (
    Settings("reader", 6_000, 48, 2e-3, "small", 96, 32_768),
    Settings("judge", 6_000, 48, 2e-3, "judge", 96, 16_384),  # of other people, for measuring alone: no loss has it
    Settings("style-96", 24_000, 16, 0.01, "small", 96, 32_768),
    Settings("style-160", 8_000, 16, 0.008, "middle", 160, 16_384),
    Settings("style-224", 16_000, 8, 0.008, "large", 224, 32_768),
    Settings("fit", 400, swap_stages.FIT_BATCH, 0.01, "large", 224, 32_768),
    Settings("whole", 16_000, 8, 0.006, "large", 224, 32_768),
)
JUDGE_WIDTHS = 0.75  # another network too
TINY = {"samples": 128, "held_out": 16, "sizes": {96: 64, 160: 64, 224: 96}, "batch": 4, "steps": 3}


@click.group()
def main() -> None:
    """Train the demo weights."""
    state.keep_memory()


def run_option(command: Callable[..., object]) -> Callable[..., object]:
    return click.option("--run", type=click.Path(path_type=Path), required=True, help="Folder of the run.")(command)


@main.command("run")
@run_option
@click.option("--tiny", is_flag=True, help="A few steps of every stage, to try the machinery.")
def run_all(run: Path, tiny: bool) -> None:
    """Render samples and train all stages that are not done."""
    run.mkdir(parents=True, exist_ok=True)
    before: Path | None = None
    for settings in (tiny_settings(s) for s in STAGES) if tiny else STAGES:
        path = run / f"{settings.stage}.pt"
        if not (path.exists() and state.read(path)["step"] == settings.steps):
            train_stage(run, settings, before, tiny)
        if settings.stage not in ("reader", "judge"):
            before = path


def train_stage(run: Path, settings: Settings, before: Path | None, tiny: bool) -> None:
    held = held_out(run, settings.size, tiny)
    data = open_samples(run / f"samples-{settings.data}", settings.samples, settings.size, FIRST_SEEDS[settings.data])
    reader = run / "reader.pt"
    if settings.stage in ("reader", "judge"):
        reader_stage.train(run, settings, data, held, JUDGE_WIDTHS if settings.stage == "judge" else 1.0)
    elif settings.stage == "fit":
        assert before is not None
        swap_stages.fit(run, before, reader, data, settings)
    else:
        swap_stages.train(run, settings, before, reader, data, held)


def held_out(run: Path, size: int, tiny: bool) -> Samples:
    n = TINY["held_out"] if tiny else HELD_OUT_SAMPLES
    return open_samples(run / f"held-out-{size}", n, size, HELD_OUT)  # type: ignore[arg-type]


def tiny_settings(settings: Settings) -> Settings:
    sizes: dict[int, int] = TINY["sizes"]  # type: ignore[assignment]
    small = {key: TINY[key] for key in ("samples", "steps")}
    batch = 12 if settings.stage in ("reader", "judge") else TINY["batch"]
    return replace(settings, size=sizes[settings.size], batch=batch, **small)  # type: ignore[arg-type]


@main.command()
@run_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write the two files into.")
def ship(run: Path, out: Path) -> None:
    """Write the weights of the last stage as float16 safetensors, and a plot of the logs."""
    last = next((run / f"{name}.pt" for name in ("whole", "fit") if (run / f"{name}.pt").exists()), run / "fit.pt")
    numbers = state.read(run / "reader.pt")["nets"]["reader"]["out.weight"].shape[0]
    net = swap_stages.Swapper(FaceReader(numbers), None)
    state.load_nets(last, net.nets())
    net.sizes.fold(net.generator)
    out.mkdir(parents=True, exist_ok=True)
    for part, name in ((net.generator, "generator"), (net.reader, "identity_encoder")):
        weights = {key: value for key, value in part.state_dict().items() if value.is_floating_point()}
        path = out / f"{name}.safetensors"
        with files.replacing(path) as temporary:
            save_file({key: value.half().contiguous() for key, value in weights.items()}, temporary)
        click.echo(f'"{path.name}" = "{files.sha256(path)}"')  # for card.toml
    plot(run, run / "training.png")


def plot(run: Path, out: Path) -> None:
    """Losses and held-out measures of each stage over its steps."""
    from matplotlib.figure import Figure

    logs = [path for s in STAGES for path in (run / f"log-{s.stage}.csv", run / f"held-out-{s.stage}.csv") if path.exists()]
    figure = Figure(figsize=(5 * len(logs), 4), layout="constrained")
    for panel, path in zip(figure.subplots(1, len(logs), squeeze=False)[0], logs, strict=True):
        with open(path, newline="") as f:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(f)]
        for key in list(rows[0])[1:7]:
            panel.plot([row["step"] for row in rows], [row[key] for row in rows], label=key, linewidth=1)
        panel.set(title=path.stem, xlabel="step")
        panel.legend()
    figure.savefig(out, dpi=60)


if __name__ == "__main__":
    main()
