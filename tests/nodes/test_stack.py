# SPDX-License-Identifier: Apache-2.0
"""The node among other people's nodes, as a process of its own over real DDS."""

from itertools import pairwise

import numpy as np
import pytest

from pointdistill_ros.io.pointcloud2 import decode
from pointdistill_ros.labels import LabelSet

pytestmark = pytest.mark.ros
NODE = "/segmentation_node"
LABELS, FILTERED = f"{NODE}/labeled_points", f"{NODE}/filtered"
TIMES = f"{NODE}/debug/processing_time/"
AUTOWARE = LabelSet.named("autoware")
AGELESS = ("--ros-args", "-p", "input.max_age:=0.0")
"""For clouds that are sent again, or wait on a busy machine."""


@pytest.fixture
def bench(client):
    from diagnostic_msgs.msg import DiagnosticArray

    client.listen(DiagnosticArray, "/diagnostics")
    client.points = client.publisher()
    return client


def ready(bench, *topics):
    """Wait until clouds come back on these topics, if any; how many did."""
    bench.until(lambda: values(bench, "input").get("publishers") == "1")
    bench.until(bench.points.get_subscription_count)
    return bench.until_answered(bench.probe(bench.points), *topics) if topics else 0


def status(bench, part):
    from diagnostic_msgs.msg import DiagnosticStatus

    for array in reversed(bench.got["/diagnostics"]):
        for one in array.status:
            if one.name.endswith(f": {part}"):
                return one
    return DiagnosticStatus(level=b"\xff")


def values(bench, part):
    return {entry.key: entry.value for entry in status(bench, part).values}


POINT_XYZCPE = [("x", 0, 7), ("y", 4, 7), ("z", 8, 7)]
POINT_XYZCPE += [("class_id", 12, 2), ("probability", 16, 7), ("entropy", 20, 7)]
"""Name, offset and type of each member of Autoware's struct PointXYZCPE, in their order."""


def cluster_input(message):
    """What a consumer in Autoware makes of a cloud: refuse another layout, then read the struct."""
    fields = [(f.name, f.offset, f.datatype, f.count) for f in message.fields]
    if fields != [(*field, 1) for field in POINT_XYZCPE]:
        raise AssertionError(f"not the layout of PointXYZCPE: {fields}")
    struct = {
        "names": [name for name, _, _ in POINT_XYZCPE],
        "formats": ["<f4", "<f4", "<f4", "u1", "<f4", "<f4"],
        "offsets": [offset for _, offset, _ in POINT_XYZCPE],
        "itemsize": 24,
    }
    assert not message.is_bigendian
    assert message.point_step == 24
    return np.frombuffer(message.data, np.dtype(struct))


def test_autowares_consumer_accepts_the_cloud_and_its_numbers(bench, start_node, cloud):
    """Autoware's parameter names, its classes, its layout check, its ground removed."""
    from sensor_msgs.msg import PointCloud2

    for topic in (LABELS, FILTERED):
        bench.listen(PointCloud2, topic)
    start_node(
        *(*AGELESS, "-p", "output.classes:=autoware"),
        *("-p", "segmentation3d.filter.classes:=[bicycle]"),
        *("-p", "segmentation3d.filter.class_probability_threshold:=0.6"),
    )
    ready(bench, LABELS, FILTERED)
    given = cloud(300)
    np.frombuffer(given.data, np.float32).reshape(300, 4)[::5, 0] = np.nan
    bench.points.publish(given)
    bench.until(lambda: bench.got[LABELS] and bench.got[FILTERED])
    points = cluster_input(bench.got[LABELS][0])
    scan = decode(given)
    bicycle = scan.valid & (scan.xyz[:, 2] < 0)  # the fake network's class 1
    expected = np.where(bicycle, AUTOWARE.index("bicycle"), AUTOWARE.index("car"))
    np.testing.assert_array_equal(points["class_id"], np.where(scan.valid, expected, 255))
    np.testing.assert_array_equal(points["probability"], np.where(scan.valid, 0.75, 0))
    np.testing.assert_array_equal(points["x"], scan.xyz[:, 0])
    rows = np.frombuffer(given.data, np.uint8).reshape(300, -1)
    assert bytes(bench.got[FILTERED][0].data) == rows[~bicycle].tobytes()

    # live, judged as a set by what the classes are
    refused, reason = bench.set_parameters(filter__classes=["road"], filter__output_format="xyzi")
    assert not refused
    assert reason.startswith("filter.classes: label set autoware has no class 'road'; known: car")
    assert bench.set_parameters(filter__classes=["car"], filter__output_format="xyzi") == (True, "")
    bench.points.publish(given)
    bench.until(lambda: len(bench.got[FILTERED]) == 2)
    assert bench.got[FILTERED][1].width == np.sum(bicycle | ~scan.valid)
    assert bench.set_parameters(filter__class_probability_threshold=0.8) == (True, "")
    bench.points.publish(given)
    bench.until(lambda: len(bench.got[FILTERED]) == 3)
    assert bench.got[FILTERED][2].width == 300, "0.75 is less than 0.8"


