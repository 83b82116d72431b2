"""Every backend's artifact computes what PyTorch computes, says what it is, and is refused when it is not what it was."""

from __future__ import annotations

import getpass
import platform
import re
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from mfs_deploy import architectures, metrics
from mfs_deploy.errors import BundleError, ConversionError, UsageError
from mfs_deploy.graph.cost import cost

TEXT = (".json", ".param")


def test_a_conversion_leaves_no_file_beside_the_artifact(backend, fp32):
    assert sorted(p.name for p in fp32.parent.iterdir()) == sorted(backend.FILES)


# ---- frames


def test_artifact_matches_pytorch_on_a_face_and_on_noise(backend, recipe, converted, contract, crop, expected, noise, matches):
    runner = backend.open(converted(recipe), contract)
    for target, wanted in ((crop, expected), noise(224)):
        matches(recipe)(runner.run(target), wanted)


def test_swapped_colour_channels_are_noticed(backend, fp32, contract, crop, expected):
    swapped, _ = backend.open(fp32, contract).run(np.ascontiguousarray(crop[:, ::-1]))
    assert metrics.psnr_db(swapped, expected[0], peak=1.0) < 30
    assert metrics.psnr_db(swapped[:, ::-1], expected[0], peak=1.0) < 60


def test_arrays_that_are_not_contiguous_give_the_same_result(backend, fp32, contract, crop):
    runner = backend.open(fp32, contract)
    strided = np.ascontiguousarray(crop.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    mirrored = np.ascontiguousarray(crop[..., ::-1])[..., ::-1]
    for target in (strided, mirrored):
        assert not target.flags.c_contiguous
        for got, want in zip(runner.run(target), runner.run(crop), strict=True):
            np.testing.assert_array_equal(got, want)


def test_input_of_another_shape_is_refused(backend, fp32, contract, crop):
    runner = backend.open(fp32, contract)
    for target in (crop[0], crop[:, :, :-1], np.concatenate([crop, crop])):
        with pytest.raises(UsageError, match="must be"):
            runner.run(target)


def test_two_runners_and_their_outputs_do_not_disturb_each_other(backend, converted, contract, crop, noise):
    one, two = (backend.open(converted(recipe), contract) for recipe in ("fp32", "fp16"))
    first, other = one.run(crop), two.run(noise(224)[0])
    kept = [a.copy() for a in (*first, *other)]
    again = one.run(noise(224)[0]), two.run(crop)
    del one, two
    for have, want in zip((*first, *other), kept, strict=True):
        np.testing.assert_array_equal(have, want)
    assert np.isfinite(again[0][0]).all()
    assert np.isfinite(again[1][0]).all()


# ---- what it says and holds


def test_artifact_describes_itself_with_pytorchs_own_numbers(backend, form, recipe, converted, contract, graph, stored, as_run):
    graph = as_run(graph)
    info, wanted = backend.describe(converted(recipe)), cost(graph, 224)
    assert info.format == form.title
    for found, specs in ((info.inputs, (contract.input,)), (info.outputs, contract.outputs)):
        shapes = {s.name: tuple(dict(zip("NCHW", s.shape, strict=True))[axis] for axis in form.axes) for s in specs}
        assert {t.name: t.shape for t in found} == shapes
        assert len(found) == len(shapes)
        assert {t.dtype for t in found} == {"float32"}
    assert info.parameters == ({"float32": wanted.parameters} if recipe == "fp32" else stored(graph))
    assert info.macs == wanted.macs
    assert info.float32_layers == ()


def test_metadata_comes_back(backend, form, recipe, converted):
    metadata = {"version": "1.2.3", "recipe": "as asked", "identity": "Zoë"} if form.metadata else {}
    assert backend.describe(converted(recipe)).metadata == metadata


def test_float16_artifact_is_half_the_size(converted, files):
    weights = {recipe: max(p.stat().st_size for p in files(converted(recipe))) for recipe in ("fp32", "fp16")}
    assert weights["fp16"] < 0.51 * weights["fp32"]


def test_no_date_path_or_name_of_this_machine(name, recipe, artifact, files):
    strangers = [str(date.today()), "conversion_date", "/tmp", "/home", str(Path.home()), str(Path.cwd())]
    # Short names occur by chance in weights.
    strangers += [word for word in (getpass.getuser(), platform.node()) if len(word) > 5]
    for file in files(artifact(name, recipe)):
        data = file.read_bytes()
        for word in strangers:
            assert word.encode() not in data, (file.name, word)


def test_unknown_name_to_keep_is_refused_and_nothing_written(name, graph, new_artifact, tmp_path):
    with pytest.raises(ConversionError, match="no_such_node"):
        new_artifact(name, graph, "fp16", ("mask_0_2", "no_such_node"), into=tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---- damage


def refused(backend, path: Path, contract, match: str) -> None:
    for read in (lambda: backend.open(path, contract), lambda: backend.describe(path)):
        with pytest.raises(BundleError, match=match):
            read()


def test_truncated_file_is_refused(backend, copy, files, contract):
    for file in files(copy):
        data = file.read_bytes()
        n = len(data)
        lengths = {0, 1, 7, 63, 64, 100, 2000, n // 10, n // 2, 9 * n // 10}
        if file.suffix not in TEXT:  # text can do without its last line break
            lengths |= {n - 16, n - 4, n - 1}
        for length in sorted(k for k in lengths if k < n - 1 or file.suffix not in TEXT):
            file.write_bytes(data[:length])
            refused(backend, copy, contract, rf"{re.escape(file.name)}|^ncnn .*{re.escape(file.suffix)}")
        file.write_bytes(data)
    backend.open(copy, contract)


def test_missing_file_is_refused(backend, copy, files, contract):
    for file in files(copy):
        data = file.read_bytes()
        file.unlink()
        refused(backend, copy, contract, rf"{re.escape(file.name)}.*(No such file|is missing)")
        file.write_bytes(data)
    backend.open(copy, contract)


def test_missing_artifact_is_refused(backend, contract, tmp_path):
    refused(backend, tmp_path / backend.FILES[0], contract, rf"{re.escape(backend.FILES[0])}.*(No such file|is missing)")


def test_artifact_of_another_size_is_refused(backend, fp32):
    with pytest.raises(BundleError, match="224, 224"):
        backend.open(fp32, architectures.interface("mobilefaceswap").contract(256))


@pytest.mark.parametrize(("old", "new"), [(b"target", b"tarred"), (b"swapped", b"swopped")])
def test_renamed_tensor_is_refused(backend, copy, files, contract, old, new):
    for file in files(copy):
        file.write_bytes(file.read_bytes().replace(old, new))
    with pytest.raises(BundleError, match=new.decode()):
        backend.open(copy, contract)


def test_flipped_bit_in_a_weight_shows_in_the_output(backend, copy, files, graph, contract, crop, expected):
    weight = graph.get_submodule("final.7").weight.detach().numpy().ravel()[:1].tobytes()
    (file,) = (p for p in files(copy) if weight in p.read_bytes())
    data = bytearray(file.read_bytes())
    assert data.count(weight) == (4 if backend.NAME == "tflite" else 1)  # for every pixel of a block
    data[data.index(weight) + 3] ^= 0x40  # the exponent's highest bit
    file.write_bytes(data)
    swapped, _ = backend.open(copy, contract).run(crop)
    assert not np.isfinite(swapped).all() or metrics.psnr_db(swapped, expected[0], peak=1.0) < 45
