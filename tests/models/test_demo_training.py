"""Training on rendered triplets: exact samples, every stage, and a stopped run goes on as if it had not been stopped."""

from __future__ import annotations

import csv
import json
import os
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from mfs_deploy.architectures.mobilefaceswap.generator import Generator
from mfs_deploy.architectures.mobilefaceswap.small_encoder import SmallEncoder
from mfs_deploy.demo.rendering import triplets
from mfs_deploy.demo.rendering.render import TEMPLATE
from models.demo.training import channel_sizes as sizes
from models.demo.training import losses, samples, state, swap_stages, train
from models.demo.training.reader import FaceReader

TINY = {"samples": 12, "held_out": 4, "sizes": {96: 32, 160: 32, 224: 64}, "batch": 4, "steps": 3}


@pytest.fixture(scope="module")
def few() -> triplets.Triplets:
    return triplets.make(4, 0, 64)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setattr(train, "TINY", TINY)
    monkeypatch.setattr(state, "LOG_EVERY", 1)
    monkeypatch.setattr(state, "SAVE_EVERY_S", 0)


def run(folder, *args: str):
    return CliRunner().invoke(train.main, [*args, "--run", str(folder)])


def finish(folder) -> None:
    done = run(folder, "run", "--tiny")
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a few steps of every stage.  Do not write into it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "TINY", TINY)
        patch.setattr(state, "LOG_EVERY", 1)
        finish(folder := tmp_path_factory.mktemp("trained") / "run")
    return folder


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


def test_samples_of_the_trainer_are_exact_and_of_the_heads_tone():
    source, target, result, mask = samples.make(4, 7, 64)
    assert all(torch.equal(a, b) for a, b in zip((source, target, result, mask), samples.make(4, 7, 64), strict=True))
    outside = (mask == 0).expand_as(target)
    assert (target[outside].int() - result[outside].int()).abs().max() <= 1  # a mask of less than half a level is stored as 0
    assert (target.int() - result.int()).abs().max() > 20
    plain = triplets.make(4, 7, 64)
    assert not torch.equal(plain.result, result)


def test_a_perfect_swap_costs_nothing_but_its_soft_mask(few):
    _, _, result, mask = few.floats(torch.device("cpu"))
    parts = losses.swap(result, mask, result, mask, torch.ones(4))
    assert parts["pixel"] == parts["gradient"] == parts["identity"] == 0
    assert 0 < parts["mask"] < 0.1  # cross-entropy of a soft mask with itself


def test_an_error_in_an_eye_costs_more_than_one_on_the_cheek(few):
    _, _, result, _ = few.floats(torch.device("cpu"))
    mask = torch.ones(4, 1, 64, 64)
    (x, y), cheek = (round(v * 64 / 112) for v in TEMPLATE[0]), (12, 42)
    costs = []
    for cx, cy in ((x, y), cheek):
        wrong = result.clone()
        wrong[:, :, cy - 1 : cy + 2, cx - 1 : cx + 2] = 1 - wrong[:, :, cy - 1 : cy + 2, cx - 1 : cx + 2].round()
        error = (wrong - result).abs().sum()
        costs.append((losses.swap(wrong, mask, result, mask, None)["pixel"] / error).item())
    assert costs[0] > 1.5 * costs[1]


def test_the_reader_has_the_interface_of_the_published_encoder():
    embedding, feature_map = FaceReader(53).eval()(torch.rand(2, 3, 112, 112))
    assert feature_map.shape == (2, 512, 7, 7)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))