def test_while_nobody_listens_no_cloud_is_labelled(bench, start_node, cloud):
    from std_msgs.msg import Float64

    start_node(*AGELESS, "-p", "input.reliability:=reliable", "-p", "input.depth:=20")
    ready(bench)
    for number in range(4):
        bench.points.publish(cloud(100 + number))
    bench.until(lambda: values(bench, "timing").get("skipped, nobody listens") == "4")
    assert values(bench, "timing")["received"] == "0"
    assert status(bench, "timing").message == "nobody listens: clouds are not labelled"
    assert status(bench, "timing").level == b"\x00"

    def count(name):
        return int(values(bench, "timing")[name])

    def send():
        """A cloud, and wait until it is in a counter; which one."""
        before = {name: count(name) for name in ("processed", "skipped, nobody listens")}
        bench.points.publish(cloud(100))
        bench.until(lambda: any(count(name) > before[name] for name in before))
        (risen,) = (name for name in before if count(name) > before[name])
        return risen

    total = f"{TIMES}total_ms"  # a listener to one figure is a listener
    heard = bench.listen(Float64, total)
    outcomes = []
    bench.until_heard(lambda: outcomes.append(send()), total)
    assert bench.got[total][0].data > 0
    # figures are sent after the cloud was counted
    bench.until(lambda: len(bench.got[total]) == outcomes.count("processed") == count("processed"))
    bench.node.destroy_subscription(heard)
    bench.until(lambda: send() != "processed")  # it takes a moment until the node knows

    assert bench.set_parameters(output__lazy=False) == (True, "")
    assert send() == "processed"


def test_two_publishers_of_different_layouts_on_one_topic(bench, start_node, cloud):
    from sensor_msgs.msg import PointCloud2

    bench.listen(PointCloud2, LABELS)
    start_node(*AGELESS, "-p", "input.reliability:=reliable", "-p", "output.layout:=append")
    ready(bench, LABELS)
    other = bench.publisher()
    bench.until(lambda: values(bench, "input").get("publishers") == "2")
    bench.until(other.get_subscription_count)
    plain, organised = cloud(60), cloud(64, height=16, frame="rear", seed=1)
    organised.fields = [organised.fields[i] for i in (2, 0, 1)]
    for number, (publisher, given) in enumerate([(bench.points, plain), (other, organised)] * 3):
        publisher.publish(given)
        bench.until(lambda number=number: len(bench.got[LABELS]) == number + 1)
        got = bench.got[LABELS][-1]
        names = [field.name for field in given.fields]
        assert [field.name for field in got.fields][:-3] == names
        assert (got.header.frame_id, got.height) == (given.header.frame_id, given.height)
        np.testing.assert_array_equal(decode(got).xyz, decode(given).xyz)
        np.testing.assert_array_equal(
            np.frombuffer(got.data, np.uint8).reshape(-1, got.point_step)[:, given.point_step],
            np.where(decode(given).xyz[:, 2] >= 0, 0, 1),
        )


def test_a_cloud_beyond_the_capacity_is_refused_before_it_is_read(bench, start_node, cloud):
    from sensor_msgs.msg import PointCloud2

    bench.listen(PointCloud2, LABELS)
    start_node(*AGELESS, "-p", "cloud_capacity:=100", "-p", "diagnostics.silent_after:=3600.0")
    ready(bench, LABELS)
    reason = "bad cloud: cloud has 102 points (2 x 51); input.max_points is 100"
    bench.until_told(
        lambda: bench.points.publish(cloud(102, height=2)),
        lambda: status(bench, "input").message == reason,
    )
    assert not bench.got[LABELS]
    assert bench.set_parameters(input__max_points=102) == (True, "")
    bench.points.publish(cloud(102, height=2))
    bench.until(lambda: bench.got[LABELS])


