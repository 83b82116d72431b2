"""Scripts that were written for the options' former names must go on working, and help must teach the present ones only."""

from __future__ import annotations

import pytest

FORMER = {
    "export": ("--targets", "--accept-calibration"),
    "quantize": ("--targets", "--accept-calibration", "--from"),
    "batch": ("--targets",),
    "stamp": ("--targets",),
    "bench": ("--device",),
    "parity": ("--device",),
}


@pytest.mark.parametrize("verb", FORMER)
def test_help_shows_present_names_only(mfs, verb):
    ran = mfs(verb, "--help")
    assert ran.code == 0
    shown = {word.strip(",") for line in ran.out.splitlines() for word in line.split() if word.startswith("--")}
    assert not shown & set(FORMER[verb])


def test_the_list_of_verbs_shows_kit_and_not_template(mfs):
    shown = [line.split()[0] for line in mfs("--help").out.partition("Commands:")[2].splitlines() if line.strip()]
    assert "kit" in shown
    assert "template" not in shown
    assert mfs("template", "--help").code == 0


def test_former_names_mean_what_they_meant(mfs, tmp_path):
    common = ("--checkpoint", "demo", "--source", "demo", "--out", tmp_path / "x")
    for option in ("--targets", "--backends"):
        ran = mfs("export", *common, option, "tensorrt")
        assert ran.code == 2
        assert "--backends 'tensorrt' has no backend tensorrt" in ran.err
    ran = mfs(
        "quantize",
        "--checkpoint",
        "demo",
        "--source",
        "demo",
        "--recipe",
        "mixed",
        "--from",
        "nothing",
        "--out",
        tmp_path / "x.toml",
    )
    assert ran.code == 2
    assert "nothing" in ran.err


def test_two_machines_are_refused_and_one_said_twice_is_not(mfs, tmp_path):
    ran = mfs("parity", tmp_path, "--on", "arm64", "--device", "android")
    assert ran.code == 2
    assert "--on arm64 and --device android exclude each other" in ran.err
    assert "exclude" not in mfs("parity", tmp_path, "--on", "ios", "--device", "ios", "--serial", "x").err
