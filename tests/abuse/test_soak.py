# SPDX-License-Identifier: Apache-2.0
"""Soak: the criteria on made-up runs, and the command itself on a short one."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.errors import ConfigError
from tools.soak.process import Process, State
from tools.soak.record import Look, Record, Told
from tools.soak.verdict import failures, figures, growth

PERIOD, SECONDS, WARM_UP = 0.1, 60.0, 6.0
MIB = 2**20


def run(grows=0.0, threads=9, work=0.05, ages=lambda t: 0.06, **changes):
    """A sound run of a minute, but for what is told; ``grows``: MiB a minute."""
    noise = np.random.default_rng(0)
    record = Record(PERIOD, sent=600, seconds=SECONDS)
    for at in np.arange(0, SECONDS, 0.5):
        resident = 300 + grows * at / 60 + noise.normal(0, 0.2) + 40 * (at < 3)
        state = State(int(resident * MIB), int(resident * MIB), threads, 60, 0.5 * at)
        record.looks.append(Look(at, state))
    for number in range(600):
        told = Told(number * PERIOD, ages(number * PERIOD), work, number + 1, number + 1, 0)
        record.told.append(told)
        record.ages.append(ages(number * PERIOD) + 0.003)
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def missed(record, max_growth=0.01):
    return failures(record, WARM_UP, max_growth)


def test_a_sound_run_misses_nothing_and_is_told():
    record = run()
    assert missed(record) == []
    found = figures(record, WARM_UP)
    assert found["age at publishing ms"] == {"p50": 60.0, "p95": 60.0, "p99": 60.0, "max": 60.0}
    assert found["work ms"]["p99"] == 50.0
    assert (found["received"], found["lost before the node"], found["dropped"]) == (600, 0, 0)
    assert found["cores used by the node"] == 0.5
    assert found["labelled Hz"] == pytest.approx(10, abs=0.1)
    json.dumps(found)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (run(grows=6), "memory grows by 1.7"),
        (run(log="Traceback (most recent call last)"), "traceback"),
        (run(ending="the node's process was gone after 7 s"), "gone after 7 s"),
        (run(ages=lambda t: 0.31), "something queues"),
        (run(ages=lambda t: 0.03 + 0.0045 * t), "labels get older"),
        (run(sent=500), "600 received of 500 sent"),
        (run(told=run().told[:62]), "let it run longer"),
    ],
)
def test_what_is_missed_is_said(record, reason):
    (sentence,) = missed(record)
    assert reason in sentence


def test_a_thread_that_comes_later_is_told():
    record = run()
    record.looks[-1] = Look(SECONDS, record.looks[-1].state._replace(threads=10))
    assert missed(record) == ["threads vary between 9 and 10; expected one number"]


def test_counters_that_do_not_add_up_and_labels_that_do_not_come_are_told():
    record = run()
    record.told[-1] = record.told[-1]._replace(received=610, processed=600)
    record.ages = record.ages[:500]
    found = missed(record)
    assert len(found) == 3
    assert "received 610, processed 600, dropped 0" in found[0]
    assert "labels of only 500 of 600" in found[2]


@given(st.floats(-50, 50), st.integers(0, 2**32))
def test_the_slope_is_found_whatever_the_garbage_collector_does(grows, seed):
    random = np.random.default_rng(seed)
    looks = []
    for at in np.linspace(0, 100, 101):
        spike = 80 * (random.random() < 0.1)
        resident = int((300 + grows * at / 100 + spike) * MIB)
        looks.append(Look(at, State(resident, resident, 1, 1, 0.0)))
    assert growth(looks) == pytest.approx(grows / (300 + grows / 2), abs=0.02)


def test_a_process_is_seen_as_it_is():
    child = subprocess.Popen(
        [sys.executable, "-c", "held = bytearray(b'x') * (64 << 20); input()"],
        stdin=subprocess.PIPE,
    )
    try:
        process = Process(child.pid)
        for _ in range(3000):
            if process.state().private > 64 << 20:
                break
            assert child.poll() is None
            time.sleep(0.1)
        state = process.state()
        assert 64 << 20 < state.private <= state.resident < 200 << 20
        assert state.threads == 1 and state.handles >= 3 and state.cpu >= 0
    finally:
        child.communicate(b"\n")
    with pytest.raises((FileNotFoundError, ProcessLookupError)):
        process.state()


def test_the_clouds_of_the_long_form_can_be_made():
    pytest.importorskip("sensor_msgs", reason="ROS messages are not installed")
    from pointdistill_ros.io.pointcloud2 import decode
    from tools.soak.clouds import LIDAR, POINTS, street_clouds

    first, second = (decode(cloud) for cloud in street_clouds(LIDAR, POINTS, frames=1, turns=2))
    assert len(first) == len(second) == POINTS
    assert first.valid.all() and first.intensity is not None
    ranges = [np.sort(np.linalg.norm(scan.xyz, axis=1)) for scan in (first, second)]
    np.testing.assert_allclose(np.median(ranges[0]), np.median(ranges[1]), rtol=0.05)
    assert not np.array_equal(first.xyz, second.xyz)
    with pytest.raises(ConfigError, match="points, not 9000000"):
        street_clouds(LIDAR, 9_000_000, frames=1, turns=1)


@pytest.mark.ros
@pytest.mark.timeout(1800)
def test_the_command_runs_a_node_and_judges_it(weights, tmp_path):
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    pytest.importorskip("pointdistill_ros.msg", reason="our messages are not built")
    out = tmp_path / "soak.json"
    command = [sys.executable, "-m", "tools.soak", "--model", str(weights), "--json", str(out)]
    command += ["--minutes", "0.2", "--lidar", "hdl32e", "--points", "5000", "--frames", "1"]
    command += [
        "--turns",
        "4",
        "--warm-up",
        "0.3",
        "--max-growth",
        "10",
        "--reliable",
        "--hz",
        "10",
    ]
    root = Path(__file__).parents[2]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads(out.read_text())
    found = report["figures"]
    assert report["missed"] == []
    assert found["sent"] == found["received"] >= 20
    assert 0 <= found["received"] - found["processed"] - found["dropped"] <= 2
    assert len(found["threads"]) == len(found["open files"]) == 1
    assert "age at a subscriber ms" in run.stdout