def test_every_stage_runs_and_the_shipped_files_swap_as_the_trained_network(trained, tmp_path):
    shipped = run(trained, "ship", "--out", str(tmp_path))
    assert shipped.exit_code == 0, shipped.output
    generator, reader = Generator().eval(), FaceReader(len(samples.number_names())).eval()
    for net, name in ((generator, "generator"), (reader, "identity_encoder")):
        missing, unexpected = net.load_state_dict(load_file(tmp_path / f"{name}.safetensors"), strict=False)
        assert not unexpected
        assert all(key.endswith("num_batches_tracked") for key in missing)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 45_000_000
    swapper = swap_stages.Swapper(FaceReader(reader.numbers), None).eval()
    state.load_nets(trained / "whole.pt", swapper.nets())
    source, target, _, _ = (image.float() / 255 for image in samples.make(2, 3, 64))
    with torch.no_grad():
        before, _ = swapper(swapper.reader.read(source), target)
        after, _ = generator.swap(generator(*reader(source)), target)
    torch.testing.assert_close(after, before, atol=0.02, rtol=0)  # float16 weights
    with open(trained / "held-out-whole.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [row["step"] for row in rows] == ["3"]
    assert float(rows[0]["untouched_db"]) > 10


def test_the_fitted_predictor_gives_the_fixed_kernels(trained):
    with open(trained / "log-fit.csv", newline="") as f:
        errors = [float(row["mean"]) for row in csv.DictReader(f)]
    assert errors[-1] < errors[0]


def test_a_stopped_run_goes_on_as_if_it_had_not_been(trained, tmp_path, monkeypatch):
    steps_of = state.steps_of
    calls: list[int] = []

    def interrupted(now, path):
        for step in steps_of(now, path):
            if step == 2 and path.stem == "style-96" and not calls:
                calls.append(step)
                raise KeyboardInterrupt
            yield step

    monkeypatch.setattr(state, "steps_of", interrupted)
    assert run(tmp_path, "run", "--tiny").exit_code != 0
    assert calls
    finish(tmp_path)
    for path in sorted(trained.glob("*.pt")):
        whole, stopped = (state.read(folder / path.name)["nets"] for folder in (trained, tmp_path))
        for net, arrays in whole.items():
            for key, value in arrays.items():
                torch.testing.assert_close(stopped[net][key], value, rtol=0, atol=1e-6, msg=f"{path.name} {net} {key}")


def copied(trained, folder):
    """All of the run by links, and what a test damages as files of its own."""
    shutil.copytree(trained, folder, copy_function=os.link)
    for path in (folder / "style-160.pt", *(folder / "samples-small").iterdir()):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path):
    torch.save({"step": 1, "nets": {}}, path)


def not_finite(path):
    saved = torch.load(path, weights_only=True)
    saved["nets"]["generator"]["final.4.weight"][0] = float("nan")
    torch.save({**saved, "step": 1}, path)


def other_settings(path):
    saved = torch.load(path, weights_only=True)
    torch.save({**saved, "step": 1, "settings": {**saved["settings"], "rate": 0.5}}, path)


def too_far(path):
    torch.save({**torch.load(path, weights_only=True), "step": 99}, path)


@pytest.mark.parametrize("damage", [cut, foreign, not_finite, other_settings, too_far])
def test_a_damaged_state_is_refused_and_nothing_is_written(trained, tmp_path, damage):
    copied(trained, tmp_path / "run")
    state_file = tmp_path / "run" / "style-160.pt"
    damage(state_file)
    before = {p.name: p.stat() for p in (tmp_path / "run").glob("*.pt")}
    refused = run(tmp_path / "run", "run", "--tiny")
    assert refused.exit_code == 1
    assert str(state_file) in refused.output
    assert "move it away" in refused.output
    assert {name: (s.st_ino, s.st_mtime_ns) for name, s in before.items()} == {
        p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (tmp_path / "run").glob("*.pt")
    }


@pytest.mark.parametrize("name", ["facts.json", "done.json", "result.npy"])
def test_samples_of_another_kind_are_refused(trained, tmp_path, name):
    copied(trained, tmp_path / "run")
    (tmp_path / "run" / "reader.pt").unlink()
    file = tmp_path / "run" / "samples-small" / name
    if name.endswith(".npy"):
        np.save(file, np.zeros((3, 3), np.uint8))
    else:
        file.write_text(json.dumps({"scenes": "others"}))
    refused = run(tmp_path / "run", "run", "--tiny")
    assert refused.exit_code == 1
    assert "samples-small" in refused.output
    assert not (tmp_path / "run" / "reader.pt").exists()
