# SPDX-License-Identifier: Apache-2.0
"""The node's limit covers a cloud from taking to publishing; the segmenter gets what is left."""

import math

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from pointdistill_ros.budget import LatencyBudget
from pointdistill_ros.model.degradation import LADDER
from pointdistill_ros.nodes.shedding import LEAST_MS, RECENT, CloudBudget, Shedding
from pointdistill_ros.nodes.status import Level

VOXELS = [2000, 1500, 1200, *(min(1200, step.max_voxels) for step in LADDER[3:])]
"""Voxels that each step leaves of the scan here."""


class Machine:
    """A segmenter that takes so many milliseconds per voxel, with a real budget and no clock."""

    def __init__(self, ms_per_voxel):
        self.ms_per_voxel, self.now, self.budget = ms_per_voxel, 0.0, None

    @property
    def max_latency_ms(self):
        return 0.0 if self.budget is None else self.budget.max_latency_ms

    @max_latency_ms.setter
    def max_latency_ms(self, value):
        if not value:
            self.budget = None
        elif self.budget is None:
            self.budget = LatencyBudget(value, [1.0], clock=lambda: self.now)
        else:
            self.budget.max_latency_ms = value

    def __call__(self):
        step = 0
        if self.budget is not None:
            self.budget.begin()
            step = self.budget.choose([[voxels] for voxels in VOXELS]).step
        self.now += 1e-3 * self.ms_per_voxel * VOXELS[step]
        if self.budget is not None:
            self.budget.end()


def drive(machine, limit_ms, rest_ms, clouds=10, node=None):
    """What was done with the last of the clouds."""
    node = node or CloudBudget(machine)
    for _ in range(clouds):
        node.begin(limit_ms)
        machine()
        shedding = node.end(1e-3 * rest_ms)
    return shedding


def test_no_limit_is_no_budget():
    machine = Machine(0.1)
    shedding = drive(machine, 0.0, 5.0)
    assert machine.budget is None
    assert (shedding.step, shedding.limit_ms, shedding.exhausted) == ("", 0.0, False)
    assert shedding.judge() == (Level.OK, "")
    assert shedding.values["latency budget ms"] == "off"


def test_decoding_and_publishing_count():
    """200 ms of network: 250 ms are enough alone, but not with 60 ms of other work."""
    assert drive(Machine(0.1), 250.0, 0.0).step == ""
    shedding = drive(Machine(0.1), 250.0, 60.0)
    assert shedding.step == "near field 2x"
    assert 60.0 < shedding.expected_ms <= 250.0
    assert shedding.expected_ms == pytest.approx(60.0 + 150.0, rel=0.1)
    assert shedding.judge()[0] == Level.WARN


def test_one_slow_cloud_changes_nothing():
    machine = Machine(0.1)
    node = CloudBudget(machine)
    drive(machine, 250.0, 5.0, RECENT, node)
    drive(machine, 250.0, 500.0, 1, node)
    assert drive(machine, 250.0, 5.0, 1, node).step == ""
    assert machine.max_latency_ms == pytest.approx(245.0)


@pytest.mark.parametrize("rest", [0.0, 40.0])
def test_a_limit_that_cannot_be_kept_is_called_so(rest):
    machine = Machine(1.0)
    shedding = drive(machine, 20.0, rest)
    assert (shedding.step, shedding.exhausted) == (LADDER[-1].name, True)
    assert machine.max_latency_ms == pytest.approx(20.0 if rest == 0 else LEAST_MS)
    assert shedding.expected_ms == pytest.approx(1000.0 + rest, rel=0.2)
    level, reason = shedding.judge()
    assert level == Level.ERROR
    assert reason.startswith("cannot stay within 20 ms, ")
    assert reason.endswith(" ms expected even with voxel cap 1000")


def test_the_limit_may_come_change_and_go():
    machine = Machine(0.1)
    node = CloudBudget(machine)
    assert drive(machine, 0.0, 1.0, 3, node).step == ""
    assert drive(machine, 100.0, 1.0, 5, node).step.startswith("voxel cap")
    assert drive(machine, 1000.0, 1.0, 50, node).step == ""
    assert machine.budget is not None
    assert drive(machine, 0.0, 1.0, 1, node) == Shedding()
    assert machine.budget is None


def test_nothing_is_expected_before_the_first_measure():
    shedding = drive(Machine(0.1), 50.0, 1.0, clouds=1)
    assert math.isnan(shedding.expected_ms) and not shedding.exhausted
