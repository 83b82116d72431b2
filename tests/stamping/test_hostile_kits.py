"""Kits from strangers, and damaged ones: an error of kind template that says what is wrong, and nothing written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from mfs_deploy.stamping import kit as kits
from mfs_deploy.stamping import template_file
from testing import small_generator

LANDMARKS = "203,101,247,103,225,126,204.4,140.4,243.6,141.6"
TARGETS = ("--backends", "onnx,ncnn")


@dataclass
class Content:
    header: Any
    tensors: dict[str, np.ndarray]

    @property
    def place(self) -> dict[str, Any]:
        return next(place for place in self.template["slots"] if place["weights"] == WEIGHT)

    @property
    def template(self) -> dict[str, Any]:
        return self.header["templates"][0]

    @property
    def facts(self) -> dict[str, Any]:
        return self.header["facts"]


@pytest.fixture
def spoil(small_kit, tmp_path) -> Callable[[Callable[[Content], object]], Path]:
    """The path of a copy of the small kit, changed."""

    def run(change: Callable[[Content], object]) -> Path:
        with safe_open(small_kit, framework="np") as f:
            _, _, header = f.metadata()[template_file.FORMAT].split(" ", 2)
            content = Content(json.loads(header), {key: f.get_tensor(key) for key in f.keys()})  # noqa: SIM118
        change(content)
        (tmp_path / "kits").mkdir()
        path = tmp_path / "kits" / "kit.safetensors"
        header = content.header if isinstance(content.header, str) else json.dumps(content.header)
        checksum = template_file._checksum(header, content.tensors)  # right: it is there against damage, not against malice
        save_file(content.tensors, path, {template_file.FORMAT: f"{template_file.VERSION} {checksum} {header}"})
        return path

    return run


WRONG: tuple[Any, ...] = (None, [], 5, {})  # in place of a name or of a table


def put(*keys: Any, value: Any) -> Callable[[Content], None]:
    """Set one entry: an attribute of ``Content``, then keys."""

    def change(content: Content) -> None:
        place = getattr(content, keys[0])
        for key in keys[1:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


def drop(*keys: Any) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        place = getattr(content, keys[0])
        for key in keys[1:-1]:
            place = place[key]
        del place[keys[-1]]

    return change


def generator(**changes: Any) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        shapes = {place["weights"]: None for place in content.template["slots"]}
        held = kits.Kit((), content.tensors[kits.GENERATOR].tobytes(), None, {}, content.facts["common"], "", 1)
        outputs = {**held._generator.outputs, **changes.pop("outputs", {})}
        assert set(shapes) - {"sha256"} <= set(outputs)
        left = {name: shape for name, shape in outputs.items() if shape is not None}
        content.tensors[kits.GENERATOR] = np.frombuffer(small_generator.make(left, **changes), np.uint8)

    return change


def nest(content: Content) -> None:
    content.header = '{"templates": ' + "[" * 100_000


WEIGHT = "Encoder.0.0.weight"

SPOILED = {
    "no generator": drop("tensors", kits.GENERATOR),
    "generator is text": put("tensors", kits.GENERATOR, value=np.frombuffer(b"hello, I am a network", np.uint8)),
    "generator is empty": put("tensors", kits.GENERATOR, value=np.zeros(0, np.uint8)),
    "generator is numbers": put("tensors", kits.GENERATOR, value=np.ones(9, np.float32)),
    "generator of other inputs": generator(inputs={"embedding": (512,), "map": (512, 7, 7)}),
    "generator of other shapes": generator(inputs={"embedding": (256,), "feature_map": (512, 7, 7)}),
    "generator of more inputs": generator(inputs={**small_generator.INPUTS, "more": (1,)}),
    "generator for one person": generator(people=1),
    "generator without a weight": generator(outputs={WEIGHT: None}),
    "generator of a weight too large": generator(outputs={WEIGHT: (3, 1, 5, 5)}),
    "generator of a weight of other rank": generator(outputs={WEIGHT: (48,)}),
    "generator of unknown shapes": generator(declared={WEIGHT: ("c", 1, 4, 4)}),
    "generator that claims a petabyte": generator(declared={WEIGHT: (2**40, 256, 4, 4)}),
    "generator that claims another shape": generator(declared={WEIGHT: (3, 1, 2, 8)}),
    "generator that fails when run": generator(rows=7),
    "shared weights in float64": put("tensors", "shared.final.1.weight", value=np.ones((8, 32, 1, 1), np.float64)),
    "shared weights in bytes": put("tensors", "shared.final.1.weight", value=np.ones((8, 32, 1, 1), np.uint8)),
    "facts are a list": put("header", "facts", value=[1]),
    "no facts": drop("header", "facts"),
    "no templates entry": drop("header", "templates"),
    "templates are a number": put("header", "templates", value=5),
    "a template is a number": put("header", "templates", value=[5]),
    **{f"no {key}": drop("facts", key) for key in ("common", "encoder_sha256", "source_size")},
    **{f"common is {value!r}": put("facts", "common", value=value) for value in (*WRONG, "x")},
    **{f"common has no {key}": drop("facts", "common", key) for key in ("contract", "licences", "schema", "checkpoint")},
    "common has more": put("facts", "common", "more", value=1),
    "common of an earlier schema": put("facts", "common", "schema", value=1),
    "common of a later schema": put("facts", "common", "schema", value=3),
    "common of a wrong type": put("facts", "common", "tool", value=["mfs-deploy"]),
    "common with NaN": put("facts", "common", "alignment", value={"x": float("nan")}),
    "common with half a character": put("facts", "common", "tool", value="\ud800"),
    "common too large to read": put("facts", "common", "tool", value="x" * 11_000_000),
    "header too deep": nest,
    "contract is a list": put("facts", "common", "contract", value=[]),
    "contract without a size": drop("facts", "common", "contract", "size"),
    "contract of another size": put("facts", "common", "contract", "size", value=256),
    "contract of another network": put("facts", "common", "contract", "arch", value="simswap"),
    **{f"encoder_sha256 is {value!r}": put("facts", "encoder_sha256", value=value) for value in (5, None, "xyz", ["0" * 64])},
    **{f"source_size is {v!r}"[:40]: put("facts", "source_size", value=v) for v in ("112", 0, -1, 10**9, True, 1.5, None, [112])},
    **{
        f"{key} is {v!r}": put("template", key, value=v)
        for key in ("recipe", "info", "versions", "slots")
        for v in ([5], "x", None, 5)
    },
    **{
        f"no {key} in a template": drop("template", key)
        for key in ("backend", "arch", "size", "recipe", "info", "slots", "versions")
    },
    **{f"backend is {value!r}": put("template", "backend", value=value) for value in ("tensorrt", "tflite", *WRONG)},
    "template of another size": put("template", "size", value=256),
    "template of another network": put("template", "arch", value="simswap"),
    "recipe of an unknown number": put("template", "recipe", "weights", value="float8"),
    "info of a wrong type": put("template", "info", "macs", value="many"),
    "info with NaN": put("template", "info", "macs", value=float("nan")),
    "info without inputs": drop("template", "info", "inputs"),
    **{
        f"factor is {v!r}"[:40]: put("place", "factor", value=v)
        for v in ("2", None, [2.0], float("nan"), float("inf"), 1e300, 10**400)
    },
    **{f"times is {v!r}"[:40]: put("place", "times", value=v) for v in ("2", [2.0], float("nan"), 1e300)},
    **{f"part is {value!r}": put("place", "part", value=value) for value in (7, -1, "0", None, 0.0)},
    **{f"axes are {value!r}": put("place", "axes", value=value) for value in ([0], [0, 0, 1, 2], [4, 3, 2, 1], "0123", None, 5)},
    **{f"offset is {value!r}": put("place", "offset", value=value) for value in (-1, 10**12, "0", None, 1.5)},
    **{f"length is {value!r}": put("place", "length", value=value) for value in (0, 1, 10**12, None)},
    **{f"representation is {v!r}": put("place", "representation", value=v) for v in ("float8", "", None, 5, ["float16"], "int8")},
    **{f"weights are {value!r}": put("place", "weights", value=value) for value in ("nobody", "sha256", None, 5, ["x"], {"x": 1})},
    **{f"file is {value!r}": put("place", "file", value=value) for value in ("../swap.onnx", "", None, ["swap.onnx"])},
    "a place has more": put("place", "more", value=1),
    "a file outside": put("tensors", "0/../../evil", value=np.zeros(1, np.uint8)),
    "a file of nobody": put("tensors", "0/evil.sh", value=np.zeros(1, np.uint8)),
    "a file in a file": put("tensors", "0/swap.onnx/evil", value=np.zeros(1, np.uint8)),
    "a file of numbers": put("tensors", "0/swap.onnx", value=np.zeros(9, np.float32)),
    "a file missing": drop("tensors", "0/swap.onnx"),
}


def refused(ran: Any) -> str:
    assert ran.code == 6, ran
    error = ran.json["error"]
    assert (error["kind"], error["exit_code"]) == ("template", 6)
    assert error["hint"]
    assert "\n" not in error["message"]
    assert len(error["message"]) < 1000
    return error["message"]


@pytest.mark.parametrize("change", SPOILED.values(), ids=SPOILED.keys())
def test_a_spoiled_kit_is_refused_and_nothing_is_written(spoil, mfs, somebody, tmp_path, change):
    ran = mfs("stamp", spoil(change), "--identity", somebody(0), *TARGETS, "--out", tmp_path / "out" / "x", "--json")
    refused(ran)
    assert os.listdir(tmp_path) == ["kits"]


@pytest.mark.parametrize("name", ["generator is text", "common has more", "part is 7", "a file in a file", "generator fails"])
def test_a_batch_refuses_a_spoiled_kit_before_anything_is_written(spoil, mfs, somebody, tmp_path, name):
    if name == "generator fails":
        path, left = spoil(SPOILED["generator that fails when run"]), ["kits", "out"]
    else:
        path, left = spoil(SPOILED[name]), ["kits"]
    ran = mfs("batch", somebody(0).parent, "--kit", path, *TARGETS, "--out", tmp_path / "out", "--workers", "1", "--json")
    refused(ran)
    assert sorted(os.listdir(tmp_path)) == left
    assert [p for p in tmp_path.glob("out/*") if not p.name.startswith(".") and p.is_dir()] == []


@pytest.mark.parametrize(
    "change",
    [
        put("tensors", kits.ENCODER, value=np.frombuffer(b"hello", np.uint8)),
        lambda content: content.tensors.update({kits.ENCODER: content.tensors[kits.GENERATOR]}),
        put("facts", "source_size", value=100),
    ],
    ids=["text", "another network", "another size"],
)
def test_a_spoiled_identity_encoder_is_refused_where_a_photo_is_to_be_read(spoil, mfs, photo, tmp_path, change):
    args = ("--source", photo, "--landmarks", LANDMARKS, *TARGETS, "--out", tmp_path / "x", "--json")
    assert "identity encoder" in refused(mfs("stamp", spoil(change), *args))
    assert os.listdir(tmp_path) == ["kits"]


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0{}", b"\x08\0\0\0\0\0\0\0[[[[[[[["])
def test_a_kit_that_is_no_safetensors_file_is_refused(mfs, somebody, tmp_path, content):
    (tmp_path / "kit").write_bytes(content)
    refused(mfs("stamp", tmp_path / "kit", "--identity", somebody(0), "--out", tmp_path / "x", "--json"))
    refused(mfs("kit", "unpack", tmp_path / "kit", "--out", tmp_path / "x", "--json"))
    assert os.listdir(tmp_path) == ["kit"]


def test_a_kit_that_is_missing_a_folder_or_cut_off_is_refused(small_kit, mfs, somebody, tmp_path):
    content = small_kit.read_bytes()
    (tmp_path / "cut").write_bytes(content[:-1])
    (tmp_path / "shorter").write_bytes(content[: len(content) // 2])
    for name in ("cut", "shorter", "nothing", "."):
        refused(mfs("stamp", tmp_path / name, "--identity", somebody(0), "--out", tmp_path / "x", "--json"))
    refused(mfs("stamp", somebody(0), "--identity", somebody(0), "--out", tmp_path / "x", "--json"))
    assert sorted(os.listdir(tmp_path)) == ["cut", "shorter"]


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "BOOL"])
def test_numbers_that_numpy_does_not_have_are_refused(spoil, mfs, somebody, tmp_path, kind):
    size = {"BF16": np.uint16, "F8_E4M3": np.uint8, "BOOL": np.uint8}[kind]
    path = spoil(put("tensors", "shared.odd", value=np.ones(8, size)))
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["shared.odd"]["dtype"] = kind
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])
    refused(mfs("stamp", path, "--identity", somebody(0), *TARGETS, "--out", tmp_path / "x", "--json"))
    assert os.listdir(tmp_path) == ["kits"]


@pytest.mark.parametrize("name", ["../../../evil", "/tmp/evil", "a/b", ".."])
def test_unpack_writes_nothing_outside_its_folder(spoil, mfs, tmp_path, name):
    ran = mfs("kit", "unpack", spoil(put("template", "recipe", "name", value=name)), "--out", tmp_path / "in" / "x")
    assert ran.code in (0, 6)
    assert {path.name for path in (tmp_path / "in").glob("x/*")} <= {"1-onnx", "2-ncnn", kits.GENERATOR, kits.ENCODER}
    assert sorted(os.listdir(tmp_path)) in (["in", "kits"], ["kits"])
    assert not (tmp_path / "in").exists() or os.listdir(tmp_path / "in") == ["x"]


def test_a_kit_cannot_remove_the_synthetic_media_label(spoil, mfs, somebody, tmp_path):
    from mfs_deploy.bundle import manifest

    path = spoil(put("facts", "common", "synthetic_media", value={"label": "a real photo"}))
    ran = mfs("stamp", path, "--identity", somebody(0), *TARGETS, "--out", tmp_path / "x", "--json")
    assert ran.code == 0, ran
    assert manifest.read(tmp_path / "x")["synthetic_media"] == manifest.DISCLOSURE
