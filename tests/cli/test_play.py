# SPDX-License-Identifier: Apache-2.0
"""`pointdistill play`: everything in the bag arrives, at the pace that was asked for."""

import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from pointdistill_ros.io.bag import BagReader
from pointdistill_ros.io.bag_writer import BagWriter
from pointdistill_ros.io.pointcloud2 import encode_scan
from pointdistill_ros.scan import LidarScan

pytest.importorskip("rclpy", reason="rclpy is not installed")

START_NS, PERIOD_NS, CLOUDS = 1_600_000_000_000_000_000, 100_000_000, 10
PATIENCE = 90
"""Seconds that a busy machine gets to start a process and to make it known."""


def write_bag(path, topics=("/points",), clouds=CLOUDS, points=500):
    rng = np.random.default_rng(0)
    with BagWriter(path) as bag:
        for number in range(clouds):
            stamp = START_NS + number * PERIOD_NS
            for topic in topics:
                parts = encode_scan(LidarScan.from_arrays(rng.normal(0, 9, (points, 3))))
                bag.write_cloud(topic, stamp, parts, stamp_ns=stamp, frame="lidar")
        bag.write_text("/notes", START_NS + 50_000_000, "hello")
    return path


@pytest.fixture
def bag(tmp_path):
    return write_bag(tmp_path / "drive.mcap")


