# SPDX-License-Identifier: Apache-2.0
"""The node as a process of its own, over real DDS, with a fake network."""

import json
import time

import numpy as np
import pytest

from pointdistill_ros.io.pointcloud2 import decode

pytestmark = pytest.mark.ros
NODE = "/segmentation_node"
LABELS, STATS, INFO = f"{NODE}/labeled_points", f"{NODE}/stats", f"{NODE}/class_info"
AGELESS = ("--ros-args", "-p", "input.max_age:=0.0")
"""On a busy machine a cloud may wait for long."""
RELIABLE = ("-p", "input.reliability:=reliable", "-p", "input.depth:=40")
"""Where every cloud must be in a counter."""


@pytest.fixture
def msg():
    return pytest.importorskip("pointdistill_ros.msg", reason="our messages are not built")


@pytest.fixture
def bench(client, msg):
    """A client that listens to everything and publishes ``points``."""
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import PointCloud2

    client.listen(PointCloud2, LABELS)
    client.listen(msg.SegmentationStats, STATS)
    client.listen(msg.ClassInfo, INFO, latched=True)
    client.listen(DiagnosticArray, "/diagnostics")
    client.points = client.publisher()
    return client


def ready(bench):
    """Wait until clouds come back with labels and figures; what was counted by then."""
    bench.until(lambda: values(bench, "input").get("publishers") == "1")
    bench.until(lambda: bench.points.get_subscription_count() and bench.got[INFO])
    last = []

    def stamp_of(message):
        last[:] = [message]
        return message.header.stamp

    # the figures come last of what a cloud is answered with
    bench.until_answered(bench.probe(bench.points), LABELS, STATS, stamp_of=stamp_of)
    return counts(last[0])


def counts(stats, before=(0, 0, 0)):
    """Clouds received, processed and dropped, less those before."""
    now = stats.received, stats.processed, stats.dropped
    return tuple(new - old for new, old in zip(now, before, strict=True))


def dropped(bench):
    """Clouds, by the newest diagnostics."""
    return sum(int(n) for name, n in values(bench, "timing").items() if name.startswith("dropped"))


def status(bench, part):
    """Newest diagnostics of the model, the input or the timing."""
    from diagnostic_msgs.msg import DiagnosticStatus

    array = bench.got["/diagnostics"][-1:]
    found = [s for a in array for s in a.status if s.name.endswith(f": {part}")]
    return found[0] if found else DiagnosticStatus(level=b"\xff")


def values(bench, part):
    return {entry.key: entry.value for entry in status(bench, part).values}


def class_ids(labelled):
    field = next(f for f in labelled.fields if f.name == "class_id")
    points = np.frombuffer(labelled.data, np.uint8).reshape(-1, labelled.point_step)
    return points[:, field.offset]


def above_or_below(cloud):
    """What the fake network says."""
    scan = decode(cloud)
    return np.where(scan.valid, np.where(scan.xyz[:, 2] >= 0, 0, 1), 255)


@pytest.mark.parametrize(("points", "height"), [(1, 1), (1200, 1), (2048, 16), (0, 1)])
def test_labels_arrive_with_the_inputs_header_shape_and_count(
    bench, start_node, cloud, points, height
):
    start_node(*AGELESS)
    before = ready(bench)
    sent = cloud(points, height=height, frame="roof/lidar", stamp=(1_600_000_000, 123_456_789))
    began = time.monotonic()
    bench.points.publish(sent)
    bench.until(lambda: bench.got[LABELS] and bench.got[STATS])
    passed = time.monotonic() - began
    (labelled,), (stats,) = bench.got[LABELS], bench.got[STATS]
    assert labelled.header == sent.header
    assert stats.header == sent.header
    assert (labelled.height, labelled.width) == (sent.height, sent.width)
    assert len(labelled.data) == points * labelled.point_step == points * 24
    np.testing.assert_array_equal(class_ids(labelled), above_or_below(sent))
    assert (stats.points, stats.valid_points, stats.voxels) == (points, points, 7)
    assert counts(stats, before) == (1, 1, 0)
    assert 0 <= stats.age_ms < 1e3 * passed, "stamps of 2020 must count from the reception"