def test_the_network_sees_another_height_and_the_output_does_not(bench, start_node, cloud):
    from sensor_msgs.msg import PointCloud2

    bench.listen(PointCloud2, LABELS)
    start_node(*AGELESS, "-p", "input.z_offset:=5.0")
    ready(bench, LABELS)
    given = cloud(200)
    bench.points.publish(given)
    bench.until(lambda: bench.got[LABELS])
    points, z = cluster_input(bench.got[LABELS][0]), decode(given).xyz[:, 2]
    np.testing.assert_array_equal(points["z"], z)
    np.testing.assert_array_equal(points["class_id"], np.where(z + np.float32(5) >= 0, 0, 1))
    bench.until(lambda: values(bench, "input").get("seen by the network") == "in lidar, z +5 m")


def endpoints(bench, topic, kind):
    """QoS of the node's end of a topic, as soon as it is known whose it is."""
    ask, found = getattr(bench.node, f"get_{kind}_info_by_topic"), []

    def known():
        found[:] = [end for end in ask(topic) if end.node_name == "segmentation_node"]
        return found

    bench.until(known)
    return found[0].qos_profile


def test_qos_is_overridden_by_parameters(bench, start_node, cloud):
    from rclpy.event_handler import PublisherEventCallbacks
    from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
    from sensor_msgs.msg import PointCloud2

    overrides = {
        "/points.subscription.reliability": "reliable",
        "/points.subscription.depth": "7",
        "/segmentation_node/labeled_points.publisher.reliability": "best_effort",
        "/segmentation_node/filtered.publisher.depth": "9",
    }
    arguments = [f"qos_overrides.{name}:={value}" for name, value in overrides.items()]
    start_node(*AGELESS, *(part for one in arguments for part in ("-p", one)))
    ready(bench)
    bench.until(lambda: bench.node.count_publishers(LABELS))
    assert endpoints(bench, "/points", "subscriptions").reliability == ReliabilityPolicy.RELIABLE
    labelled = endpoints(bench, LABELS, "publishers")
    assert labelled.reliability == ReliabilityPolicy.BEST_EFFORT
    assert endpoints(bench, FILTERED, "publishers").reliability == ReliabilityPolicy.RELIABLE

    got = bench.got[LABELS] = []
    bench.node.create_subscription(PointCloud2, LABELS, got.append, qos_profile_sensor_data)
    unreliable = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    bench.node.create_publisher(
        PointCloud2,
        "/points",
        unreliable,
        event_callbacks=PublisherEventCallbacks(incompatible_qos=lambda info: None),
    )
    bench.until(lambda: "QoS: RELIABILITY" in status(bench, "input").message)
    bench.until_heard(lambda: bench.points.publish(cloud(10)), LABELS)


@pytest.mark.parametrize(
    ("override", "complaint", "state"),
    [
        (f"{LABELS}.publisher.reliability:=often", "cannot configure: ", "unconfigured"),
        ("/points.subscription.reliability:=often", "cannot subscribe to points: ", "inactive"),
    ],
)
def test_a_qos_that_does_not_exist_is_named(bench, start_node, override, complaint, state):
    node = start_node("--ros-args", "-p", f"qos_overrides.{override}")
    bench.until(lambda: "`often`" in node.log.read_text())
    assert complaint in node.log.read_text()
    assert bench.state() == state
    assert node.interrupt() == 0
    assert "Traceback" not in node.log.read_text()


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("output.classes:=nuscenes", "label set semantic-kitti has no remap to nuscenes"),
        ("output.classes:=cityscapes", "no label set 'cityscapes'; known: autoware"),
        ("filter.classes:=[roads]", "no class 'roads'; known: car"),
        ("input.target_frame:=base_link", "'base_link' needs tf2_ros"),
    ],
)
def test_what_does_not_fit_the_model_fails_configure_and_can_be_tried_again(
    bench, start_node, override, complaint
):
    if "target_frame" in override:
        try:
            import tf2_ros  # noqa: F401
        except ImportError:
            pass
        else:
            pytest.skip("tf2_ros is installed here")
    node = start_node("--ros-args", "-p", override)
    bench.until(lambda: complaint in node.log.read_text())
    bench.until(lambda: complaint in status(bench, "model").message)
    assert "cannot configure: " in status(bench, "model").message
    assert not bench.node.count_publishers(LABELS)
    assert bench.state() == "unconfigured"
    if "filter" in override:
        assert bench.set_parameters(filter__classes=["road"]) == (True, "")
        assert bench.change_state("configure")


