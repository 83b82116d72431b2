"""Colours that can be told apart, error maps whose scale is true, and bars as long as their figures."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

import mfs_deploy.report
from mfs_deploy.report import pictures
from mfs_deploy.report.charts import (
    Bar,
    Chart,
    Mark,
    Part,
)

CSS = (Path(mfs_deploy.report.__file__).parent / "page.css").read_text("utf-8")


def schemes() -> dict[str, dict[str, str]]:
    """Colours by name, of the light page, the dark one and the printed one."""
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    return {
        name: dict(re.findall(r"--(\w+): (#\w{6})", block)) for name, block in zip(("light", "dark", "print"), blocks, strict=True)
    }


def contrast(a: str, b: str) -> float:
    """As WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_and_bars_can_be_read(scheme):
    colours = schemes()[scheme]
    for text, ground in itertools.product(("ink", "quiet", "link", "bad"), ("paper", "raised")):
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    bars = [name for name in colours if name.startswith("look")]
    assert len(bars) == 8
    for name in bars:
        assert contrast(colours[name], colours["paper"]) >= 3.0, name


def test_every_colour_is_of_all_schemes():
    light, dark, printed = schemes().values()
    assert light.keys() == dark.keys() == printed.keys()
    assert set(re.findall(r"var\(--(\w+)\)", CSS)) == light.keys()


def test_colours_of_an_error_map_lie_on_its_scale():
    errors = np.array([[0.0, 1e-9, 1e-7, 1e-4, 1.0, 3.0, np.nan, np.inf]])
    zero, less, least, middle, most, more, nan, inf = pictures.error_map(errors)[0].tolist()
    assert zero == less == least
    assert most == more == nan == inf
    bar = pictures.error_map(10.0 ** np.linspace(-pictures.DECADES, 0, 256)[None])[0].tolist()
    assert (bar[0], bar[-1]) == (zero, most)
    assert bar.index(middle) == round(255 * 3 / 7)


@pytest.mark.parametrize("longest", [1e-6, 0.3, 1.0, 7.2, 99.9, 100.0, 145.2, 1e9, 1e15])
def test_bars_are_as_long_as_their_figures_and_fit_their_axis(longest):
    bars = (
        Bar("a", "", (Part("x", longest / 2, "look0"), Part("y", longest / 4, "look1"))),
        Bar("b", "", (Part("x", longest / 8, "look0"),), (Mark("m", longest),)),
    )
    chart = Chart("", "", bars)
    end = chart.ticks[-1]
    assert longest <= end * (1 + 1e-9)
    assert longest > end / 2
    assert 2 <= len(chart.ticks) <= 7
    assert np.allclose(np.diff(chart.ticks), chart.ticks[1])
    (x, y), (z,) = chart.pieces(bars[0]), chart.pieces(bars[1])
    percent = lambda text: float(text.removesuffix("%"))  # noqa: E731
    assert percent(x.x) == percent(z.x) == 0
    assert percent(y.x) == percent(x.width) == pytest.approx(100 * longest / 2 / end, abs=1e-3)
    assert percent(y.width) == pytest.approx(percent(x.width) / 2, abs=2e-3)
    assert [part.name for part in chart.legend] == ["x", "y"]


def test_a_chart_of_zeros_still_has_an_axis():
    chart = Chart("", "", (Bar("a", "", (Part("x", 0.0, "look0"),)),))
    assert chart.ticks[0] == 0 < chart.ticks[-1]
    assert chart.pieces(chart.bars[0]) == []


def test_classes_of_instructions_add_up():
    from mfs_deploy.report import tables

    counts = {"total": 100, "fma32": 40, "fma16": 5, "fmlal": 1, "load": 30, "sve": 4, "other": 20}
    found = tables.by_class(counts)
    assert sum(found.values()) == 100
    assert (found["multiply-add, float16"], found["other"]) == (6, 24)
