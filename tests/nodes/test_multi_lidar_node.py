# SPDX-License-Identifier: Apache-2.0
"""Several lidars in one process, over real DDS."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.ros
FAKE = (str(Path(__file__).with_name("fake_multi_node.py")),)
REAL = ("-m", "pointdistill_ros.nodes.multi_lidar_node")
PATIENT = {
    "input.reliability": "reliable",
    "input.depth": 50,
    "input.max_age": 0.0,
    "diagnostics.silent_after": 3600.0,
}


def lidars(*names, **own):
    """The list as text; ``own``: parameters of a lidar beside those that all have."""
    return json.dumps(
        [
            {"name": name, "topic": "points", "parameters": PATIENT | own.get(name, {})}
            for name in names
        ]
    )


def labels(name):
    return f"/{name}/segmentation_node/labeled_points"


@pytest.fixture
def bench(client):
    """Publishers and outputs of two lidars by name, and the newest diagnostics of each."""
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import PointCloud2

    client.listen(DiagnosticArray, "/diagnostics", depth=1000)
    client.points = {}
    for name in ("front", "rear"):
        client.listen(PointCloud2, labels(name))
        client.points[name] = client.publisher(f"/{name}/points", depth=100)

    def array(name):
        own = f"{name}/segmentation_node: "
        arrays = reversed(client.got["/diagnostics"])
        return next((a for a in arrays if a.status[0].name.startswith(own)), None)

    def status(name, part):
        found = [s for s in getattr(array(name), "status", ()) if s.name.endswith(f": {part}")]
        return found[-1] if found else None

    client.array, client.status = array, status
    client.figures = lambda name: {v.key: v.value for v in status(name, "timing").values}
    return client


def ready(bench, *also, timeout=120):
    """Wait until clouds of both come back, also on ``also`` + their names; figures of each then."""
    for name, points in bench.points.items():
        bench.until(points.get_subscription_count, timeout)
        bench.until(lambda name=name: bench.status(name, "input") is not None)
        topics = [labels(f"{where}{name}") for where in ("", *also)]
        bench.until_answered(bench.probe(points), *topics, timeout=timeout)
    return {name: settled(bench, name) for name in bench.points}


def settled(bench, name):
    """Figures of a lidar after all that was sent before was counted."""
    now, known = time.time(), {}

    def counted():
        if (array := bench.array(name)) is None:
            return False
        stamp = array.header.stamp
        known.update({v.key: v.value for s in array.status for v in s.values})
        ended = ("processed", *(key for key in known if key.startswith("dropped: ")))
        return stamp.sec + 1e-9 * stamp.nanosec > now and sum(
            int(known[key]) for key in ended
        ) == int(known["received"])

    bench.until(counted)
    return known


def other_layout(cloud, points, seed=0):
    """Another driver's layout of the same kind of points: padding, integers, a ring."""
    from sensor_msgs.msg import PointField

    message = cloud(points, seed=seed)
    old = np.frombuffer(message.data, np.float32).reshape(-1, 4)
    kind = np.dtype(
        {
            "names": ["x", "y", "z", "intensity", "ring", "time"],
            "formats": ["<f4", "<f4", "<f4", "u1", "<u2", "<f4"],
            "offsets": [0, 4, 8, 16, 18, 20],
            "itemsize": 32,
        }
    )
    new = np.zeros(points, kind)
    for column, name in enumerate("xyz"):
        new[name] = old[:, column]
    new["intensity"] = np.clip(255 * old[:, 3], 0, 255)
    types = {"<f4": 7, "<u2": 4, "u1": 2}
    message.fields = [
        PointField(name=name, offset=kind.fields[name][1], datatype=types[text], count=1)
        for name, text in zip(kind.names, ("<f4", "<f4", "<f4", "u1", "<u2", "<f4"), strict=True)
    ]
    message.point_step = kind.itemsize
    message.row_step = message.width * message.point_step
    message.data = new.tobytes()
    return message


def test_labels_are_those_of_a_node_alone_byte_for_byte(bench, start_node, cloud, tmp_path):
    """Two layouts, sizes and counts; and two inputs cost hardly more memory than one."""
    pytest.importorskip("torch", reason="torch is not installed")
    from sensor_msgs.msg import PointCloud2

    from pointdistill_ros.checkpoint import save_checkpoint
    from tests.tiny import tiny_meta, tiny_network

    weights = tmp_path / "tiny.safetensors"
    save_checkpoint(weights, tiny_network(), tiny_meta())
    sent = {
        "front": [cloud(3000, height=10, seed=n, stamp=(7, n)) for n in range(3)],
        "rear": [other_layout(cloud, 500, seed=n) for n in range(3)],
    }
    model = [f"model.path:={weights}", "model.device:=cpu", "model.engine:=torch"]
    common = [part for setting in [*model, "model.threads:=1"] for part in ("-p", setting)]
    both = start_node("--lidars", lidars("front", "rear"), "--ros-args", *common, program=REAL)
    alone = {
        name: start_node(
            *("--ros-args", *common, "-r", f"__ns:=/alone/{name}", "-r", f"points:=/{name}/points"),
            *("-p", "input.reliability:=reliable", "-p", "input.max_age:=0.0"),
            program=("-m", "pointdistill_ros.nodes.segmentation_node"),
        )
        for name in sent
    }
    for name in sent:
        bench.listen(PointCloud2, labels(f"alone/{name}"))
        bench.until(lambda n=name: bench.points[n].get_subscription_count() == 2, 120)
    ready(bench, "alone/")
    for turn in range(3):  # the next when the last is labelled, so that none is overwritten
        for name in sent:
            bench.points[name].publish(sent[name][turn])
        for topic in [labels(name) for name in sent] + [labels(f"alone/{name}") for name in sent]:
            bench.until(lambda t=topic, c=turn + 1: len(bench.got[t]) == c)
    for name in sent:
        shared, single = bench.got[labels(name)], bench.got[labels(f"alone/{name}")]
        assert [m.header for m in shared] == [m.header for m in sent[name]]
        assert shared == single
        assert len({bytes(m.data) for m in shared}) == 3
    two, one = resident(both.process.pid), resident(alone["front"].process.pid)
    assert two < 1.2 * one, f"{two} KiB for two lidars, {one} KiB for one"


