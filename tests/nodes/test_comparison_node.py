# SPDX-License-Identifier: Apache-2.0
"""The comparison node as a process of its own, over real DDS, with labellings from here."""

import numpy as np
import pytest

from pointdistill_ros.evaluation.agreement import Labelling, compare
from pointdistill_ros.evaluation.distance import band_of
from pointdistill_ros.io.pointcloud2 import decode
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.segmentation import Segmentation
from tests.nodes.conftest import make_cloud

pytestmark = pytest.mark.ros
NODE = "/comparison_node"
STUDENT = "/student/labeled_points"
EACH, WINDOW, DIFFERS = f"{NODE}/comparison", f"{NODE}/comparison_window", f"{NODE}/disagreement"
PROGRAM = ("-m", "pointdistill_ros.nodes.comparison_node")
KITTI = LabelSet.named("semantic-kitti")
RELIABLE = ("-p", "input.reliability:=reliable", "-p", "input.depth:=100")
PATIENT = ("-p", "diagnostics.teacher_silent_after:=3600.0")
"""On a busy machine a pause may be long; it would outrank what is told of clouds."""


class Side:
    """Publishes what a labelling node would."""

    def __init__(self, client, name, model_id):
        from rclpy.qos import DurabilityPolicy, QoSProfile

        from pointdistill_ros.nodes import messages

        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.clouds = client.publisher(f"/{name}/labeled_points", depth=50)
        self.info = client.node.create_publisher(
            messages.class_info_type(), f"/{name}/class_info", latched
        )
        self.info.publish(messages.class_info(KITTI, model_id, "0" * 64))
        self.writer = messages.CloudWriter()

    def label(self, cloud, labels, layout="xyzcpe_aligned"):
        half = np.full(len(labels), 0.5, np.float32)
        result = Segmentation(labels.astype(np.uint8), half, half, KITTI)
        self.clouds.publish(self.writer.write(cloud, result, layout))


@pytest.fixture
def bench(client):
    from diagnostic_msgs.msg import DiagnosticArray

    from pointdistill_ros.nodes import comparison_messages

    kind = comparison_messages.comparison_type()
    client.fields = comparison_messages.comparison_fields
    client.listen(kind, EACH)
    client.listen(kind, WINDOW, latched=True)
    client.listen(DiagnosticArray, "/diagnostics")
    client.kind = kind

    def stamp_of(message):
        header = getattr(message, "header", None)
        if header is None:
            stamp = client.fields(message)["header"]["stamp"]
            return stamp["sec"], stamp["nanosec"]
        return header.stamp.sec, header.stamp.nanosec

    client.stamp_of = stamp_of
    client.student, client.teacher = (
        Side(client, "student", "small"),
        Side(client, "teacher", "big"),
    )
    return client


def status(bench, part):
    for array in reversed(bench.got["/diagnostics"]):
        for one in array.status:
            if one.name == f"comparison_node: {part}":
                return one
    return None


def values(bench, part):
    found = status(bench, part)
    return {} if found is None else {entry.key: entry.value for entry in found.values}


def ready(bench, *also):
    """Both sides are known and heard, and we hear; how many pairs of one point that took."""
    for side in ("student", "teacher"):
        bench.until(
            lambda side=side: (
                values(bench, side).get("model") and values(bench, side)["publishers"] == "1"
            )
        )
    for side in (bench.student, bench.teacher):
        bench.until(lambda side=side: side.clouds.get_subscription_count())
    sent = []

    def publish():
        one = make_cloud(1, stamp=(10_000 + len(sent), 0))
        sent.append(one)
        for side in (bench.student, bench.teacher):
            side.label(one, np.zeros(1))
        return one.header.stamp.sec, 0

    bench.until_answered(publish, EACH, WINDOW, *also, stamp_of=bench.stamp_of)
    return len(sent)


