# SPDX-License-Identifier: Apache-2.0
import math
import random
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointdistill_ros.budget import (
    FITS,
    LEARNING,
    PATIENCE,
    RETURNS,
    CostModel,
    LatencyBudget,
    row_costs,
)
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.degradation import LADDER
from pointdistill_ros.model.thinning import VoxelCounts

COSTS = (10.0, 4.0, 4.0, 4.0, 4.0)
FULL = 40_000
"""Voxels of the scan that takes 100 ms."""


@cache
def rows(n):
    """Voxels per step and stage of a scan of n voxels, in the proportions of a 64-beam scan."""
    out = []
    for step in LADDER:
        row = [n, int(0.57 * n), n // 4, n // 10, n // 33]
        if step.coarse:
            row[0] = row[1]
        elif step.near_radius:
            row[0] = int(0.72 * n)
        out.append([min(r, step.max_voxels or r) for r in row])
    return out


def work(row):
    return sum(cost * n for cost, n in zip(COSTS, row, strict=True))


ALL_WORK = work(rows(FULL)[0])


class Machine:
    """Segments scans in simulated time: seconds = 0.1 (fixed + (1 - fixed) work) slowdown noise."""

    def __init__(self, budget_ms, fixed=0.2, noise=0.0, seed=0):
        self.now = 0.0
        self.budget = LatencyBudget(budget_ms, COSTS, clock=lambda: self.now)
        self.fixed, self.noise, self.random = fixed, noise, random.Random(seed)
        self.steps, self.seconds = [], []

    def cost(self, row):
        return 0.1 * (self.fixed + (1 - self.fixed) * work(row) / ALL_WORK)

    def scan(self, voxels=FULL, slowdown=1.0):
        self.budget.begin()
        step = self.budget.choose(rows(voxels)).step
        seconds = self.cost(rows(voxels)[step]) * slowdown
        seconds *= math.exp(self.random.gauss(0, self.noise)) if self.noise else 1.0
        self.now += seconds
        assert self.budget.end() == pytest.approx(seconds)
        self.steps.append(step)
        self.seconds.append(seconds)
        return step

    def run(self, scans, **kwargs):
        return [self.scan(**kwargs) for _ in range(scans)][-1]

    def changes(self, since=0):
        return sum(a != b for a, b in pairwise(self.steps[since:]))

    def best_step(self, voxels=FULL, slowdown=1.0):
        """The mildest step that truly fits."""
        limit = self.budget.max_latency_ms / 1e3
        fits = [s for s, r in enumerate(rows(voxels)) if self.cost(r) * slowdown <= limit]
        return fits[0] if fits else len(LADDER) - 1


def test_nothing_is_shed_while_scans_fit():
    machine = Machine(120)
    machine.run(200)
    assert set(machine.steps) == {0}
    assert machine.budget.degradation.name == "none" and not machine.budget.exhausted
    assert machine.budget.predicted_ms == pytest.approx(100)


def test_the_first_scan_is_whole_and_the_second_fits():
    machine = Machine(60)
    assert machine.scan() == 0
    assert machine.scan() > 0
    machine.run(3)
    assert machine.seconds[-1] <= 0.06


def test_a_crowded_scan_is_met_at_once_and_forgotten_after_patience():
    machine = Machine(140)
    machine.run(30)
    assert machine.scan(voxels=2 * FULL) > 0
    assert machine.seconds[-1] <= 0.14
    machine.run(10, voxels=2 * FULL)
    begin = len(machine.steps)
    assert machine.run(PATIENCE + 1) == 0
    assert machine.steps[begin : begin + PATIENCE - 1] == [machine.steps[begin]] * (PATIENCE - 1)


def test_one_or_two_slow_scans_change_nothing():
    machine = Machine(120, noise=0.02)
    machine.run(50)
    for slowdown in (20.0, 1.0, 1.0, 1.0, 8.0, 8.0, 1.0, 1.0, 1.0):
        machine.scan(slowdown=slowdown)
    machine.run(50)
    assert set(machine.steps) == {0}


def test_a_machine_that_stays_slow_is_met_within_three_scans_and_recovery_follows():
    machine = Machine(140, noise=0.02)
    machine.run(50)
    machine.run(4, slowdown=2.0)
    assert machine.steps[-1] > 0
    machine.run(200, slowdown=2.0)
    assert machine.seconds[-1] <= 0.14
    assert machine.changes(since=60) <= 2
    machine.run(4 * PATIENCE)
    assert machine.steps[-1] == 0


def test_a_load_that_wobbles_about_the_limit_moves_once():
    machine = Machine(100 / 0.93, fixed=0.0)  # the full scan does not fit, 0.94 of it would
    for _ in range(10):
        machine.run(3 * PATIENCE)
        machine.run(3 * PATIENCE, voxels=int(0.94 * FULL))
    settled = LEARNING + 1  # the first scans are followed both ways
    assert machine.steps[settled] > 0 and machine.changes(since=settled) == 0


def test_a_return_that_fails_is_tried_ever_more_rarely():
    class Cliff(Machine):
        """Costs twice as much as soon as everything is kept, which no power law foresees."""

        def cost(self, row):
            return super().cost(row) * (2.0 if row[0] > 0.9 * FULL else 1.0)

    machine = Cliff(1e3 * Machine(1, fixed=0.0).cost(rows(FULL)[1]) / 0.6, fixed=0.0)
    machine.run(1200)
    returns = sum(a > b == 0 for a, b in pairwise(machine.steps))
    assert 2 <= returns <= 6  # tempted at all, and 57 times with the same patience each time
    assert machine.steps[-1] > 0


def test_a_budget_out_of_reach_ends_at_the_last_step_and_says_so():
    machine = Machine(10, fixed=0.5)
    machine.run(20)
    assert machine.steps[-1] == len(LADDER) - 1
    assert machine.budget.exhausted


def test_the_budget_may_change_while_running():
    machine = Machine(1000)
    machine.run(10)
    machine.budget.max_latency_ms = 50
    assert machine.scan() > 0
    machine.budget.max_latency_ms = 1000
    assert machine.run(PATIENCE) == 0


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_senseless_budgets_are_refused(value):
    with pytest.raises(ConfigError, match="max_latency_ms"):
        LatencyBudget(value, COSTS)


def test_rows_of_another_shape_are_refused():
    budget = LatencyBudget(100, COSTS)
    with pytest.raises(ValueError, match="rows"):
        budget.choose(rows(FULL)[:-1])
    with pytest.raises(ValueError, match="rows"):
        budget.choose([row[:-1] for row in rows(FULL)])


def test_only_scans_that_were_finished_are_learnt_from():
    now = [0.0]
    budget = LatencyBudget(100, COSTS, clock=lambda: now[0])
    assert budget.end() == 0.0
    budget.begin()
    now[0] += 5.0
    budget.end()  # an empty scan: nothing was chosen
    budget.begin()
    budget.choose(rows(FULL))
    now[0] += 5.0  # fails half-way; the next one begins
    budget.begin()
    budget.choose(rows(FULL))
    now[0] += 0.05
    budget.end()
    budget.choose(rows(FULL))
    assert budget.predicted_ms == pytest.approx(50)


@settings(max_examples=20, deadline=None)
@given(
    st.floats(0.0, 0.7), st.floats(0.25, 1.5), st.sampled_from([0.0, 0.03, 0.1]), st.integers(0, 99)
)
def test_constant_load_never_oscillates(fixed, ratio, noise, seed):
    machine = Machine(100 * ratio, fixed, noise, seed)
    machine.run(400)
    assert machine.changes(since=40) <= (6 if noise else 0)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.0, 0.4), st.floats(0.3, 1.5), st.integers(0, 99))
