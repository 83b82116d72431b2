"""A template that does not give the converter's bytes is refused, with the tensor that differs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mfs_deploy.errors import ConversionError
from mfs_deploy.stamping import locate
from mfs_deploy.stamping.build import prove
from mfs_deploy.stamping.template import stamp

FACTORS = {"a.weight": 1.0, "b.weight": 2.0, "c.weight": 1.0}


@pytest.fixture
def found(person, convert, template):
    """The template of person 1."""
    probe = person(1)
    files = convert(probe)
    return template(files, locate.places(files, probe.baked, FACTORS, probe.digest, [0.3]))


def test_a_template_is_proven_on_another_person_s_bytes(found, person, convert):
    prove(found, person(2), convert(person(2)))


@pytest.mark.parametrize("which", range(6))
def test_a_byte_that_differs_is_named_by_its_tensor(found, person, convert, which):
    place = found.places[which]
    converted = convert(person(2))
    changed = bytearray(converted[place.file])
    changed[place.offset + place.length - 1] ^= 1
    with pytest.raises(ConversionError) as error:
        prove(found, person(2), {**converted, place.file: bytes(changed)})
    at = place.offset + place.length - 1
    assert error.value.message == f"{place.file}: 1 bytes differ from the converter's, the first at {at}: {place.weights}"


@pytest.mark.parametrize("place", [0, -1])
def test_a_byte_that_differs_beside_the_weights_is_said_to(found, person, convert, place):
    converted = convert(person(2))
    changed = bytearray(converted["swap.param"])
    changed[place] ^= 1
    with pytest.raises(ConversionError, match=r"outside every known tensor$"):
        prove(found, person(2), {**converted, "swap.param": bytes(changed)})


def test_a_template_with_one_tensor_s_axes_wrong_is_refused(found, person, convert):
    wrong = [replace(s, axes=(0, 1, 2, 3)) if s.weights == "a.weight" else s for s in found.places]
    with pytest.raises(ConversionError, match=r"a.weight$"):
        prove(replace(found, places=tuple(wrong)), person(2), convert(person(2)))


def test_a_template_that_lacks_a_tensor_is_refused(found, person, convert):
    lacking = tuple(s for s in found.places if s.weights != "c.weight")
    with pytest.raises(ConversionError, match=r"^swap\.bin: .* outside every known tensor$"):
        prove(replace(found, places=lacking), person(2), convert(person(2)))


def test_files_that_come_and_go_or_grow_with_the_person_are_refused(found, person, convert):
    converted = convert(person(2))
    with pytest.raises(ConversionError, match=r"other files"):
        prove(found, person(2), {**converted, "swap.log": b""})
    with pytest.raises(ConversionError, match=r"swap.bin has 113 bytes for another person, not 112"):
        prove(found, person(2), {**converted, "swap.bin": converted["swap.bin"] + b"."})


def test_weights_of_another_network_are_refused_by_name(found, person):
    somebody = person(2)
    lacking = replace(somebody, baked={key: value for key, value in somebody.baked.items() if key != "b.weight"}, _made={})
    with pytest.raises(ConversionError, match=r"no weights b.weight"):
        stamp(found, lacking)
    flat = replace(somebody, baked={**somebody.baked, "a.weight": somebody.baked["a.weight"].reshape(-1)}, _made={})
    with pytest.raises(ConversionError, match=r"a.weight has 1 axes"):
        stamp(found, flat)
    short = replace(somebody, baked={**somebody.baked, "c.weight": somebody.baked["c.weight"][:2]}, _made={})
    with pytest.raises(ConversionError, match=r"c.weight takes 56 bytes, its place has 112"):
        stamp(found, short)


def test_weights_beyond_float16_are_refused_by_name_and_not_stored_as_infinity(found, person):
    somebody = person(2)
    somebody.baked["a.weight"][0, 0, 0, 0] = 70_000
    with pytest.raises(ConversionError, match=r"a.weight .* float16"):
        stamp(found, somebody)


def test_two_people_stamped_from_one_template_do_not_mix(found, person, convert):
    first, second = stamp(found, person(2)), stamp(found, person(3))
    assert first == convert(person(2))
    assert second == convert(person(3))
    assert found.files == convert(person(1))