def test_every_cloud_of_both_is_compared_and_nobody_waits(bench, start_node, cloud):
    """The teacher labels every third cloud, late; the figures are those of the library."""
    from sensor_msgs.msg import PointCloud2

    bench.listen(PointCloud2, DIFFERS)
    start_node(
        *("--ros-args", *RELIABLE, *PATIENT, "-p", "diagnostics.min_clouds:=1000"), program=PROGRAM
    )
    before = ready(bench, DIFFERS)
    random = np.random.default_rng(0)
    clouds = [cloud(200, seed=i, stamp=(100 + i, 0)) for i in range(12)]
    said = [random.integers(0, 3, (2, 200)) for _ in clouds]
    taught = range(0, 12, 3)
    for sent, labels in zip(clouds, said, strict=True):
        bench.student.label(sent, labels[0])
    bench.until(lambda: values(bench, "student").get("received") == str(before + 12))
    for i in taught:
        bench.teacher.label(clouds[i], said[i][1])
    bench.until(lambda: len(bench.got[EACH]) == len(taught))
    bench.until(lambda: len(bench.got[WINDOW]) == len(taught))
    found = [bench.fields(message) for message in bench.got[EACH]]
    assert [f["header"]["stamp"]["sec"] for f in found] == [100 + i for i in taught]
    total = None
    for i, fields in zip(taught, found, strict=True):
        half = np.full(200, 0.5)
        sides = [Labelling(labels.astype(np.uint8), half) for labels in said[i]]
        expected = compare(*sides, len(KITTI), band_of(decode(clouds[i]).xyz))
        total = expected if total is None else total + expected
        assert fields["points"] == 200
        assert fields["agreement"] == pytest.approx(expected.agreement, rel=1e-6)
        assert fields["divergence"] == pytest.approx(expected.divergence, rel=1e-6)
        np.testing.assert_allclose(fields["class_iou"], expected.class_iou, rtol=1e-6)
        np.testing.assert_allclose(fields["band_agreement"], expected.agreement_by_band, rtol=1e-6)
        assert np.isnan(fields["student_age_ms"]), "stamps of 1970 follow another clock"
        assert fields["teacher_lag_ms"] > 0
    last = bench.fields(bench.got[WINDOW][-1])
    assert (last["clouds"], last["points"]) == (before + 4, before + 800)
    agreement = (before + 800 * total.agreement) / (before + 800)
    assert last["agreement"] == pytest.approx(agreement, rel=1e-6)

    bench.until(lambda: len(bench.got[DIFFERS]) == len(taught))
    for i, differs in zip(taught, bench.got[DIFFERS], strict=True):
        assert differs.header == clouds[i].header
        assert differs.width == (said[i][0] != said[i][1]).sum()
    bench.until(lambda: values(bench, "student").get("waiting") == "8")
    bench.until(lambda: status(bench, "agreement").level == b"\x00")  # fewer than min_clouds

    bench.listen(bench.kind, WINDOW, latched=True)  # whoever comes late gets the last window
    bench.until(lambda: bench.got[WINDOW])
    assert bench.fields(bench.got[WINDOW][-1])["clouds"] == before + 4


def test_disagreement_warns_and_ends_and_limits_can_change(bench, start_node, cloud):
    start_node(
        *("--ros-args", *RELIABLE, *PATIENT),
        *("-p", "diagnostics.min_clouds:=2", "-p", "window.clouds:=4"),
        program=PROGRAM,
    )
    ready(bench)
    number = iter(range(1000))

    def send(share, count):
        for _ in range(count):
            sent = cloud(100, stamp=(500, next(number)))
            labels = np.zeros(100)
            bench.student.label(sent, np.where(np.arange(100) < 100 * share, 0, 1))
            bench.teacher.label(sent, labels)
        last = bench.got[EACH][-1:]
        bench.until(lambda: bench.got[EACH][-1:] != last)

    def until_level(level):
        # the other statuses may change on a busy machine, this one only by what was sent
        bench.until(lambda: status(bench, "agreement").level == level)

    send(0.7, 3)
    until_level(b"\x01")
    send(0.1, 4)
    until_level(b"\x02")
    assert bench.set_parameters(NODE, diagnostics__error_below=0.9)[0] is False
    assert "must not exceed" in bench.set_parameters(NODE, diagnostics__error_below=0.9)[1]
    assert bench.set_parameters(
        NODE, diagnostics__error_below=0.02, diagnostics__warn_below=0.05, window__clouds=2
    ) == (True, "")
    send(0.2, 2)
    until_level(b"\x00")
    assert bench.fields(bench.got[WINDOW][-1])["clouds"] <= 4


