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


def test_the_node_says_what_the_library_says(client, start_node, cloud, weights):
    from sensor_msgs.msg import PointCloud2

    from pointdistill_ros.segmenter import Segmenter

    node = start_node(
        "--ros-args", "-p", f"model.path:={weights}", "-p", "model.threads:=1", program=PROGRAM
    )
    client.listen(PointCloud2, f"{NODE}/labeled_points")
    points = client.publisher()
    client.until(points.get_subscription_count, timeout=60)
    client.until(lambda: client.node.count_publishers(f"{NODE}/labeled_points"))
    client.spin(0.3)
    sent = cloud(3000, height=10)
    points.publish(sent)
    client.until(lambda: client.got[f"{NODE}/labeled_points"])
    (labelled,) = client.got[f"{NODE}/labeled_points"]
    expected = Segmenter.load(weights, device="cpu")(decode(sent))
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


def test_a_missing_checkpoint_is_named(client, start_node, tmp_path):
    node = start_node(
        "--ros-args", "-p", f"model.path:={tmp_path}/none.safetensors", program=PROGRAM
    )
    complaint = f"cannot load model {tmp_path}/none.safetensors"
    client.until(lambda: complaint in node.log.read_text(), timeout=60)
    assert client.state() == "unconfigured"
    assert node.interrupt() == 0
