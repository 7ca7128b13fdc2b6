# SPDX-License-Identifier: Apache-2.0
"""The node with a real, if tiny and untrained, network publishes what the library says."""

import numpy as np
import pytest

from pointdistill_ros.io.pointcloud2 import decode

pytestmark = pytest.mark.ros
NODE = "/segmentation_node"
PROGRAM = ("-m", "pointdistill_ros.nodes.segmentation_node")


@pytest.fixture
def weights(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    from pointdistill_ros.checkpoint import save_checkpoint
    from tests.tiny import tiny_meta, tiny_network

    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, tiny_network(), tiny_meta())
    return path


def options(weights, engine):
    """Arguments for a node on the CPU, which every machine has."""
    yield "--ros-args"
    for setting in (f"path:={weights}", "device:=cpu", f"engine:={engine}", "threads:=1"):
        yield from ("-p", f"model.{setting}")


def test_the_node_says_what_the_library_says(client, start_node, cloud, weights):
    from sensor_msgs.msg import PointCloud2

    from pointdistill_ros.segmenter import Segmenter

    node = start_node(*options(weights, "torch"), "-p", "input.max_age:=0.0", program=PROGRAM)
    client.listen(PointCloud2, f"{NODE}/labeled_points")
    points = client.publisher()
    client.until(points.get_subscription_count)
    client.until_answered(client.probe(points), f"{NODE}/labeled_points", pause=5.0)
    sent = cloud(3000, height=10)
    points.publish(sent)
    client.until(lambda: client.got[f"{NODE}/labeled_points"])
    (labelled,) = client.got[f"{NODE}/labeled_points"]
    expected = Segmenter.load(weights, device="cpu", engine="torch")(decode(sent))
    dtype = {
        "names": ["class_id", "probability", "entropy"],
        "formats": ["u1", "<f4", "<f4"],
        "offsets": [12, 16, 20],
        "itemsize": 24,
    }
    got = np.frombuffer(labelled.data, np.dtype(dtype))
    np.testing.assert_array_equal(got["class_id"], expected.labels)
    np.testing.assert_array_equal(got["probability"], expected.probability)
    np.testing.assert_array_equal(got["entropy"], expected.entropy)
    assert len(np.unique(got["class_id"])) > 1, "an answer that never varies proves nothing"
    assert node.interrupt() == 0
    assert "Traceback" not in node.log.read_text()


def test_load_is_shed_to_keep_a_limit_that_may_change(client, start_node, cloud, weights):
    """A limit that no machine can keep; then off; then one that every machine keeps."""
    from diagnostic_msgs.msg import DiagnosticArray

    from pointdistill_ros.model.degradation import LADDER

    msg = pytest.importorskip("pointdistill_ros.msg", reason="our messages are not built")
    limit, last, stats = "model.max_latency_ms:=0.01", LADDER[-1], f"{NODE}/stats"
    start_node(
        *options(weights, "auto"),
        *("-p", limit, "-p", "diagnostics.warn_age:=60.0", "-p", "diagnostics.error_age:=60.0"),
        *("-p", "diagnostics.silent_after:=60.0"),  # on a busy machine these would be reasons, too
        *("-p", "input.reliability:=reliable", "-p", "input.max_age:=0.0"),
        program=PROGRAM,
    )
    client.listen(msg.SegmentationStats, stats)
    client.listen(DiagnosticArray, "/diagnostics")
    points = client.publisher()
    client.until(points.get_subscription_count)

    def label(seed):
        """What was told of a cloud; it is sent again where nothing is, for then it was skipped."""
        client.until_heard(lambda: points.publish(cloud(3000, seed=seed)), stats, pause=15.0)
        return client.got[stats][-1]

    def timing():
        client.until(lambda: client.got["/diagnostics"])
        statuses = client.got["/diagnostics"][-1].status
        return next(s for s in statuses if s.name.endswith(": timing"))

    def told():
        return {entry.key: entry.value for entry in timing().values}

    first = label(0)  # the measure for those to come
    assert first.voxels > last.max_voxels and first.degradation == ""
    shed = label(1)
    assert shed.health == shed.ALARM
    assert shed.degradation.startswith("timing: cannot stay within 0.01 ms, ")
    assert shed.degradation.endswith(f" ms expected even with {last.name}")
    assert 0 < shed.voxels <= last.max_voxels
    assert shed.valid_points == shed.points == 3000
    client.until(lambda: told()["degradation"] == last.name)
    assert (timing().level, told()["latency budget ms"]) == (b"\x02", "0.01")
    assert timing().message in shed.degradation
    assert 0 < float(told()["predicted ms"]) < 60_000

    for limit, shown in ((0.0, "off"), (60_000.0, "60000")):
        assert client.set_parameters(model__max_latency_ms=limit) == (True, "")
        assert label(2).voxels > last.max_voxels, "all voxels stay"
        client.until(lambda shown=shown: told()["latency budget ms"] == shown)
        assert told()["degradation"] == "none"
    client.until(lambda: timing().message == "in time")
    calm = label(3)  # after a pause, which the input may call a late cloud
    assert calm.health < calm.ALARM and "timing" not in calm.degradation


def test_a_missing_checkpoint_is_named(client, start_node, tmp_path):
    node = start_node(
        "--ros-args", "-p", f"model.path:={tmp_path}/none.safetensors", program=PROGRAM
    )
    complaint = f"cannot load model {tmp_path}/none.safetensors"
    client.until(lambda: complaint in node.log.read_text())
    assert client.state() == "unconfigured"
    assert node.interrupt() == 0
