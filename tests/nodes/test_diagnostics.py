# SPDX-License-Identifier: Apache-2.0
"""Health levels: what raises them, how soon, what lowers them; the clock is turned by hand."""

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from builtin_interfaces.msg import Time

from pointdistill_ros.config import DiagnosticsConfig
from pointdistill_ros.errors import CloudError
from pointdistill_ros.nodes.age import Arrival
from pointdistill_ros.nodes.diagnostics import Health
from pointdistill_ros.nodes.shedding import Shedding
from pointdistill_ros.nodes.status import HOLD, Level, diagnostic_array
from pointdistill_ros.nodes.worker import Counters

PERIOD = 0.1
TICK = 0.05


class Bench:
    """A health with a hand-turned clock, looked at every TICK as the node does."""

    def __init__(self):
        self.now = 50.0
        self.health = Health(clock=lambda: self.now)
        self.counters, self.publishers, self.limits = Counters(), 1, DiagnosticsConfig()

    def look(self):
        """Name → status."""
        statuses = self.health.statuses(self.counters, self.publishers, self.limits)
        return {status.name: status for status in statuses}

    def levels(self):
        return {name: status.level for name, status in self.look().items()}

    def drive(self, clouds, age=0.05, shedding=Shedding()):  # noqa: B008 - frozen
        """Clouds at the sensor's period, each with a result."""
        for _ in range(clouds):
            self.now += PERIOD
            self.health.arrived()
            self.health.finished(age, age, shedding)
            self.look()

    def wait_for(self, name, level, limit):
        """Seconds until a status has a level."""
        began = self.now
        while self.levels()[name] != level:
            assert self.now - began < limit, f"{name} not {level.name} after {limit} s"
            self.now += TICK
        return self.now - began


@pytest.fixture
def bench():
    bench = Bench()
    bench.health.loaded({"device": "cpu"})
    bench.health.activated()
    return bench


def test_a_node_that_is_not_active_is_stale_not_broken():
    bench = Bench()
    assert set(bench.levels().values()) == {Level.STALE}


def test_a_steady_sensor_is_fine(bench):
    bench.drive(30)
    assert set(bench.levels().values()) == {Level.OK}
    values = bench.look()["timing"].values
    assert values["output Hz"] == "10.00"
    assert values["age p95 ms"] == "50.0"
    assert bench.health.summary == (0, "")


def test_a_silent_sensor_is_noticed_within_two_periods(bench):
    bench.drive(30)
    assert bench.wait_for("input", Level.WARN, 1.0) <= 2 * PERIOD + 0.1
    bench.publishers = 0
    bench.wait_for("input", Level.ERROR, 1.0)
    status = bench.look()["input"]
    assert status.message == "no cloud for over 1 s, no publisher"
    assert bench.health.summary == (2, f"input: {status.message}")


def test_a_level_outlives_its_cause_by_the_hold_time(bench):
    bench.drive(30)
    bench.wait_for("input", Level.ERROR, 2.0)
    began = bench.now
    while bench.levels()["input"] == Level.ERROR:
        bench.drive(1)
    assert HOLD - PERIOD <= bench.now - began <= HOLD + 2 * PERIOD


def test_a_publisher_without_data_gets_the_dds_hint(bench):
    assert bench.levels()["input"] == Level.OK
    bench.now += bench.limits.silent_after
    status = bench.look()["input"]
    assert status.level == Level.WARN
    assert "publisher present, no data" in status.message
    assert "DDS buffers" in status.message
    bench.publishers = 0
    assert bench.look()["input"].message == "no publisher"


def test_incompatible_qos_is_an_error(bench):
    bench.health.incompatible("RELIABILITY")
    status = bench.look()["input"]
    assert (status.level, status.message) == (
        Level.ERROR,
        "publisher with incompatible QoS: RELIABILITY",
    )


def test_one_bad_cloud_warns_three_in_a_row_are_an_error(bench):
    bench.drive(5)
    for level in (Level.WARN, Level.WARN, Level.ERROR):
        bench.health.arrived()
        bench.health.refused(CloudError("cloud has no field 'z'"))
        status = bench.look()["input"]
        assert (status.level, status.message) == (level, "bad cloud: cloud has no field 'z'")
    bench.drive(30)
    status = bench.look()["input"]
    assert status.level == Level.OK
    assert status.values["last bad cloud"] == "cloud has no field 'z'"


def test_a_failing_network_is_the_models_error(bench):
    bench.drive(5)
    bench.health.refused(RuntimeError("out of memory"))
    status = bench.look()["model"]
    assert status.level == Level.ERROR
    assert status.message == "failed on the last cloud: RuntimeError: out of memory"
    bench.drive(30)
    assert bench.levels()["model"] == Level.OK


def test_a_model_that_cannot_be_loaded_is_an_error():
    bench = Bench()
    bench.health.unloaded("cannot load model x: no such file")
    status = bench.look()["model"]
    assert (status.level, status.message) == (Level.ERROR, "cannot load model x: no such file")


@pytest.mark.parametrize(
    ("age", "level"), [(0.19, Level.OK), (0.25, Level.WARN), (1.1, Level.ERROR)]
)
def test_old_results_are_judged_by_the_limits(bench, age, level):
    bench.drive(20, age=age)
    assert bench.levels()["timing"] == level


