"""A template's file: the same bytes for the same template; damaged or made by a stranger, refused and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from mfs_deploy import files
from mfs_deploy.errors import ConversionError
from mfs_deploy.stamping import locate, template_file

FACTORS = {"a.weight": 1.0, "b.weight": 2.0, "c.weight": 1.0}
ARRAYS = {"shared.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}


@pytest.fixture
def templates(person, convert, template):
    made = []
    for seed in (1, 2):
        converted = convert(person(seed))
        made.append(template(converted, locate.places(converted, person(seed).baked, FACTORS, person(seed).digest, [0.3])))
    return tuple(made)


@pytest.fixture
def file(templates, tmp_path) -> Path:
    path = tmp_path / "kept" / "a.safetensors"
    files.write(path, template_file.pack(templates, {"said": [1, 2]}, ARRAYS))
    return path


def assert_refused(path: Path) -> ConversionError:
    with pytest.raises(ConversionError) as error:
        template_file.unpack(path)
    assert error.value.kind == "template"
    assert "\n" not in error.value.message
    return error.value


def test_a_file_gives_back_what_was_put_in_and_the_same_bytes_again(templates, file):
    read, facts, arrays = template_file.unpack(file)
    assert read == templates
    assert facts == {"said": [1, 2]}
    assert list(arrays) == list(ARRAYS)
    np.testing.assert_array_equal(arrays["shared.weight"], ARRAYS["shared.weight"])
    assert template_file.pack(read, facts, arrays) == file.read_bytes()
    assert os.listdir(file.parent) == [file.name]


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(file, monkeypatch):
    before = file.read_bytes()

    def fail(*args: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no"):
        files.write(file, b"new")
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


# ---- damage


def test_every_length_short_of_the_whole_is_refused(file):
    content = file.read_bytes()
    for length in [*range(0, len(content), len(content) // 60), len(content) - 1]:
        file.write_bytes(content[:length])
        assert_refused(file)


def test_a_flipped_byte_anywhere_is_refused_or_changes_nothing(file, templates):
    content = file.read_bytes()
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(content[:8], "little")
    refused = 0
    for at in [*range(8), *rng.integers(8, header, 100), *rng.integers(header, len(content), 60)]:
        for bits in (0xFF, 0x20, 1):
            changed = bytearray(content)
            changed[at] ^= bits
            file.write_bytes(changed)
            try:
                read, facts, arrays = template_file.unpack(file)
            except ConversionError:
                refused += 1
                continue
            assert (read, facts) == (templates, {"said": [1, 2]}), at
            np.testing.assert_array_equal(arrays["shared.weight"], ARRAYS["shared.weight"])
    assert refused > 400


def test_a_file_that_holds_no_template_is_refused(tmp_path):
    assert "cannot be read" in assert_refused(tmp_path / "none").message
    assert_refused(tmp_path)
    for content in (b"", b"\0" * 8, b"PK\x03\x04" * 40, b"\xff" * 64):
        (tmp_path / "x").write_bytes(content)
        assert_refused(tmp_path / "x")
    save_file(ARRAYS, tmp_path / "weights.safetensors")
    assert "version 2" in assert_refused(tmp_path / "weights.safetensors").message
    save_file(ARRAYS, tmp_path / "later.safetensors", {template_file.FORMAT: "3 {}"})
    assert "version 2" in assert_refused(tmp_path / "later.safetensors").message


def test_a_file_of_absurd_size_is_refused_unread(tmp_path):
    with open(tmp_path / "x", "wb") as f:
        f.truncate(template_file.MAX_BYTES + 1)  # a hole: takes no space
    assert "make sense" in assert_refused(tmp_path / "x").message


# ---- files made by a stranger, whose checksum is right


@pytest.fixture
def forge(file) -> Callable[[Callable[[dict[str, Any], dict[str, np.ndarray]], object]], Path]:
    """Changes header and tensors of the file, and sums it anew."""

    def run(change: Callable[[dict[str, Any], dict[str, np.ndarray]], object]) -> Path:
        with safe_open(file, framework="np") as f:
            header = json.loads(f.metadata()[template_file.FORMAT].split(" ", 2)[2])
            tensors = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118 (not a dict)
        change(header, tensors)
        return write(file, json.dumps(header), tensors)

    return run


def write(path: Path, header: str, tensors: dict[str, np.ndarray]) -> Path:
    save_file(tensors, path, {template_file.FORMAT: f"{template_file.VERSION} {template_file._checksum(header, tensors)} {header}"})
    return path


def test_a_forged_file_that_is_as_it_should_be_is_read(forge, templates):
    """Or the refusals below would show nothing."""
    read, _, _ = template_file.unpack(forge(lambda header, tensors: None))
    assert read == templates


PLACES = {
    "a file that is not there": {"file": "swap.onnx"},
    "a file as a list": {"file": ["swap.bin"]},
    "offset below zero": {"offset": -1},
    "offset true": {"offset": True},
    "offset 1.0": {"offset": 1.0},
    "offset as text": {"offset": "1"},
    "offset none": {"offset": None},
    "offset beyond the file": {"offset": 10**6},
    "offset beyond 64 bits": {"offset": 10**30},
    "length below zero": {"length": -4},
    "length beyond the file": {"length": 10**6},
    "length 4.0": {"length": 4.0},
    "part below zero": {"part": -1},
    "part beyond the form's": {"part": 1},
    "part true": {"part": True},
    "axes twice": {"axes": [0, 0]},
    "axes with a gap": {"axes": [0, 2]},
    "axes below zero": {"axes": [0, -1]},
    "axes as floats": {"axes": [0.0, 1.0]},
    "axes as truths": {"axes": [False, True]},
    "axes as text": {"axes": "01"},
    "axes none": {"axes": None},
    "axes nested": {"axes": [[0, 1]]},
    "more axes than weights have": {"axes": list(range(5))},
    "an unknown form": {"representation": "float64"},
    "a form as a list": {"representation": ["float32"]},
    "no form": {"representation": ""},
    "weights as a number": {"weights": 3},
    "weights of two lines": {"weights": "c.weight\nstamped"},
    "weights none": {"weights": None},
    "weights as a list": {"weights": ["c.weight"]},
    "factor not a number": {"factor": float("nan")},
    "factor infinite": {"factor": float("inf")},
    "factor zero": {"factor": 0.0},
    "factor below zero": {"factor": -1.0},
    "factor 3": {"factor": 3.0},
    "factor beyond float32": {"factor": 2.0**200},
    "factor of a thousand digits": {"factor": 10**1000},
    "factor as text": {"factor": "1.0"},
    "factor true": {"factor": True},
    "factor none": {"factor": None},
    "times not a number": {"times": float("nan")},
    "times infinite": {"times": float("inf")},
    "times below zero": {"times": -0.5},
    "times beyond float32": {"times": 1e300},
    "times as text": {"times": "0.5"},
    "times true": {"times": True},
    "times as a list": {"times": [0.5]},
    "counted in floats": {"representation": "float32", "times": 0.5, "counted_by": "a.weight"},
    "counted without steps": {"representation": "int32", "counted_by": "a.weight"},
    "counted by what has no name": {"representation": "int32", "times": 0.5, "counted_by": "a\nb"},
    "counted by a number": {"representation": "int32", "times": 0.5, "counted_by": 3},
    "integers that nothing counts": {"representation": "int32", "times": 0.5},
    "a fact too many": {"mode": 0o777},
}


@pytest.mark.parametrize("change", PLACES.values(), ids=PLACES)
def test_a_malformed_place_is_refused(forge, change):
    def put(header: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        place = header["templates"][1]["slots"][0]
        assert place["weights"] == "c.weight"
        place |= change

    assert_refused(forge(put))


@pytest.mark.parametrize("key", ["file", "offset", "length", "weights", "axes"])
def test_a_place_that_lacks_a_fact_is_refused(forge, key):
    assert_refused(forge(lambda header, tensors: header["templates"][0]["slots"][0].pop(key)))


ENTRIES = {
    "an unknown backend": {"backend": "tensorrt"},
    "a backend as a list": {"backend": ["ncnn"]},
    "another backend": {"backend": "onnx"},
    "an architecture as a number": {"arch": 1},
    "a size as text": {"size": "224"},
    "a size of true": {"size": True},
    "no recipe": {"recipe": None},
    "a recipe as text": {"recipe": "fp16"},
    "a recipe as pairs": {"recipe": [["name", "fp16"]]},
    "an empty recipe": {"recipe": {}},
    "places as an object": {"slots": {}},
    "places none": {"slots": None},
    "a place as text": {"slots": ["x"]},
    "info as text": {"info": "ONNX"},
    "info that lacks a fact": {"info": {"format": "ncnn"}},
    "info with a fact too many": {"info": {"format": "ncnn", "path": "/"}},
    "versions as a list": {"versions": ["ncnn"]},
    "a version as a number": {"versions": {"ncnn": 1}},
}


@pytest.mark.parametrize("change", ENTRIES.values(), ids=ENTRIES)
def test_a_malformed_template_is_refused(forge, change):
    assert_refused(forge(lambda header, tensors: header["templates"][1].update(change)))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../x"},
        {"name": "/../../x"},
        {"name": ".."},
        {"name": ""},
        {"name": "a\\b"},
        {"name": "a\0b"},
        {"name": "\ud800"},
        {"name": "x" * 300},
        {"name": 7},
        {"name": None},
        {"weights": "float64"},
        {"weights": ["float16"]},
        {"gate": {}},
        {"gate": None},
        {"operations": []},
        {"layers": {"x": 1}},
        {"more": 1},
    ],
    ids=repr,
)
def test_a_recipe_that_cannot_be_is_refused(forge, change):
    """Its name becomes a folder's, and so must not lead elsewhere."""
    assert_refused(forge(lambda header, tensors: header["templates"][1]["recipe"].update(change)))