def test_points_without_return_are_unlabelled_and_the_statistics_leave_them_out(
    bench, start_node, cloud
):
    start_node(*AGELESS)
    ready(bench)
    sent = cloud(400)
    np.frombuffer(sent.data, np.float32).reshape(400, 4)[::4, 1] = np.nan
    bench.points.publish(sent)
    bench.until(lambda: bench.got[LABELS] and bench.got[STATS])
    (labelled,), (stats,) = bench.got[LABELS], bench.got[STATS]
    expected = above_or_below(sent)
    np.testing.assert_array_equal(class_ids(labelled), expected)
    assert (expected == 255).sum() == 100
    assert (stats.points, stats.valid_points) == (400, 300)
    assert stats.class_fraction[0] == pytest.approx((expected == 0).sum() / 300)
    assert sum(stats.class_fraction) == pytest.approx(1.0)
    assert stats.mean_probability == pytest.approx(0.75)
    assert stats.mean_entropy == pytest.approx(0.25)
    assert np.isnan(stats.drift_score)


def test_overload_drops_old_clouds_and_counts_them_exactly(bench, start_node, cloud, hold):
    """40 clouds while one is in work, reliable so that DDS itself loses none."""
    start_node(
        *("--ros-args", "-p", "input.reliability:=reliable", "-p", "input.depth:=40"),
        *("-p", "input.max_age:=0.0", "-p", "diagnostics.silent_after:=3600.0"),
        *("-p", "diagnostics.warn_age:=3600.0", "-p", "diagnostics.error_age:=3600.0"),
        **hold.env,
    )
    before = ready(bench)
    hold.close()
    sent = [cloud(100 + number) for number in range(40)]
    bench.points.publish(sent[0])
    bench.until(hold.has_one)
    for one in sent[1:]:
        bench.points.publish(one)
    bench.until(lambda: values(bench, "timing")["received"] == str(before[0] + 40))
    slow = "slower than the sensor: old clouds are dropped"
    bench.until(lambda: status(bench, "timing").message == slow)
    assert status(bench, "timing").level == b"\x01"
    hold.open()
    bench.until(lambda: len(bench.got[LABELS]) == len(bench.got[STATS]) == 2)
    first, last = bench.got[STATS]
    assert [one.header for one in (first, last)] == [sent[0].header, sent[-1].header]
    assert [one.header for one in bench.got[LABELS]] == [sent[0].header, sent[-1].header]
    assert counts(first, before) == (40, 1, 38), "the newest waits"
    assert counts(last, before) == (40, 2, 38)
    bench.until(lambda: values(bench, "timing")["processed"] == str(last.processed))
    assert values(bench, "timing")["dropped: overwritten"] == str(last.dropped)


def test_stale_clouds_are_dropped_and_counted(bench, start_node, cloud):
    start_node("--ros-args", "-p", "input.max_age:=2.0", "-p", "input.reliability:=reliable")
    before = ready(bench)
    old = divmod(time.time_ns() - 2_500_000_000, 1_000_000_000)
    bench.points.publish(cloud(100, stamp=old))
    bench.until(lambda: dropped(bench) == before[2] + 1)
    assert int(values(bench, "timing")["dropped: stale"]) > 0
    # on a busy machine a new one may be too old itself
    times = bench.until_heard(lambda: bench.points.publish(cloud(200)), STATS, LABELS, pause=15.0)
    (stats,) = bench.got[STATS]
    assert (stats.points, *counts(stats, before)) == (200, 1 + times, 1, times)


def test_a_bad_cloud_is_reported_and_the_next_good_one_works(bench, start_node, cloud):
    # on a busy machine a second passes between two clouds, and silence would outrank a bad cloud
    start_node(*AGELESS, "-p", "diagnostics.silent_after:=3600.0", *RELIABLE)
    before = ready(bench)
    bad = cloud(100)
    bad.fields = [field for field in bad.fields if field.name != "z"]

    def told(publish, reason):
        """Send until the reason is told, and until each one that was sent is counted."""
        nonlocal sent
        times = bench.until_told(publish, lambda: reason in status(bench, "input").message)
        # two in a row are a warning; a reason that was missed twice may have become an error
        assert sent + times > 2 or status(bench, "input").level == b"\x01"
        sent += times
        bench.until(lambda: dropped(bench) == before[2] + sent)

    sent = 0
    told(lambda: bench.points.publish(bad), "'z'")
    short = cloud(100)
    short.data = short.data[:-1]
    told(lambda: bench.points.publish(short), "1599")
    assert int(values(bench, "timing")["dropped: invalid"]) >= 2
    assert not bench.got[LABELS]
    bench.points.publish(cloud(50))
    bench.until(lambda: bench.got[STATS])
    (stats,) = bench.got[STATS]
    assert (stats.points, *counts(stats, before)) == (50, sent + 1, 1, sent)