def test_settles_near_the_mildest_step_that_fits(fixed, ratio, seed):
    machine = Machine(100 * ratio, fixed, 0.02, seed)
    machine.run(300)
    limit = machine.budget.max_latency_ms / 1e3
    late = [s for s in machine.seconds[100:] if s > limit]
    if machine.cost(rows(FULL)[-1]) < FITS * limit / 1.05:
        assert len(late) <= 6
    # never much further down than needed: a step milder than this would use the margin up
    milder = max(machine.steps[-1] - 4, 0)
    assert milder <= machine.best_step()


@settings(max_examples=15, deadline=None)
@given(st.floats(0.0, 0.5), st.floats(0.3, 1.2), st.floats(1.5, 4.0), st.integers(0, 99))
def test_recovers_from_any_load(fixed, ratio, crowd, seed):
    machine = Machine(100 * ratio, fixed, 0.03, seed)
    machine.run(60, voxels=int(crowd * FULL))
    machine.run(40, voxels=int(crowd * FULL), slowdown=1.5)
    machine.run(12 * PATIENCE, voxels=FULL // 3)
    # the mildest step that fits with room to spare
    ample = machine.best_step(FULL // 3, slowdown=1.1 / RETURNS)
    assert machine.steps[-1] <= ample


traces = st.lists(
    st.tuples(st.integers(1, 200_000), st.floats(1e-6, 10.0)), min_size=1, max_size=120
)


def drive(trace, budget_ms):
    now = [0.0]
    budget = LatencyBudget(budget_ms, COSTS, clock=lambda: now[0])
    steps = []
    for voxels, seconds in trace:
        budget.begin()
        table = rows(voxels)
        steps.append(budget.choose(table).step)
        predicted = [budget.model.predict(work(row)) for row in table]
        assert all(a >= b * (1 - 1e-12) for a, b in pairwise(predicted))
        now[0] += seconds
        budget.end()
    return steps


@settings(max_examples=60, deadline=None)
@given(traces, st.floats(0.1, 1e5))
def test_any_trace_is_bounded_repeatable_and_climbs_slowly(trace, budget_ms):
    steps = drive(trace, budget_ms)
    assert steps == drive(trace, budget_ms)
    assert all(0 <= step < len(LADDER) for step in steps)
    moved = 0
    for i, (before, after) in enumerate(pairwise(steps), 1):
        assert after >= before or i - moved >= PATIENCE or i < LEARNING
        moved = i if after != before else moved


@given(st.integers(1, 300_000), st.floats(0.01, 1.0), st.floats(1.0, 2000.0), st.floats(1.0, 10.0))
def test_a_smaller_budget_never_sheds_less(voxels, seconds, budget_ms, factor):
    chosen = []
    for limit in (budget_ms, budget_ms / factor):
        now = [0.0]
        budget = LatencyBudget(limit, COSTS, clock=lambda now=now: now[0])
        budget.begin()
        budget.choose(rows(FULL))
        now[0] += seconds
        budget.end()
        step = budget.choose(rows(voxels)).step
        chosen.append(step)
        predicted = [1e3 * budget.model.predict(work(row)) for row in rows(voxels)]
        fits = [i for i, ms in enumerate(predicted) if ms <= FITS * limit * (1 + 1e-9)]
        assert step == (fits[0] if fits else len(LADDER) - 1)  # the first that fits, in order
    assert chosen[0] <= chosen[1]


@given(st.floats(0.3, 1.1), st.floats(1e-6, 1e-3), st.lists(st.integers(1, 9), min_size=8))
def test_the_model_finds_a_power_law(exponent, pace, levels):
    model = CostModel()
    sizes = [1e4 * 4**level for level in (1, 6, 2, 5, 1, 6)] + [1e4 * 2**level for level in levels]
    for size in sizes:
        for _ in range(4):
            model.observe(size, pace * size**exponent)
    assert model.exponent == pytest.approx(exponent, abs=0.05)
    assert model.predict(sizes[-1]) == pytest.approx(pace * sizes[-1] ** exponent, rel=1e-6)


def test_a_constant_load_teaches_nothing_and_forgets_nothing():
    model = CostModel()
    for size in [1e6] * 6 + [1e5] * 6:
        model.observe(size, size**0.4)
    learnt = model.exponent
    rng = random.Random(0)
    for _ in range(5000):
        model.observe(1e5 * rng.uniform(0.98, 1.02), 1e5**0.4 * rng.uniform(0.8, 1.25))
    assert model.exponent == learnt < 0.6


def test_row_costs_follow_the_shape_of_the_network():
    costs = row_costs(PTv3Config())
    assert len(costs) == 5 and min(costs) > 0
    wider = row_costs(PTv3Config(decoder_channels=(128, 64, 128, 128)))
    assert wider[0] > costs[0] and wider[1:] == costs[1:]
    longer = row_costs(PTv3Config(patch_sizes=(1024, 1024, 1024, 1024, 2048)))
    assert longer[4] > costs[4] and longer[:4] == costs[:4]


def test_a_cold_start_does_not_shed_for_long():
    """The first scan takes three times as long as the rest: two scans later all is as it was."""
    clock = [0.0]
    budget = LatencyBudget(300, [1.0], clock=lambda: clock[0])
    counts = VoxelCounts((40_000,), 20_000, 30_000).rows(budget.steps)
    steps = []
    for scan in range(8):
        budget.begin()
        step = budget.choose(counts)
        steps.append(step.step)
        seconds = 0.25 * (counts[step.step][0] / 40_000) ** 0.8
        clock[0] += 3 * seconds if scan == 0 else seconds
        budget.end()
    assert steps[0] == 0 and steps[1] > 0
    assert steps[3:] == [0] * 5
