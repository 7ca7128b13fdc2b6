# SPDX-License-Identifier: Apache-2.0
"""Rounds, percentiles and plans on a clock that only calls move."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.benchmark.timing import Rounds, plan_runs, spread

from .doubles import FakeTime


def test_percentiles_of_known_times():
    fake = FakeTime()
    rounds = Rounds({"a": fake.call("a", *(i / 1000 for i in range(1, 102)))}, fake.clock)
    samples = rounds.measure("", runs=101, warm_up=0, seconds=1e9)["a"]
    # the first call is always untimed
    assert sorted(samples.wall) == pytest.approx([*range(1, 102)])
    found = spread(samples)
    assert (found.p50, found.p90, found.p99, found.min) == pytest.approx((51, 91, 100, 1))
    assert found.cpu == pytest.approx(102)
    assert (found.n, found.warm_up) == (101, 1)


def test_a_median_is_not_moved_by_one_stall():
    fake = FakeTime()
    rounds = Rounds({"a": fake.call("a", 0.01, 0.01, 0.01, 9.0)}, fake.clock)
    assert spread(rounds.measure("", 40, 5, 1e9)["a"]).p50 == pytest.approx(10)


def test_calls_take_turns():
    fake = FakeTime()
    rounds = Rounds({name: fake.call(name, 0.01) for name in "abc"}, fake.clock)
    rounds.measure("", runs=20, warm_up=2, seconds=1e9)
    timed = fake.log[6:]
    for begin in range(0, len(timed), 3):
        assert sorted(timed[begin : begin + 3]) == ["a", "b", "c"]
    # and none is always first, where caches are whatever the last round left
    assert {timed[begin] for begin in range(0, len(timed), 3)} == {"a", "b", "c"}


def test_slow_calls_run_less_often_all_along_and_say_so():
    fake = FakeTime()
    calls = {"slow": fake.call("slow", 5.0), "fast": fake.call("fast", 0.1)}
    samples = Rounds(calls, fake.clock).measure("", runs=50, warm_up=1, seconds=60)
    assert len(samples["fast"].wall) == 50
    assert 3 <= len(samples["slow"].wall) <= 11
    assert fake.wall <= 60 + 5
    timed = fake.log[2:]
    first, last = timed.index("slow"), len(timed) - 1 - timed[::-1].index("slow")
    assert first < len(timed) / 4 and last > len(timed) * 3 / 4
    assert spread(samples["slow"]).n == len(samples["slow"].wall)


def test_time_that_is_long_over_still_gives_three_runs_each():
    fake = FakeTime()
    calls = {name: fake.call(name, 10.0) for name in "ab"}
    samples = Rounds(calls, fake.clock).measure("", runs=50, warm_up=5, seconds=1)
    assert [len(s.wall) for s in samples.values()] == [3, 3]


def test_a_machine_that_becomes_slow_does_not_make_it_endless():
    fake = FakeTime()
    calls = {"a": fake.call("a", *[0.1] * 6, *[100.0] * 94)}
    samples = Rounds(calls, fake.clock).measure("", runs=50, warm_up=5, seconds=20)
    assert len(samples["a"].wall) < 6


@given(
    st.lists(st.floats(1e-4, 30), min_size=1, max_size=12),
    st.integers(1, 80),
    st.floats(0, 500),
    st.integers(0, 3),
)
def test_plans_fit_the_time_or_are_the_least(costs, runs, budget, least):
    planned = plan_runs(costs, runs, budget, least)
    least = min(least, runs)
    assert all(least <= n <= runs for n in planned)
    spare = [c for c, n in zip(costs, planned, strict=True) if n > least]
    at_least = sum(c * least for c, n in zip(costs, planned, strict=True) if n == least)
    extra = sum(c * n for c, n in zip(costs, planned, strict=True) if n > least)
    assert not spare or extra <= budget * (1 + 1e-9) + at_least
    if sum(costs) * runs <= budget * (1 - 1e-9):
        assert planned == [runs] * len(costs)
    by_cost = [n for _, n in sorted(zip(costs, planned, strict=True))]
    assert all(n >= m for n, m in pairwise(by_cost)) or len(set(costs)) < len(costs)