class Listener:
    """Subscribes, runs `pointdistill play` in another process, keeps what arrives."""

    def __init__(self):
        import rclpy
        from rclpy.signals import SignalHandlerOptions

        from pointdistill_ros.nodes.transport import prepare_transport

        prepare_transport()
        self.context = rclpy.Context()
        rclpy.init(context=self.context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("listener", context=self.context)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.got = {}
        self.times = {}

    def listen(self, topic, kind=None, on_message=lambda message: None):
        from sensor_msgs.msg import PointCloud2

        self.got[topic], self.times[topic] = [], []

        def keep(message):
            self.times[topic].append(time.monotonic())
            self.got[topic].append(message)
            on_message(message)

        self.node.create_subscription(kind or PointCloud2, topic, keep, 1000)

    def start(self, *arguments):
        if "--wait" not in arguments:
            arguments += ("--wait", PATIENCE)
        return subprocess.Popen(
            [sys.executable, "-m", "pointdistill_ros.cli", "play", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def spin_while(self, process, until=lambda: False, timeout=PATIENCE):
        end = time.monotonic() + timeout
        while process.poll() is None and not until():
            assert time.monotonic() < end, "play does not end"
            self.executor.spin_once(timeout_sec=0.02)

    def play(self, *arguments):
        """Exit code and what was said."""
        process = self.start(*arguments)
        try:
            self.spin_while(process)
        finally:
            process.kill()
            out, err = process.communicate()
        quiet = 0
        while quiet < 10:  # what has arrived here is taken one by one
            before = sum(map(len, self.got.values()))
            self.executor.spin_once(timeout_sec=0.02)
            quiet = quiet + 1 if sum(map(len, self.got.values())) == before else 0
        return process.returncode, out + err

    def stamps(self, topic):
        return [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in self.got[topic]]

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def listener():
    listener = Listener()
    yield listener
    listener.close()


def all_stamps(clouds=CLOUDS):
    return [START_NS + number * PERIOD_NS for number in range(clouds)]


@pytest.mark.ros
def test_every_cloud_arrives_byte_for_byte(bag, listener):
    listener.listen("/points")
    code, said = listener.play(bag)
    assert code == 0, said
    assert listener.stamps("/points") == all_stamps()
    with BagReader(bag) as reader:
        recorded = [reader.cloud(message) for message in reader.messages("/points")]
    for got, cloud in zip(listener.got["/points"], recorded, strict=True):
        assert got.data.tobytes() == cloud.data.tobytes()
        assert (got.header.frame_id, got.width, got.point_step) == ("lidar", 500, 12)
    assert "/points: 10 messages" in said


@pytest.mark.ros
@pytest.mark.parametrize("clock", [False, True])
@pytest.mark.parametrize("rate", [1.0, 4.0])
def test_the_pace_is_that_of_the_recording(bag, monkeypatch, rate, clock):
    """By a clock that only sleeping moves on, so that a busy machine changes nothing."""
    from pointdistill_ros.nodes import player

    now, sent = 0.0, []

    def monotonic():
        nonlocal now
        now += 1e-6
        return now

    def sleep(self, seconds):
        nonlocal now
        now += seconds

    monkeypatch.setattr(player, "time", SimpleNamespace(monotonic=monotonic))
    monkeypatch.setattr(player.Interrupt, "sleep", sleep)
    settings = player.PlaySettings(rate=rate, clock=clock, wait=0.0)
    report = player.play_bag(
        bag, {"/points": "/points"}, settings, lambda done, _: sent.append((done, now))
    )
    assert report.published == {"/points": CLOUDS}
    done, times = np.array(sent[:CLOUDS]).T
    np.testing.assert_allclose(done, 0.1 * np.arange(CLOUDS), atol=1e-6)
    np.testing.assert_allclose(times - times[0], done / rate, atol=2e-3)


@pytest.mark.ros
def test_rate_start_and_duration(bag, listener):
    listener.listen("/points")
    code, said = listener.play(bag, "--rate", 4, "--start", 0.25, "--duration", 0.5)
    assert code == 0, said
    assert listener.stamps("/points") == all_stamps()[3:8]


@pytest.mark.ros
def test_one_topic_under_another_name(tmp_path, listener):
    bag = write_bag(tmp_path / "two.mcap", topics=("/left/points", "/right/points"), clouds=3)
    listener.listen("/points")
    listener.listen("/left/points")
    code, said = listener.play(bag, "--topic", "right/points", "--to", "/points", "--rate", 10)
    assert code == 0, said
    assert len(listener.got["/points"]) == 3
    assert not listener.got["/left/points"]


@pytest.mark.ros
def test_other_message_types_can_be_chosen(bag, listener):
    from std_msgs.msg import String

    listener.listen("/notes", String)
    code, said = listener.play(bag, "--topic", "/notes")
    assert code == 0, said
    assert [message.data for message in listener.got["/notes"]] == ["hello"]


@pytest.mark.ros
def test_the_clock_runs_through_the_bag(bag, listener):
    from rosgraph_msgs.msg import Clock

    # the player waits for the last of these, and then knows the others
    listener.listen("/clock", Clock)
    listener.listen("/points")
    code, said = listener.play(bag, "--clock")
    assert code == 0, said
    clock = [m.clock.sec * 10**9 + m.clock.nanosec for m in listener.got["/clock"]]
    assert clock == sorted(clock)
    assert clock[0] == START_NS
    assert clock[-1] == all_stamps()[-1]
    assert len(clock) > 5 * CLOUDS, "time must also pass between the clouds"


@pytest.mark.ros
def test_loop_goes_on_until_interrupted(bag, listener):
    listener.listen("/points")
    process = listener.start(bag, "--loop", "--rate", 10)
    try:
        listener.spin_while(process, until=lambda: len(listener.got["/points"]) > 2 * CLOUDS)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in out + err
    assert "stopped" in err
    assert listener.stamps("/points")[: 2 * CLOUDS] == 2 * all_stamps()


@pytest.mark.ros
def test_stepping_waits_for_every_result(bag, listener):
    """A slow node (0.25 s a cloud, longer than the period) gets every cloud, one at a time."""
    from sensor_msgs.msg import PointCloud2

    results = listener.node.create_publisher(PointCloud2, "/labels", 10)
    in_work = []

    def take(cloud):
        assert not in_work, "the next cloud came before the last result"
        in_work.append((cloud.header, time.monotonic() + 0.25))

    def answer():
        if in_work and time.monotonic() > in_work[0][1]:
            results.publish(PointCloud2(header=in_work.pop()[0]))

    listener.node.create_timer(0.01, answer)
    listener.listen("/points", on_message=take)
    code, said = listener.play(
        bag, "--step-on-result", "--result-topic", "/labels", "--duration", 0.45
    )
    assert code == 0, said
    assert listener.stamps("/points") == all_stamps()[:5]
    assert min(np.diff(listener.times["/points"])) >= 0.25


@pytest.mark.ros
def test_missing_results_are_counted(bag, listener):
    from sensor_msgs.msg import PointCloud2

    results = listener.node.create_publisher(PointCloud2, "/labels", 10)

    def answer(cloud):
        if cloud.header.stamp.nanosec != 200_000_000:
            results.publish(PointCloud2(header=cloud.header))

    listener.listen("/points", on_message=answer)
    code, said = listener.play(
        *(bag, "--step-on-result", "--result-topic", "/labels", "--result-timeout", 10)
    )
    assert code == 1
    assert "1 clouds without a result on /labels" in said
    assert len(listener.got["/points"]) == CLOUDS


@pytest.mark.ros
def test_the_first_cloud_is_sent_again_where_nobody_could_answer_it(bag, listener):
    """A node learns of the player later than the player of the node, and labels for nobody."""
    from sensor_msgs.msg import PointCloud2

    results = listener.node.create_publisher(PointCloud2, "/labels", 10)

    def answer(cloud):
        if len(listener.got["/points"]) > 1:
            results.publish(PointCloud2(header=cloud.header))

    listener.listen("/points", on_message=answer)
    code, said = listener.play(
        *(bag, "--step-on-result", "--result-topic", "/labels", "--result-timeout", 12)
    )
    assert code == 0, said
    assert listener.stamps("/points")[1:] == all_stamps()
    assert "/points: 10 messages" in said


@pytest.mark.ros
def test_without_a_subscriber_it_says_so(bag):
    listener = Listener()
    try:
        code, said = listener.play(bag, "--wait", 0.2, "--rate", 20)
    finally:
        listener.close()
    assert code == 0
    assert "/points: 10 messages" in said
    assert "nobody listened at the start" in said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["missing.mcap"], r"missing\.mcap: no such file"),
        (["{bag}", "--topic", "/lidar"], r"drive\.mcap: no topic /lidar; topics: /points, /notes"),
        (["{two}", "--to", "/p"], r"--to needs one topic, not 2"),
        (["{bag}", "--start", "99", "--wait", "0"], r"nothing to play on /points from 99 s on"),
        (["{empty}"], r"no PointCloud2 topic in this bag; it holds /notes"),
        (["{text}"], r"notes\.mcap: not a readable bag"),
    ],
)
def test_what_cannot_be_played_is_one_line_and_exit_code_2(tmp_path, arguments, complaint):
    names = {
        "bag": write_bag(tmp_path / "drive.mcap"),
        "two": write_bag(tmp_path / "two.mcap", topics=("/a", "/b"), clouds=1),
        "empty": write_bag(tmp_path / "empty.mcap", clouds=0),
        "text": tmp_path / "notes.mcap",
    }
    names["text"].write_text("not a bag")
    result = subprocess.run(
        [sys.executable, "-m", "pointdistill_ros.cli", "play"]
        + [argument.format(**names) for argument in arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2, result.stdout + result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("pointdistill:")]
    assert len(lines) == 1
    assert re.search(complaint, lines[0])
    assert "Traceback" not in result.stderr