def test_bad_clouds_and_strangers_are_reported_and_the_next_pair_is_compared(
    bench, start_node, cloud
):
    start_node("--ros-args", *RELIABLE, *PATIENT, program=PROGRAM)
    ready(bench)
    first, second = cloud(100, stamp=(1, 0)), cloud(100, seed=1, stamp=(1, 0))
    labels = np.zeros(100)
    bench.teacher.label(first, labels, "rgb")
    bench.until(lambda: "class_id" in status(bench, "teacher").message)
    bench.student.label(first, labels)
    bench.teacher.label(second, labels)
    bench.until(lambda: "different points" in status(bench, "agreement").message)
    assert status(bench, "agreement").level == b"\x02"
    good = cloud(100, stamp=(2, 0))
    bench.student.label(good, labels)
    bench.teacher.label(good, labels)
    bench.until(lambda: bench.got[EACH])
    assert bench.fields(bench.got[EACH][0])["agreement"] == 1.0


def test_the_lifecycle_and_its_refusals(client, start_node):
    node = start_node(
        "--ros-args",
        *("-p", "autostart:=false", "-p", "input.teacher_label_set:=none_such"),
        program=PROGRAM,
    )
    assert client.state(NODE) == "unconfigured"
    assert not client.change_state("configure", NODE)
    assert "no label set 'none_such'" in node.log.read_text()
    assert node.interrupt() == 0
    good = start_node("--ros-args", "-p", "autostart:=false", program=PROGRAM)
    for _ in range(2):
        for transition, state in (("configure", "inactive"), ("activate", "active")):
            assert client.change_state(transition, NODE)
            assert client.state(NODE) == state
        assert client.change_state("deactivate", NODE)
        assert client.change_state("cleanup", NODE)
    assert good.interrupt() == 0
    assert "Traceback" not in good.log.read_text()


def test_a_bad_override_is_one_line(start_node):
    node = start_node("--ros-args", "-p", "window.clouds:=0", program=PROGRAM)
    assert node.wait() == 2
    (line,) = node.log.read_text().splitlines()
    assert line.startswith("comparison_node: parameter window.clouds")


@pytest.mark.timeout(400)  # five processes, and a busy machine starts one in half a minute
def test_teacher_and_comparison_may_die_and_the_student_does_not_notice(bench, start_node, cloud):
    """Real nodes on both sides; every cloud gets the student's labels whatever the teacher does."""
    from sensor_msgs.msg import PointCloud2

    for side in (bench.student, bench.teacher):
        bench.node.destroy_publisher(side.clouds)
        bench.node.destroy_publisher(side.info)
    every = ("--ros-args", "-p", "input.reliability:=reliable", "-p", "input.depth:=50")
    every = (*every, "-p", "input.max_age:=0.0")

    def start_teacher():
        return start_node(*every, "-r", "__node:=teacher", FAKE_FLIP="0.0")

    start_node(*every, "-r", "__node:=student")
    teacher = start_teacher()
    comparison = start_node(
        *("--ros-args", *RELIABLE, "-p", "diagnostics.teacher_silent_after:=0.5"), program=PROGRAM
    )
    bench.listen(PointCloud2, STUDENT)
    points = bench.publisher()
    number = iter(range(1000))

    def listening():
        names = {e.node_name for e in bench.node.get_subscriptions_info_by_topic("/points")}
        return {"student", "teacher"} <= names and all(
            values(bench, side).get("model") for side in ("student", "teacher")
        )

    def publish():
        stamp = (900, next(number))
        points.publish(cloud(100, stamp=stamp))
        return stamp

    def send():
        """One cloud, answered by the student before the next."""
        count = len(bench.got[STUDENT]) + 1
        publish()
        bench.until(lambda: len(bench.got[STUDENT]) == count)

    bench.until(lambda: listening() and points.get_subscription_count() == 2)
    bench.until_answered(publish, STUDENT, EACH, stamp_of=bench.stamp_of)
    for compared in (1, 2, 3):  # the teacher is slower, and takes the newest
        send()
        bench.until(lambda n=compared: len(bench.got[EACH]) == n)
    bench.until(lambda: bench.got[WINDOW])
    assert 0.2 < bench.fields(bench.got[WINDOW][-1])["agreement"] < 0.8

    teacher.kill()
    for _ in range(5):
        send()
    bench.until(lambda: status(bench, "teacher").message.startswith("no labels for over 0.5 s"))
    assert len(bench.got[EACH]) == 3

    start_teacher()
    bench.until_heard(send, EACH)

    comparison.kill()
    for _ in range(5):
        send()
