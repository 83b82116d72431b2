"""Training on rendered triplets: exact samples, sane beginnings, and a stopped run goes on as if it had not been stopped."""

from __future__ import annotations

import csv

import click
import pytest
import torch
from click.testing import CliRunner

from mfs_deploy.architectures.mobilefaceswap.generator import Generator
from mfs_deploy.architectures.mobilefaceswap.small_encoder import SmallEncoder
from mfs_deploy.checkpoint.load import load
from mfs_deploy.demo.rendering import triplets
from models.demo.training import channel_sizes as sizes
from models.demo.training import losses, train


@pytest.fixture(scope="module")
def few() -> triplets.Triplets:
    return triplets.make(4, 0, 64)


def run(folder, *args: str) -> None:
    done = CliRunner().invoke(train.main, [*args, "--run", str(folder)], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_samples_are_the_same_for_a_seed_and_exact_outside_the_face(few):
    again = triplets.make(4, 0, 64)
    for name in ("source", "target", "result", "mask"):
        assert torch.equal(getattr(few, name), getattr(again, name))
    outside = (few.mask == 0).expand_as(few.target)
    assert outside.any()
    assert torch.equal(few.target[outside], few.result[outside])
    assert not torch.equal(few.target, few.result)


def test_targets_alone_are_those_of_the_samples(few):
    assert torch.equal((triplets.targets(4, 0, 64) * 255).round().byte(), few.target)


def test_the_encoder_has_the_interface_of_the_published_one():
    embedding, feature_map = SmallEncoder().eval()(torch.rand(2, 3, 112, 112))
    assert feature_map.shape == (2, 512, 7, 7)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))


def test_the_sizes_fold_into_the_network_and_change_nothing(few, monkeypatch):
    monkeypatch.setattr(sizes, "MOMENTUM", 1.0)
    torch.manual_seed(0)
    generator, encoder, divide = Generator().eval(), SmallEncoder().eval(), sizes.Sizes()
    source, target, _, _ = few.floats(torch.device("cpu"))
    with torch.no_grad():
        losses.start_generator(generator)
        identity = encoder(source)
        for i, block in enumerate([*generator.predictor.encoder, *generator.predictor.decoder]):
            block.weight.weight.mul_(2.0 + i)
        generator.stages(generator(*identity), target, divide)
        divide.eval()
        for norm in (generator.final[2], generator.mask[0][3]):
            norm.running_mean.normal_()
        before = generator.swap(generator(*identity), target, divide)
        divide.fold(generator)
        features = [stage.square().mean().sqrt().item() for stage in generator.stages(generator(*identity), target)]
        after = generator.swap(generator(*identity), target)
    assert before[0].std() > 0.01
    assert features == pytest.approx([1] * 9, rel=0.1)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_a_perfect_swap_costs_only_its_identity(few):
    source, _, result, mask = few.floats(torch.device("cpu"))
    encoder = SmallEncoder().eval()
    parts = losses.swap(result, mask, result, mask, losses.known(encoder, result, encoder(source)[0]))
    assert parts["pixel"] == parts["gradient"] == 0
    assert 0 < parts["identity"] < 2
    assert parts["mask"] < 0.1  # cross-entropy of a soft mask with itself


def test_contrast_prefers_the_right_pairs():
    seeded = torch.Generator().manual_seed(0)
    faces, others = torch.nn.functional.normalize(torch.randn(2, 8, 16, generator=seeded), dim=2)
    assert losses.contrast(faces, faces, others) < 0.5 * losses.contrast(faces, faces.roll(1, 0), others)
    assert losses.contrast(faces, faces, others) < 0.9 * losses.contrast(faces, faces, faces)  # a target like the source


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    monkeypatch.setattr(triplets, "SHARD", 8)
    monkeypatch.setattr(train, "LOG_EVERY", 1)
    for name in ("whole", "stopped"):
        run(tmp_path / name, "encoder", "--batch", "4", "--shards", "2", "--steps", "3")
    swap = ("swap", "--size", "64", "--batch", "4", "--shards", "2")
    run(tmp_path / "whole", *swap, "--steps", "3")

    steps_of, calls = train.steps_of, []

    def interrupted(state, steps, path):
        for step in steps_of(state, steps, path):
            if step == 2 and not calls:
                calls.append(step)
                raise KeyboardInterrupt
            yield step

    monkeypatch.setattr(train, "SAVE_EVERY", 1)
    monkeypatch.setattr(train, "steps_of", interrupted)
    with pytest.raises(click.Abort):  # how click passes Ctrl-C on
        train.main([*swap, "--steps", "3", "--run", str(tmp_path / "stopped")], standalone_mode=False)
    run(tmp_path / "stopped", *swap, "--steps", "3")
    for name in ("encoder.pt", "swap-64.pt"):
        whole, stopped = (torch.load(tmp_path / folder / name, weights_only=True)["nets"] for folder in ("whole", "stopped"))
        for net, state in whole.items():
            for key, value in state.items():
                torch.testing.assert_close(stopped[net][key], value, rtol=0, atol=1e-6, msg=f"{name} {net} {key}")
    run(tmp_path / "whole", "ship", "--out", str(tmp_path / "shipped"))
    checkpoint = load(tmp_path / "shipped" / "generator.safetensors", tmp_path / "shipped" / "identity_encoder.safetensors")
    whole = torch.load(tmp_path / "whole" / "swap-64.pt", weights_only=True)["nets"]["generator"]
    torch.testing.assert_close(checkpoint.generator["final.4.weight"], whole["final.4.weight"], rtol=1e-3, atol=1e-6)
    assert (tmp_path / "whole" / "training.png").stat().st_size > 5000
    with open(tmp_path / "whole" / "log-swap-64.csv") as f:
        assert [row["step"] for row in csv.DictReader(f)] == ["0", "1", "2"]
