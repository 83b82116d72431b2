"""Weights are found in every encoding that converters use; where a place is ambiguous, there is no template."""

from __future__ import annotations

import numpy as np
import pytest

from mfs_deploy.errors import ConversionError
from mfs_deploy.stamping import encodings, locate
from mfs_deploy.stamping.template import DIGEST, PersonWeights, stamp

FACTORS = {"a.weight": 1.0, "b.weight": 2.0, "c.weight": 1.0}
HASH = "f" * 64
WIDENED = (32, 1, 4, 4)  # what ncnn takes as 5x5
ORDERS = [(0, 1, 2, 3), (0, 2, 3, 1), (1, 2, 3, 0), (2, 3, 0, 1)]


def weights(seed: int, shape: tuple[int, ...] = (32, 6, 3, 3)) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def person(**baked: np.ndarray) -> PersonWeights:
    return PersonWeights(baked, HASH)


@pytest.mark.parametrize("axes", ORDERS)
@pytest.mark.parametrize("representation", encodings.REPRESENTATIONS)
def test_a_tensor_in_any_form_is_found_and_another_person_s_put_in_its_place(template, representation, axes):
    def convert(array: np.ndarray) -> dict[str, bytes]:
        first, *others = encodings.REPRESENTATIONS[representation](array)
        moved = first.transpose(axes) if first.ndim == 4 else first
        return {"swap.bin": b"head" + moved.tobytes() + b"".join(b"between" + other.tobytes() for other in others)}

    shape = WIDENED if representation in ("float32 ncnn", "float16 ncnn") else (32, 6, 3, 3)
    probe, other = weights(1, shape), weights(2, shape)
    places = locate.places(convert(probe), {"w": probe}, {"w": 1.0}, HASH, [])
    assert {place.representation for place in places} == {representation}
    stamped = stamp(template(convert(probe), places), person(w=other))
    assert stamped == convert(other)


def test_a_whole_network_is_found_and_stamped_hash_and_bias_steps_included(template, person, convert):
    probe, other = person(1), person(2)
    places = locate.places(convert(probe), probe.baked, FACTORS, probe.digest, [0.3, 0.7, 1.0])
    assert [(place.file, place.weights, place.part, place.times) for place in places] == [
        ("swap.bin", "c.weight", 0, None),
        ("swap.param", "a.weight", 0, None),
        ("swap.param", DIGEST, 0, None),
        ("swap.param", "b.weight", 0, None),
        ("swap.param", "b.weight", 1, None),
        ("swap.param", "b.weight", 1, 0.3),
    ]
    assert stamp(template(convert(probe), places), other) == convert(other)


@pytest.mark.parametrize("dtype", encodings.BIASES)
def test_a_bias_in_integers_is_found_by_the_steps_that_count_it(template, dtype):
    def convert(kernel: np.ndarray, bias: np.ndarray) -> dict[str, bytes]:
        integers, steps = encodings.REPRESENTATIONS["int8"](kernel)
        of_bias = (steps * np.float32(0.02)).astype(np.float32)
        parts = (integers, steps, of_bias, np.rint(bias.astype(np.float64) / of_bias).astype(dtype))
        return {"swap.bin": b"between".join(part.tobytes() for part in parts)}

    a, b = ({"w": weights(seed), "b": weights(seed + 10, (32,))} for seed in (1, 2))
    places = locate.places(convert(a["w"], a["b"]), a, {"w": 1.0, "b": 1.0}, HASH, [0.02, 0.03])
    assert [(place.weights, place.representation, place.counted_by) for place in places][-1] == ("b", dtype, "w")
    assert stamp(template(convert(a["w"], a["b"]), places), person(**b)) == convert(b["w"], b["b"])
    with pytest.raises(ConversionError, match=r"^b is .* steps of w"):
        stamp(template(convert(a["w"], a["b"]), places), person(w=b["w"] * np.float32(1e-9), b=b["b"]))


@pytest.mark.parametrize("second", ["swap.bin", "swap.param"])
def test_weights_in_two_places_are_refused_by_name(second):
    probe = weights(1)
    files = {"swap.param": b"", "swap.bin": b"." + probe.tobytes()}
    files[second] += b"between" + probe.tobytes()
    with pytest.raises(ConversionError, match=r"^w: weights may be at \d+ or \d+$"):
        locate.places(files, {"w": probe}, {"w": 1.0}, HASH, [])


def test_steps_in_two_places_are_refused_by_name():
    probe = weights(1)
    integers, steps = encodings.REPRESENTATIONS["int8"](probe)
    files = {"swap.bin": integers.tobytes() + steps.tobytes() + steps.tobytes()}
    with pytest.raises(ConversionError, match=r"^w: steps may be at"):
        locate.places(files, {"w": probe}, {"w": 1.0}, HASH, [])


