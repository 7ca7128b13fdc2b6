# SPDX-License-Identifier: Apache-2.0
"""Diagrams: every value at its place, none invented, text that cannot break the page."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.evaluation.plots import HEIGHT, WIDTH, Series, histogram, lines

VALUES = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=30)


@given(VALUES)
def test_every_value_is_a_dot_inside_the_frame(values):
    svg = lines(range(len(values)), [Series("a", values)], unit="%")
    known = [v for v in values if v is not None]
    if not known:
        assert svg == ""
        return
    root = ElementTree.fromstring(svg)
    dots = root.findall("circle")
    assert len(dots) == len(known)
    for dot in dots:
        assert -0.1 <= float(dot.get("cx")) <= WIDTH + 0.1
        assert -0.1 <= float(dot.get("cy")) <= HEIGHT + 0.1
    highest = min(dots, key=lambda dot: float(dot.get("cy")))
    best = max(known)
    assert f": {best:.1f} %" in highest.find("title").text or len(set(known)) > 1


def test_gaps_break_the_line():
    svg = lines([0, 1, 2, 3], [Series("a", [1, None, 2, 3])], unit="%")
    points = [line.get("points").split() for line in ElementTree.fromstring(svg).iter("polyline")]
    assert [len(p) for p in points] == [1, 2]


def test_long_series_become_means_with_their_range():
    values = np.sin(np.arange(5000)).tolist()
    root = ElementTree.fromstring(lines(range(5000), [Series("a", values)], unit="%"))
    assert not root.findall("circle") and root.find("polygon") is not None
    assert len(root.find("polyline").get("points").split()) <= 300


def test_names_cannot_break_it():
    svg = lines([0, 1], [Series("<b>&", [1, 2], 1)], unit='"<i>')
    assert "<b>" not in svg and "<i>" not in svg
    assert ElementTree.fromstring(svg).find("polyline").get("class") == "line c1"


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=60))
def test_a_histogram_holds_every_value(values):
    root = ElementTree.fromstring(histogram(values, unit="ms", marks={"p50": float(values[0])}))
    counted = [int(re.search(r": (\d+)$", t.text).group(1)) for t in root.iter("title")]
    assert sum(counted) == len(values)


def test_nothing_gives_nothing():
    assert histogram([], unit="ms", marks={}) == ""
    assert lines([], [Series("a", [])], unit="%") == ""


@pytest.mark.parametrize(("low", "high"), [(0, 0), (1, 1), (0, 1e-12), (-5, 5), (99.2, 99.4)])
def test_ticks_are_few_and_distinct(low, high):
    root = ElementTree.fromstring(lines([0, 1], [Series("a", [low, high])], unit=""))
    ticks = [float(t.text) for t in root.findall("text") if t.get("text-anchor") == "end"]
    assert 2 <= len(ticks) <= 8 and len(set(ticks)) == len(ticks)
    assert ticks[0] <= low + 1e-9 and ticks[-1] >= high - 1e-9