def test_dropped_clouds_warn_while_they_are_dropped(bench):
    bench.drive(10)
    bench.counters = Counters(received=20, processed=15, overwritten=5)
    assert bench.levels()["timing"] == Level.WARN
    bench.drive(130)
    assert bench.levels()["timing"] == Level.OK
    assert bench.look()["timing"].values["dropped: overwritten"] == "5"


def test_load_shedding_warns_while_it_lasts_and_names_its_step(bench):
    bench.drive(5, shedding=Shedding(100.0, 60.0))
    timing = bench.look()["timing"]
    assert (timing.level, timing.message) == (Level.OK, "in time")
    assert timing.values["degradation"] == "none"
    bench.drive(5, shedding=Shedding(100.0, 82.34, "near field 2x"))
    timing = bench.look()["timing"]
    assert timing.level == Level.WARN
    assert timing.message == "sheds load to stay within 100 ms: near field 2x"
    values = ("degradation", "latency budget ms", "predicted ms")
    assert [timing.values[key] for key in values] == ["near field 2x", "100", "82.3"]
    assert bench.health.summary == (1, f"timing: {timing.message}")
    bench.drive(30)
    timing = bench.look()["timing"]
    assert timing.level == Level.OK
    assert [timing.values[key] for key in values] == ["none", "off", "nan"]
    assert bench.health.summary == (0, "")


def test_a_teacher_drops_clouds_on_purpose(bench):
    bench.limits = DiagnosticsConfig(warn_dropped=False)
    bench.drive(20)
    bench.counters = Counters(received=20, processed=15, overwritten=5)
    assert bench.look()["timing"].level == Level.OK


def test_a_budget_that_cannot_be_kept_is_an_error(bench):
    bench.drive(5, shedding=Shedding(100.0, 137.2, "voxel cap 1000", exhausted=True))
    timing = bench.look()["timing"]
    assert timing.level == Level.ERROR
    assert timing.message == "cannot stay within 100 ms, 140 ms expected even with voxel cap 1000"


def test_the_summary_knows_the_step_of_a_cloud_before_the_next_look(bench):
    bench.drive(5)
    bench.health.finished(0.05, 0.05, Shedding(100.0, 90.0, "voxel cap 2000"))
    reason = "timing: sheds load to stay within 100 ms: voxel cap 2000"
    assert bench.health.summary == (1, reason)
    bench.health.unloaded("gone")
    bench.look()
    assert bench.health.summary == (2, f"model: gone; {reason}")


def test_timing_tells_every_reason_the_worst_first(bench):
    bench.drive(20, age=1.1, shedding=Shedding(100.0, 90.0, "near field 2x"))
    bench.counters = Counters(received=20, processed=15, overwritten=5)
    timing = bench.look()["timing"]
    assert timing.level == Level.ERROR
    assert timing.message == (
        "results older than 1 s; sheds load to stay within 100 ms: near field 2x; "
        "slower than the sensor: old clouds are dropped"
    )


def test_the_message_carries_level_hardware_and_values(bench):
    bench.drive(3)
    array = diagnostic_array("lidar/segmentation_node", "cpu", Time(sec=7), bench.look().values())
    assert array.header.stamp.sec == 7
    assert [status.name for status in array.status] == [
        "lidar/segmentation_node: model",
        "lidar/segmentation_node: input",
        "lidar/segmentation_node: timing",
    ]
    assert {status.hardware_id for status in array.status} == {"cpu"}
    assert array.status[0].level == b"\x00"
    assert {v.key: v.value for v in array.status[1].values}["publishers"] == "1"


def test_clouds_that_nobody_wants_are_counted_and_no_fault(bench):
    for _ in range(5):
        bench.now += PERIOD
        bench.health.arrived(heard=False)
    timing = bench.look()["timing"]
    assert (timing.level, timing.message) == (Level.OK, "nobody listens: clouds are not labelled")
    assert timing.values["skipped, nobody listens"] == "5"
    assert bench.look()["input"].message == "receiving"
    bench.drive(1)
    assert bench.look()["timing"].message == "in time"
    assert bench.look()["timing"].values["skipped, nobody listens"] == "5"


def old(bench, clouds, age, max_age=0.5):
    for _ in range(clouds):
        bench.now += PERIOD
        bench.health.arrived()
        bench.health.stamped(Arrival(age, False, 0.0, bench.now), max_age)


def test_clouds_that_come_in_too_old_blame_the_clocks(bench):
    old(bench, 2, 3.0)
    assert bench.look()["input"].level == Level.OK, "a burst of the network says nothing yet"
    old(bench, 1, 3.0)
    given = bench.look()["input"]
    assert given.level == Level.ERROR
    assert given.message.startswith("clouds come in 3 s old, older than input.max_age: the clocks")
    assert given.values["stamps"] == "of this clock"
    for _ in range(int(HOLD / PERIOD) + 2):
        old(bench, 1, 0.3)
    assert bench.look()["input"].level == Level.OK


def test_without_a_limit_no_cloud_is_too_old(bench):
    old(bench, 5, 3.0, max_age=0.0)
    assert bench.look()["input"].level == Level.OK


def test_whose_clock_stamps_follow_is_told(bench):
    assert bench.look()["input"].values["stamps"] == "none seen"
    bench.health.stamped(Arrival(0.0, True, 0.0, 0.0), 0.5)
    assert bench.look()["input"].values["stamps"] == "of another clock"