def test_weights_that_lie_nowhere_are_refused_by_name():
    probe = weights(1)
    changed = probe.copy()
    changed[3, 2, 1, 0] = np.nextafter(changed[3, 2, 1, 0], np.float32(9))
    with pytest.raises(ConversionError, match=r"^w is in the converted files in no encoding"):
        locate.places({"swap.bin": changed.tobytes()}, {"w": probe}, {"w": 1.0}, HASH, [])


def test_int8_weights_without_their_scales_are_refused():
    probe = weights(1)
    integers, _ = encodings.REPRESENTATIONS["int8"](probe)
    with pytest.raises(ConversionError, match=r"^w is in the converted files in no encoding"):
        locate.places({"swap.bin": integers.tobytes()}, {"w": probe}, {"w": 1.0}, HASH, [])


def test_weights_in_two_forms_are_refused_with_both():
    probe = weights(1)
    files = {"swap.bin": probe.tobytes() + probe.astype(np.float16).tobytes()}
    with pytest.raises(ConversionError, match=r"^w is in the converted files in 2 encodings: float16, float32;"):
        locate.places(files, {"w": probe}, {"w": 1.0}, HASH, [])


def test_weights_that_overlap_are_refused_with_both_names():
    both = weights(1, (40, 1))
    baked = {"first": both[:24], "second": both[16:]}
    with pytest.raises(ConversionError, match=r"^first and second overlap in swap.bin at 64$"):
        locate.places({"swap.bin": both.tobytes()}, baked, dict.fromkeys(baked, 1.0), HASH, [])


def test_few_channels_whose_steps_round_alike_are_found_in_the_backend_s_own_form():
    """Core ML rounds steps up and ONNX to the nearest: of three channels all may come out the same."""
    alike = next(w for w in (weights(seed, (3, 1, 4, 4)) for seed in range(100)) if same_bytes(w))
    files = {"swap.bin": b"".join(part.tobytes() for part in encodings.REPRESENTATIONS["int8"](alike))}
    for backend, form in (("onnx", "int8"), ("tflite", "int8"), ("coreml", "int8 coreml")):
        places = locate.places(files, {"w": alike}, {"w": 1.0}, HASH, [], encodings.of_backend(backend))
        assert {place.representation for place in places} == {form}


def same_bytes(array: np.ndarray) -> bool:
    ours, theirs = encodings.REPRESENTATIONS["int8"](array), encodings.REPRESENTATIONS["int8 coreml"](array)
    return all(a.tobytes() == b.tobytes() for a, b in zip(ours, theirs, strict=True))


def test_every_encoding_belongs_to_a_backend():
    backends = ("onnx", "tflite", "ncnn", "coreml")
    assert {name for backend in backends for name in encodings.of_backend(backend)} == set(encodings.REPRESENTATIONS)


# ---- what depends on the person


def test_predicted_weights_are_told_from_shared_ones_with_what_they_were_multiplied_by():
    one = {"w": weights(1), "doubled": weights(2, (3, 4)), "shared": weights(3)}
    two = {"w": weights(4), "doubled": weights(5, (3, 4)), "shared": weights(3)}
    found = locate.factors(one, simplified(one), two, simplified(two))
    assert found == {"w": 1.0, "doubled": 2.0}


def test_a_first_weight_of_zero_does_not_hide_the_factor():
    one, two = {"w": weights(1)}, {"w": weights(2)}
    one["w"].flat[0] = 0
    halved = [{"w": person["w"] * np.float32(0.5)} for person in (one, two)]
    assert locate.factors(one, halved[0], two, halved[1]) == {"w": 0.5}


@pytest.mark.parametrize("factor", [3.0, 1.0000001, -2.0])
def test_a_factor_that_would_round_is_refused_by_the_tensor_s_name(factor):
    one, two = {"w": weights(1)}, {"w": weights(2)}
    scaled = [{"conv.weight": person["w"] * np.float32(factor)} for person in (one, two)]
    with pytest.raises(ConversionError, match=r"^conv.weight depends on the person and is not one predicted tensor"):
        locate.factors(one, scaled[0], two, scaled[1])


def test_a_tensor_that_mixes_two_predicted_ones_is_refused_by_name():
    one, two = ({"w": weights(seed), "v": weights(seed + 1)} for seed in (1, 3))
    mixed = [{**person, "conv.weight": person["w"] + person["v"]} for person in (one, two)]
    with pytest.raises(ConversionError, match=r"^conv.weight depends on the person"):
        locate.factors(one, mixed[0], two, mixed[1])


def test_a_predicted_tensor_that_the_simplified_network_lacks_is_refused_by_name():
    one, two = ({"w": weights(seed), "v": weights(seed + 1)} for seed in (1, 3))
    with pytest.raises(ConversionError, match=r"^v: predicted, but not found"):
        locate.factors(one, {"w": one["w"]}, two, {"w": two["w"]})


def simplified(person: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"conv.weight": person["w"], "last.weight": person["doubled"] * np.float32(2), "other.weight": person["shared"]}