@pytest.mark.parametrize(
    "name",
    [
        "../swap.bin",
        "swap.bin/../../x",
        "swap.bin/..",
        "swap.bin/./x",
        "swap.bin//x",
        "swap.bin/",
        "/swap.bin",
        "/etc/passwd",
        "..",
        ".",
        "",
        "swap.bin\\..\\x",
        "swap.bin/a\\b",
        "swap.bin/C:x",
        "swap.bin/a\nb",
        "manifest.json",
        "SWAP.BIN",
        "swap.bin ",
    ],
)
def test_a_file_name_that_leads_elsewhere_is_refused(forge, name, tmp_path):
    def put(header: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        if name.startswith("swap.bin"):
            del tensors["1/swap.bin"]  # it could not be a folder as well
        tensors[f"1/{name}"] = np.zeros(4, np.uint8)
        header["templates"][1]["slots"] = []

    assert_refused(forge(put))
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["kept", "kept/a.safetensors"]


def test_a_file_that_is_also_a_folder_is_refused(forge):
    assert_refused(forge(lambda header, tensors: tensors.update({"1/swap.bin/x": np.zeros(4, np.uint8)})))


@pytest.mark.parametrize("name", ["swap.param", "swap.bin"])
def test_a_template_that_lacks_a_file_is_refused(forge, name):
    assert_refused(forge(lambda header, tensors: tensors.pop(f"1/{name}")))


@pytest.mark.parametrize("array", [np.zeros(112, np.int8), np.zeros((1, 112), np.uint8), np.zeros((), np.uint8)], ids=repr)
def test_a_file_that_is_not_bytes_is_refused(forge, array):
    assert_refused(forge(lambda header, tensors: tensors.update({"1/swap.bin": array})))


DEEP = 100_000


@pytest.mark.parametrize(
    "header",
    [
        "",
        "{",
        "[]",
        "null",
        '"templates"',
        "{}",
        '{"templates": []}',
        '{"templates": [], "facts": []}',
        '{"templates": {"0": {}}, "facts": {}}',
        '{"templates": "ab", "facts": {}}',
        '{"templates": 3, "facts": {}}',
        '{"templates": [null], "facts": {}}',
        '{"templates": [[]], "facts": {}}',
        '{"templates": [], "facts": ' + "[" * DEEP + "]" * DEEP + "}",
        '{"facts": {}, "templates": ' + '{"a":' * DEEP + "1" + "}" * DEEP + "}",
        '{"templates": [], "facts": {"n": ' + "9" * 10_000 + "}}",
    ],
    ids=lambda text: text[:40],
)
def test_a_header_that_is_not_ours_is_refused(tmp_path, header):
    assert_refused(write(tmp_path / "x", header, dict(ARRAYS)))


def test_a_kit_can_be_read_by_whoever_the_umask_lets(tmp_path):
    """A server makes kits as one user and uses them as another."""
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "kit.safetensors", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "kit.safetensors").stat().st_mode & 0o777 == 0o640
