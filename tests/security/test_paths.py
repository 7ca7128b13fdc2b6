# SPDX-License-Identifier: Apache-2.0
"""Paths of strangers lead to files or to one sentence; nothing blocks, nothing is read forever."""

import os
import socket
from pathlib import Path

import pytest

from pointdistill_ros.config import ModelConfig
from pointdistill_ros.errors import CheckpointError, InputError, LabelError, PointDistillError
from pointdistill_ros.io.bag import BagReader
from pointdistill_ros.io.binfile import read_labels
from pointdistill_ros.io.open import READERS, open_scans, read_scan
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.nodes.model import load_segmenter

pytestmark = pytest.mark.timeout(60)  # a pipe that blocks ends the test


def folder(path):
    path.mkdir()


def loop(path):
    path.symlink_to(path)


def link_to_device(path):
    path.symlink_to("/dev/zero")


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # addresses are short
        server.bind(path.name)
        os.chdir(here)


STRANGE = {
    folder: "a folder",
    os.mkfifo: "a device, pipe or socket",
    loop: "symbolic links|no such file",
    link_to_device: "a device, pipe or socket",
    unix_socket: "a device, pipe or socket",
}


@pytest.fixture(params=STRANGE, ids=lambda make: make.__name__)
def strange(request):
    return request.param, STRANGE[request.param]


def test_weights(tmp_path, strange):
    make, reason = strange
    make(tmp_path / "a.safetensors")
    with pytest.raises(PointDistillError, match=reason):
        load_segmenter(ModelConfig(path=str(tmp_path / "a.safetensors")))


def test_public_weights(tmp_path, strange):
    public_weights = pytest.importorskip("pointdistill_ros.public_weights", exc_type=ImportError)
    make, reason = strange
    make(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=f"^{tmp_path / 'a.pth'}: .*({reason})"):
        public_weights.read_public(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/dev/zero", "device"),
        ("/dev/stdin", "device|Permission|No such|no such"),
        ("/", "a folder"),
        ("", "no shipped network"),
        ("..", "no shipped network"),
        ("student/../../x", "no such checkpoint"),
        ("~/x.safetensors", "no such checkpoint"),
        ("https://example.org/x.safetensors", "nothing is downloaded"),
        ("file:///etc/passwd", "nothing is downloaded"),
        ("/etc/passwd", "damaged or not safetensors"),
        ("/proc/self/mem", "damaged or not safetensors"),
        ("a\0b.safetensors", "not a path"),
        ("a\0b", "no shipped network"),
        ("a" * 5000, "no shipped network"),
        ("a" * 5000 + ".safetensors", "File name too long"),
        ("x/" * 5000 + "a", "File name too long"),
    ],
)
def test_weights_that_are_none(path, reason):
    with pytest.raises(PointDistillError, match=reason):
        load_segmenter(ModelConfig(path=path))


@pytest.mark.parametrize("suffix", [*READERS, ".mcap", ".db3", ".bag"])
def test_scans_and_bags(tmp_path, strange, suffix):
    make, reason = strange
    path = tmp_path / f"a{suffix}"
    make(path)
    if suffix in READERS:
        with pytest.raises(InputError, match=f"{reason}|no such file"):
            read_scan(path)
    if make is not folder or suffix != ".mcap":  # a folder of that name may hold a bag
        with pytest.raises(InputError):
            list(open_scans(path))


def test_labels(tmp_path, strange):
    make, reason = strange
    make(tmp_path / "a.label")
    with pytest.raises(InputError, match=reason):
        read_labels(tmp_path / "a.label")


@pytest.mark.parametrize("name", ["metadata.yaml", "bag.mcap"])
def test_a_pipe_in_a_bag_folder(tmp_path, name):
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "metadata.yaml").write_text("rosbag2_bagfile_information: {}")
    (tmp_path / "bag" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "bag" / name)
    with pytest.raises(InputError, match=f"{name}: a device, pipe"):
        BagReader(tmp_path / "bag")


def test_a_pipe_instead_of_times(tmp_path):
    (tmp_path / "velodyne").mkdir()
    (tmp_path / "velodyne" / "0.bin").touch()
    os.mkfifo(tmp_path / "times.txt")
    assert [len(scan) for _, scan in open_scans(tmp_path)] == [0]


@pytest.mark.parametrize("read", [read_scan, open_scans, BagReader])
@pytest.mark.parametrize("name", ["a" * 5000 + ".bin", "a\0.bin", "x/" * 5000])
def test_names_that_no_file_has(read, name):
    with pytest.raises(InputError, match="no such file"):
        read(Path(name))


@pytest.mark.parametrize("name", ["../labels/waymo", "/etc/x", "a" * 5000, "a\0", "", "waymo.yaml"])
def test_label_sets_come_from_their_folder(name):
    with pytest.raises(LabelError, match="no label set"):
        LabelSet.named(name)


@pytest.mark.ros
@pytest.mark.parametrize("make", [os.mkfifo, folder], ids=lambda m: m.__name__)
def test_configure_fails_with_the_reason_and_the_node_lives(tmp_path, make, capfd):
    rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed")
    from rclpy.lifecycle import TransitionCallbackReturn
    from rclpy.parameter import Parameter
    from rclpy.signals import SignalHandlerOptions

    from pointdistill_ros.nodes.segmentation_node import SegmentationNode

    path = tmp_path / "a.safetensors"
    make(path)
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        given = {"autostart": False, "model.path": str(path)}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        node = SegmentationNode(context=context, parameter_overrides=overrides)
        try:
            for _ in range(2):
                assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
                assert f"cannot load model {path}: {path}: a " in capfd.readouterr().err
        finally:
            node.destroy_node()
    finally:
        context.try_shutdown()
