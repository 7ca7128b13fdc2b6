# SPDX-License-Identifier: Apache-2.0
"""Fronts, survivors, and latencies in bands."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.architecture.halving import Point, fronts, rank_correlation, survivors
from training.architecture.latency import Latency, spread_over

POINTS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.builds(Point, st.integers(0, 5).map(float), st.integers(0, 5).map(float)),
    max_size=12,
)


@given(POINTS)
def test_fronts_sort_by_dominance(points):
    found = fronts(points)
    assert sorted(name for front in found for name in front) == sorted(points)
    for number, front in enumerate(found):
        for name in front:
            assert not any(points[other].dominates(points[name]) for other in front)
            if number:
                assert any(points[other].dominates(points[name]) for other in found[number - 1])
        latencies = [points[name].latency for name in front]
        assert latencies == sorted(latencies)


@given(POINTS, st.integers(1, 12))
def test_survivors_are_dominated_by_survivors_alone(points, count):
    kept = survivors(points, count)
    assert len(kept) == len(set(kept)) == min(count, len(points))
    front = set(fronts(points)[0]) if points else set()
    if len(front) <= count:
        assert front <= set(kept)
    for gone in set(points) - set(kept):
        for name in kept:
            assert not points[gone].dominates(points[name])


def test_better_in_one_and_no_worse_in_the_other_dominates():
    point = Point(0.5, 0.6)
    assert point.dominates(Point(0.6, 0.6)) and point.dominates(Point(0.5, 0.5))
    assert not point.dominates(point)
    assert not point.dominates(Point(0.4, 0.5)) and not point.dominates(Point(0.6, 0.7))


def test_the_fastest_survives_although_it_scores_least():
    points = {"fast": Point(0.1, 0.2), "good": Point(0.5, 0.6), "worse": Point(0.6, 0.5)}
    assert set(survivors(points, 2)) == {"fast", "good"}


def test_rank_correlation():
    assert rank_correlation([1, 2, 3], [10, 20, 90]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 1, 2, 3], [5, 6, 7, 8]) == pytest.approx(0.9487, abs=1e-4)
    assert rank_correlation([1, 2], [1, 2]) is None
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None


def test_the_drawn_are_spread_over_the_latencies():
    latencies = {f"{i:02d}": Latency(i / 100, i, 1, {}) for i in range(100)}
    chosen = spread_over(latencies, 5, 0.495, np.random.default_rng(0))
    ratios = [latencies[name].ratio for name in chosen]
    assert all(i * 0.1 <= ratio < (i + 1) * 0.1 for i, ratio in enumerate(ratios))
    assert chosen == spread_over(latencies, 5, 0.495, np.random.default_rng(0))
    assert len(spread_over(latencies, 500, 0.495, np.random.default_rng(0))) == 50
    assert spread_over(latencies, 0, 1, np.random.default_rng(0)) == []
