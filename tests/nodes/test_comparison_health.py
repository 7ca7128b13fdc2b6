# SPDX-License-Identifier: Apache-2.0
"""Levels of a comparison: silence, bad clouds, disagreement. The clock is turned by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("diagnostic_msgs", reason="ROS messages are not installed")

from pointdistill_ros.evaluation.agreement import Labelling, compare
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.nodes.comparator import Comparison, Labeller, Times
from pointdistill_ros.nodes.comparison_config import AlarmConfig
from pointdistill_ros.nodes.comparison_health import Alarm, ComparisonHealth
from pointdistill_ros.nodes.pairing import SIDES, PairingCounters
from pointdistill_ros.nodes.status import Level

LIMITS = AlarmConfig(warn_below=0.8, error_below=0.6, hysteresis=0.05, min_clouds=2)
KITTI = LabelSet.named("semantic-kitti")
shares = st.lists(st.floats(0, 1), max_size=60)


@given(shares)
def test_an_alarm_never_misses_and_ends_only_well_above_its_threshold(values):
    alarm = Alarm()
    for share in values:
        before = alarm.level
        level = alarm(share, LIMITS)
        plain = Level.ERROR if share < 0.6 else Level.WARN if share < 0.8 else Level.OK
        assert level >= plain, "a level must rise at once"
        if before == Level.ERROR and level < Level.ERROR:
            assert share >= 0.65
        if before >= Level.WARN and level == Level.OK:
            assert share >= 0.85
        if share >= 0.85:
            assert level == Level.OK, "well above, it must end"
        assert level in (before, plain) or plain < level < before


@given(st.lists(st.floats(0.8, 0.8499), min_size=2))
def test_an_alarm_does_not_flutter_inside_the_hysteresis(values):
    alarm = Alarm()
    assert {alarm(share, LIMITS) for share in values} == {Level.OK}
    assert alarm(0.79, LIMITS) == Level.WARN
    assert {alarm(share, LIMITS) for share in values} == {Level.WARN}


def test_nan_changes_nothing():
    alarm = Alarm()
    alarm(0.1, LIMITS)
    assert alarm(float("nan"), LIMITS) == Level.ERROR


def comparison(share, clouds=10):
    teacher = np.zeros(100, np.uint8)
    student = (np.arange(100) >= 100 * share).astype(np.uint8)
    agreement = compare(Labelling(student), Labelling(teacher), len(KITTI))
    times = Times(0.1, 0.5, 0.4)
    who = Labeller("small", KITTI)
    return Comparison(None, who, who, agreement, agreement, clouds, times, times, None)


class Bench:
    def __init__(self):
        self.now = 50.0
        self.health = ComparisonHealth(clock=lambda: self.now)
        self.publishers = dict.fromkeys(SIDES, 1)

    def look(self):
        counters = dict.fromkeys(SIDES, PairingCounters(5, 3, 1, 0))
        statuses = self.health.statuses(counters, self.publishers, LIMITS)
        return {
            s.name: SimpleNamespace(level=s.level, says=s.message, of=s.values) for s in statuses
        }

    def both(self, share=1.0, clouds=10, seconds=0.1):
        """A pair arrives."""
        self.now += seconds
        for side in SIDES:
            self.health.arrived(side, 0.1)
        self.health.compared(comparison(share, clouds), LIMITS, 50)

    def wait(self, seconds):
        for _ in range(int(10 * seconds)):
            self.now += 0.1
            self.look()


@pytest.fixture
def bench():
    bench = Bench()
    bench.health.activated()
    return bench


def test_a_node_that_is_not_active_is_stale():
    assert {s.level for s in Bench().look().values()} == {Level.STALE}


def test_agreement_is_fine_and_its_figures_are_shown(bench):
    bench.both(0.9)
    looked = bench.look()
    assert {s.level for s in looked.values()} == {Level.OK}
    assert looked["agreement"].of["agreement"] == "0.9000"
    assert looked["agreement"].of["student bicycle, teacher car"] == "0.1000"
    assert looked["agreement"].of["agreement 0 to 10 m"] == "0.9000"
    assert looked["teacher"].of["age p50 ms"] == "100.0"
    assert (looked["teacher"].of["waiting"], looked["teacher"].of["without partner"]) == ("1", "1")


@pytest.mark.parametrize(("share", "level"), [(0.7, Level.WARN), (0.5, Level.ERROR)])
def test_disagreement_is_told_and_ends(bench, share, level):
    bench.both(share)
    agreement = bench.look()["agreement"]
    assert agreement.level == level
    assert f"less than {80 if level == Level.WARN else 60} %" in agreement.says
    bench.both(0.84 if level == Level.WARN else 0.64)  # inside the hysteresis
    bench.wait(3)
    assert bench.look()["agreement"].level == level
    bench.both(0.9)
    bench.wait(3)
    assert bench.look()["agreement"].level == Level.OK


def test_too_few_clouds_are_not_judged(bench):
    bench.both(0.1, clouds=1)
    assert bench.look()["agreement"].level == Level.OK
    bench.both(0.1, clouds=2)
    assert bench.look()["agreement"].level == Level.ERROR


def test_silence_is_told_by_side_and_ends(bench):
    bench.both()
    bench.wait(4)
    looked = bench.look()
    assert looked["student"].level == Level.ERROR
    assert looked["student"].says == "no labels for over 3 s, publisher present"
    assert looked["teacher"].level == Level.OK
    bench.publishers["teacher"] = 0
    bench.wait(12)
    looked = bench.look()
    assert (looked["teacher"].level, looked["agreement"].level) == (Level.WARN, Level.STALE)
    assert looked["teacher"].says == "no labels for over 15 s, no publisher"
    bench.both()
    for _ in range(25):
        bench.both()
        bench.look()
    assert {s.level for s in bench.look().values()} == {Level.OK}


def test_no_labels_at_all_warn(bench):
    bench.wait(4)
    assert bench.look()["student"].level == Level.WARN
    assert bench.look()["student"].says == "no labels yet, publisher present"


def test_sides_that_never_meet_are_explained(bench):
    for _ in range(160):
        bench.now += 0.1
        for side in SIDES:
            bench.health.arrived(side, 0.1)
    looked = bench.look()
    assert looked["agreement"].level == Level.WARN
    assert "same stamp" in looked["agreement"].says


def test_clouds_that_cannot_be_read_or_compared_are_told_until_one_can(bench):
    bench.health.refused("teacher", "no field 'class_id'")
    bench.health.incomparable("different points")
    looked = bench.look()
    assert (looked["teacher"].level, looked["agreement"].level) == (Level.WARN, Level.ERROR)
    assert looked["teacher"].says == "bad cloud: no field 'class_id'"
    assert looked["teacher"].of["invalid"] == looked["agreement"].of["incomparable"] == "1"
    bench.both(seconds=3.0)
    bench.both()
    assert {s.level for s in bench.look().values()} == {Level.OK}


def test_activation_forgets(bench):
    bench.both(0.1)
    bench.health.deactivated()
    assert {s.level for s in bench.look().values()} == {Level.STALE}
    bench.health.activated()
    assert bench.look()["agreement"].says == "waiting for a cloud with labels of both"


def test_limits_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="error_below"):
        AlarmConfig(warn_below=0.5, error_below=0.6)