def resident(pid):
    """Memory of a process, KiB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def test_an_overloaded_lidar_and_bad_clouds_cost_the_other_one_nothing(bench, start_node, cloud):
    """front sends faster than the network is, now and then garbage; rear now and then a cloud."""
    node = start_node(lidars("front", "rear"), program=FAKE, FAKE_MILLISECONDS="40")
    before = ready(bench)
    bad = cloud(100)
    bad.fields = [field for field in bad.fields if field.name != "z"]
    for number in range(6):
        sent = other_layout(cloud, 50 + number, seed=number)
        bench.points["rear"].publish(sent)
        flood = 0
        while len(bench.got[labels("rear")]) == number:
            bench.points["front"].publish(bad if flood % 5 == 4 else cloud(100))
            bench.spin(0.01)
            flood += 1
            assert flood < 3000
        assert bench.got[labels("rear")][-1].header == sent.header
        assert bench.got[labels("rear")][-1].width == sent.width
    assert bench.got[labels("front")], "the busy one has its turns, too"
    after = settled(bench, "rear")
    assert int(after["processed"]) == int(before["rear"]["processed"]) + 6
    for kind in ("overwritten", "stale", "invalid", "failed"):
        assert after[f"dropped: {kind}"] == before["rear"][f"dropped: {kind}"]

    def burst():
        for _ in range(20):
            bench.points["front"].publish(cloud(100))

    bench.until_told(burst, lambda: int(bench.figures("front")["dropped: overwritten"]) > 0)
    bench.until_told(  # a silence would outrank it
        lambda: bench.points["front"].publish(bad),
        lambda: "'z'" in bench.status("front", "input").message,
        pause=0.2,
    )

    def rear_is_well():
        return bench.status("rear", "input").level == b"\x00"

    for _ in range(120):  # one that is silent meanwhile would be late, and so would a hasty one
        bench.points["rear"].publish(cloud(100))
        if bench.within(0.5, rear_is_well):
            break
    assert rear_is_well(), bench.status("rear", "input").message
    assert bench.figures("rear")["dropped: invalid"] == "0"
    assert node.interrupt() == 0, node.log.read_text()
    assert "Traceback" not in node.log.read_text()


def test_each_lidar_has_a_lifecycle_and_parameters_of_its_own(bench, start_node, cloud):
    front, rear = "/front/segmentation_node", "/rear/segmentation_node"
    node = start_node(lidars("front", "rear", rear={"output.layout": "append"}), program=FAKE)
    ready(bench)

    def label(name, points):
        count = len(bench.got[labels(name)])
        bench.points[name].publish(cloud(points))
        bench.until(lambda: len(bench.got[labels(name)]) > count)
        return bench.got[labels(name)][-1]

    assert len(label("front", 10).fields) == 6
    assert len(label("rear", 10).fields) == 7
    assert bench.set_parameters(front, output__layout="rgb") == (True, "")
    assert len(label("front", 10).fields) == 4
    assert len(label("rear", 10).fields) == 7

    assert bench.change_state("deactivate", rear)
    assert bench.change_state("cleanup", rear)
    assert (bench.state(rear), bench.state(front)) == ("unconfigured", "active")
    assert label("front", 20).width == 20
    assert bench.change_state("cleanup", front) is False, "an active node cannot be cleaned up"
    assert bench.change_state("deactivate", front)
    assert bench.change_state("cleanup", front)
    for transition in ("configure", "activate"):
        for name in (rear, front):
            assert bench.change_state(transition, name)
    bench.until_answered(bench.probe(bench.points["rear"]), labels("rear"))
    assert label("rear", 30).width == 30
    assert node.interrupt() == 0, node.log.read_text()
    loads = node.log.read_text().count("model above-or-below on cpu")
    assert loads == 4, "each node said at each configure what it has"


@pytest.mark.parametrize(
    ("own", "complaint"),
    [
        ({"rear": {"model.path": "teacher"}}, "one process has one model: model.path is 'student'"),
        (
            {"rear": {"pace.priority": "idle"}},
            "pace.priority is 'normal' for lidar front and 'idle'",
        ),
        ({"rear": {"input.max_age": -1.0}}, "lidar rear: parameter input.max_age"),
        ({"front": {"input.max_agee": 1.0}}, "lidar front: no parameter input.max_agee"),
    ],
)
def test_bad_parameters_are_one_line_and_exit_code_2(client, start_node, own, complaint):
    node = start_node(lidars("front", "rear", **own), program=FAKE)
    assert node.wait() == 2
    lines = node.log.read_text().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("multi_lidar_node: ")
    assert complaint in lines[0]