def test_how_often_bad_clouds_are_logged_changes_live(bench, start_node, cloud):
    node = start_node(*AGELESS, "-p", "diagnostics.log_period:=3600.0")
    ready(bench)
    bad = cloud(100)
    bad.fields = [field for field in bad.fields if field.name != "z"]

    def refuse(count):
        before = int(values(bench, "timing")["dropped: invalid"])
        for number in range(before + 1, before + 1 + count):
            bench.points.publish(bad)
            bench.until(lambda n=number: values(bench, "timing")["dropped: invalid"] == str(n))
        # it is logged after it was counted, and before the next cloud is labelled
        bench.until_heard(lambda: bench.points.publish(cloud(10)), LABELS)
        return node.log.read_text().count("bad cloud: ")

    assert refuse(3) == 1
    assert bench.set_parameters(diagnostics__log_period=0.0) == (True, "")
    assert refuse(3) == 4
    assert bench.set_parameters(diagnostics__log_period=3600.0) == (True, "")
    assert refuse(2) == 4


def test_intensities_of_another_scale_are_diagnosed(bench, start_node, cloud):
    start_node(*AGELESS, "-p", "input.intensity_scale:=none")
    ready(bench)
    sent = cloud(200)
    np.frombuffer(sent.data, np.float32).reshape(200, 4)[:, 3] *= 1000
    doubt = "intensity above 1"  # a silence would outrank it
    bench.until_told(
        lambda: bench.points.publish(sent), lambda: status(bench, "input").message == doubt
    )
    assert status(bench, "input").level == b"\x01"


def test_class_info_reaches_late_subscribers(bench, start_node, fake_segmenter, msg):
    start_node()
    ready(bench)
    bench.listen(msg.ClassInfo, f"/{INFO.strip('/')}", latched=True)
    bench.until(lambda: bench.got[INFO])
    info, labels = bench.got[INFO][-1], fake_segmenter.label_set
    assert (info.label_set, info.model_id) == ("semantic-kitti", "above-or-below")
    assert info.names == list(labels.names)
    assert np.array_equal(np.reshape(info.rgb, (-1, 3)), labels.colours)
    assert info.unlabelled == 255


def test_visualization_is_made_only_when_someone_looks(bench, start_node, cloud, fake_segmenter):
    from sensor_msgs.msg import PointCloud2

    coloured_topic = f"{NODE}/visualization"
    bench.listen(PointCloud2, coloured_topic)
    start_node(*AGELESS)
    bench.until_answered(bench.probe(bench.points), coloured_topic)
    sent = cloud(100)
    bench.points.publish(sent)
    bench.until(lambda: bench.got[coloured_topic])
    (coloured,) = bench.got[coloured_topic]
    assert coloured.header == sent.header
    assert [field.name for field in coloured.fields] == ["x", "y", "z", "rgb"]
    bits = np.frombuffer(coloured.data, np.uint32).reshape(-1, 4)[:, 3]
    red, green, blue = np.array(fake_segmenter.label_set.colours)[above_or_below(sent)].T
    np.testing.assert_array_equal(bits, red << 16 | green << 8 | blue)


def test_parameters_change_live_and_bad_sets_are_refused_whole(bench, start_node, cloud):
    start_node()
    ready(bench)
    assert bench.set_parameters(output__layout="append", input__max_age=8.0) == (True, "")

    def label(points, behind=0.0):
        """A cloud that was ``behind`` seconds old when it was sent, labelled."""
        stamp = divmod(time.time_ns() - round(1e9 * behind), 1_000_000_000)
        bench.until_heard(
            lambda: bench.points.publish(cloud(points, stamp=stamp)), LABELS, pause=15.0
        )
        assert bench.got[LABELS][-1].width == points

    label(10, behind=2.0)
    names = [field.name for field in bench.got[LABELS][-1].fields]
    assert names == ["x", "y", "z", "intensity", "class_id", "probability", "entropy"]

    refused = [
        ({"output__layout": "rgb", "diagnostics__warn_age": 9.0}, "must not be below warn_age (9)"),
        ({"output__layout": "xyz"}, "must be one of xyzcpe_aligned"),
        ({"input__max_age": -1.0}, "out of range"),
        ({"input__max_age": "long"}, "type"),
        ({"model__path": "other"}, "read-only"),
        ({"model__max_latency_ms": -1.0}, "out of range"),
        ({"model__max_latency_ms": float("nan")}, "out of range"),
        ({"model__max_latency_ms": 50.0}, "engine 'fake' cannot shed load"),
        ({"input__depth": 3}, "read-only"),
        ({"diagnostics__log_period": -1.0}, "out of range"),
        ({"diagnostics__log_period": 0.0, "diagnostics__warn_age": 9.0}, "below warn_age (9)"),
    ]
    for changes, reason in refused:
        successful, text = bench.set_parameters(**changes)
        assert not successful
        assert reason in text
    label(20)
    assert len(bench.got[LABELS][-1].fields) == 7, "a refused set must change nothing"