def test_clocks_that_differ_are_told_from_a_slow_node(bench, start_node, cloud):
    import time

    from sensor_msgs.msg import PointCloud2

    bench.listen(PointCloud2, LABELS)
    start_node("--ros-args", "-p", "diagnostics.silent_after:=3600.0", "-p", "input.depth:=10")
    ready(bench, LABELS)
    bench.until_told(  # three in a row; a silence would outrank them
        lambda: bench.points.publish(
            cloud(10, stamp=divmod(time.time_ns() - 4_000_000_000, 10**9))
        ),
        lambda: "the clocks of driver and node differ" in status(bench, "input").message,
        pause=0.1,
    )
    assert status(bench, "input").level == b"\x02"
    assert values(bench, "input")["stamps"] == "of this clock"
    # on a busy machine one may be too old itself
    bench.until_heard(lambda: bench.points.publish(cloud(10)), LABELS)
    bench.until(lambda: "differ" not in status(bench, "input").message)


def test_a_bag_with_its_clock_loops_and_nothing_is_lost(bench, start_node, cloud):
    """use_sim_time: before /clock, while it runs, after it starts again, while it stands still."""
    from rosgraph_msgs.msg import Clock
    from sensor_msgs.msg import PointCloud2

    messages = pytest.importorskip("pointdistill_ros.msg", reason="our messages are not built")
    stats = f"{NODE}/stats"
    bench.listen(PointCloud2, LABELS)
    bench.listen(messages.SegmentationStats, stats)
    clock = bench.node.create_publisher(Clock, "/clock", 10)
    start_node("--ros-args", "-p", "use_sim_time:=true", "-p", "input.reliability:=reliable")
    ready(bench)
    told = []

    def stamp_of(message):
        told[:] = [message]
        return message.header.stamp

    bench.until_answered(bench.probe(bench.points), LABELS, stats, stamp_of=stamp_of)
    before = told[0].processed, told[0].dropped
    second, now = 1_000_000_000, None

    def tell(time):
        """Until the node knows the time: it tells it with its health."""
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(time, second)

        def known():
            stamp = bench.got["/diagnostics"][-1].header.stamp
            return stamp.sec * second + stamp.nanosec == time

        bench.until_told(lambda: clock.publish(message), known, pause=5.0)

    def label(time):
        count = len(bench.got[stats])
        bench.points.publish(cloud(10, stamp=divmod(time, second)))
        bench.until(lambda: len(bench.got[stats]) > count)

    start = 1_300_000_000 * second
    label(start)
    tenth = second // 10
    times = [start, start + tenth, start + 60 * second, start, start + tenth]
    times += [5 * second, 5 * second + tenth, second // 2]
    for now in times:
        tell(now)
        label(now)
    for _ in range(3):  # paused: the clock stands, a sensor that goes on is not refused
        label(now)
    bench.until(lambda: len(bench.got[LABELS]) == 12)
    stamps = [m.header.stamp.sec * second + m.header.stamp.nanosec for m in bench.got[LABELS]]
    assert stamps == [start, *times, now, now, now]
    assert any(later < earlier for earlier, later in pairwise(stamps)), "it went back in time"
    last = bench.got[stats][-1]
    assert (last.processed, last.dropped) == (before[0] + 12, before[1])


def test_check_tells_about_the_model_and_ends(start_node, client):
    node = start_node("--check", "--ros-args", "-p", "filter.classes:=[road]")
    assert node.wait() == 0, node.log.read_text()
    said = node.log.read_text()
    assert "above-or-below" in said
    assert "left out of filtered road" in said
    assert "semantic-kitti: car, bicycle" in said

    for arguments, complaint in (
        (("-p", "filter.classes:=[roads]"), "cannot configure: label set"),
        (("-p", "backbone.onnx_path:=a.onnx"), "backbone.onnx_path: give model.path"),
        (("-p", "input.max_points:=0"), "parameter input.max_points"),
    ):
        node = start_node("--check", "--ros-args", *arguments)
        assert node.wait() == 2
        assert complaint in node.log.read_text()
        assert "Traceback" not in node.log.read_text()