def test_names_can_be_remapped_and_namespaced(bench, start_node, cloud):
    from sensor_msgs.msg import PointCloud2

    start_node(
        *("--ros-args", "-r", "__ns:=/front", "-r", "__node:=teacher"),
        *("-r", "points:=/velodyne_points"),
    )
    bench.listen(PointCloud2, "/front/teacher/labeled_points")
    points = bench.publisher("/velodyne_points")
    bench.until_heard(lambda: points.publish(cloud(10)), "/front/teacher/labeled_points")
    bench.until(lambda: bench.got["/diagnostics"])
    names = {s.name for s in bench.got["/diagnostics"][-1].status}
    assert names == {f"front/teacher: {part}" for part in ("model", "input", "timing")}


def test_a_best_effort_publisher_and_a_reliable_input_are_diagnosed(bench, start_node, cloud):
    from rclpy.event_handler import PublisherEventCallbacks
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import PointCloud2

    start_node("--ros-args", "-p", "input.reliability:=reliable", "-r", "points:=/driver")
    driver = bench.node.create_publisher(
        PointCloud2,
        "/driver",
        qos_profile_sensor_data,
        event_callbacks=PublisherEventCallbacks(incompatible_qos=lambda info: None),
    )
    bench.until(lambda: bench.got["/diagnostics"])
    bench.until(lambda: "incompatible QoS: RELIABILITY" in status(bench, "input").message)
    bench.node.destroy_publisher(driver)


@pytest.mark.parametrize("busy", [False, True])
def test_interrupt_ends_with_code_0_and_no_traceback(bench, start_node, cloud, hold, busy):
    """Even where the cloud in work never ends."""
    node = start_node(**hold.env)
    ready(bench)
    if busy:
        hold.close()
        bench.until_told(lambda: bench.points.publish(cloud(1000)), hold.has_one)
    assert node.interrupt() == 0, node.log.read_text()
    assert "Traceback" not in node.log.read_text()
    assert "ERROR" not in node.log.read_text()


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("input.max_age:=-1.0", "parameter input.max_age"),
        ("input.max_age:=soon", "parameter input.max_age"),
        ("output.layout:=xyz", "output.layout must be one of"),
        ("model.max_latency_ms:=-1.0", "parameter model.max_latency_ms"),
        ("model.max_latency_ms:=.nan", "parameter model.max_latency_ms"),
        ("input.max_agee:=1.0", "no parameter input.max_agee; known: autostart"),
    ],
)
def test_bad_overrides_are_one_line_and_exit_code_2(client, start_node, override, complaint):
    node = start_node("--ros-args", "-p", override)
    assert node.wait() == 2
    lines = node.log.read_text().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("segmentation_node: ")
    assert complaint in lines[0]


def test_the_shipped_parameter_files_are_accepted(bench, start_node):
    from pointdistill_ros.resources import config_path

    for name in ("segmentation", "teacher"):
        node = start_node(
            *("--ros-args", "--params-file", str(config_path(f"nodes/{name}.yaml"))),
            *("-r", f"__node:={name}"),
        )
        bench.until(lambda name=name: bench.node.count_publishers(f"/{name}/labeled_points"))
        assert bench.state(f"/{name}") == "active"
        assert node.interrupt() == 0


def test_without_our_messages_class_info_is_json(monkeypatch, fake_segmenter):
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    from std_msgs.msg import String

    from pointdistill_ros.nodes import messages

    monkeypatch.setattr(messages, "ClassInfo", None)
    assert messages.class_info_type() is String
    info = messages.class_info(fake_segmenter.label_set, "student", "abc")
    content = json.loads(info.data)
    assert content["names"] == list(fake_segmenter.label_set.names)
    assert (content["model_id"], content["unlabelled"]) == ("student", 255)
