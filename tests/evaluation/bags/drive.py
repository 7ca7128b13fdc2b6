# SPDX-License-Identifier: Apache-2.0
"""A short drive past walls, as a bag: a world that stands still and one thing that moves."""

import numpy as np
from rosbags.rosbag2 import CompressionFormat, Writer
from rosbags.typesys import Stores, get_typestore

from pointdistill_ros import LabelSet, LidarScan
from pointdistill_ros.io.bag import BagReader, BagWriter
from pointdistill_ros.io.cloud_parts import encode_scan

KITTI = LabelSet.named("semantic-kitti")
ROAD, BUILDING, CAR = (KITTI.index(name) for name in ("road", "building", "car"))
TYPES = get_typestore(Stores.ROS2_KILTED)
STAMP, PERIOD, DELAY = 1_700_000_000_000_000_000, 100_000_000, 7
SPEED = 5.0


def pose(i):
    """Sensor in the world: straight on, turning a little."""
    yaw = 0.01 * i
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    matrix[:3, 3] = [SPEED * 0.1 * i, 0.1 * i, 1.73]
    return matrix


def world(i, points=900):
    """Points of the world and their labels at frame i: road, walls, a car at 20 m/s."""
    rng = np.random.default_rng(0)
    n = points // 3
    road = np.column_stack([rng.uniform(-12, 20, (n, 1)), rng.uniform(-6, 6, (n, 1)), np.zeros(n)])
    wall = np.column_stack([rng.uniform(-12, 20, n), np.repeat([7.0, -7.0], n)[:n], np.ones(n)])
    wall[:, 2] = rng.uniform(0, 3, n)
    car = rng.uniform(0, 1, (n, 3)) * [3, 1.5, 1.4] + [2.0 * i - 10, 3, 0.7]
    labels = np.repeat([ROAD, BUILDING, CAR], n).astype(np.uint8)
    return np.vstack([road, wall, car]), labels


def scan(i, points=900):
    """The world as the sensor sees it, with its labels."""
    xyz, labels = world(i, points)
    here = np.linalg.inv(pose(i))
    xyz = (xyz @ here[:3, :3].T + here[:3, 3]).astype(np.float32)
    intensity = np.linspace(0.1, 0.5, len(xyz)).astype(np.float32)
    return LidarScan(xyz, intensity, stamp_ns=STAMP + i * PERIOD, frame="lidar"), labels


def header(time_ns, frame):
    kinds = TYPES.types
    stamp = kinds["builtin_interfaces/msg/Time"](sec=time_ns // 10**9, nanosec=time_ns % 10**9)
    return kinds["std_msgs/msg/Header"](stamp=stamp, frame_id=frame)


def vector(kind, values):
    return TYPES.types[f"geometry_msgs/msg/{kind}"](*map(float, values))


def tf(time_ns, parent, child, matrix):
    """A serialised TFMessage of a turn about z."""
    half = np.arctan2(matrix[1, 0], matrix[0, 0]) / 2
    kinds = TYPES.types
    transform = kinds["geometry_msgs/msg/Transform"](
        vector("Vector3", matrix[:3, 3]), vector("Quaternion", (0, 0, np.sin(half), np.cos(half)))
    )
    message = kinds["tf2_msgs/msg/TFMessage"](
        [kinds["geometry_msgs/msg/TransformStamped"](header(time_ns, parent), child, transform)]
    )
    return TYPES.serialize_cdr(message, "tf2_msgs/msg/TFMessage")


def odometry(time_ns, parent, child, matrix):
    """A serialised Odometry."""
    half = np.arctan2(matrix[1, 0], matrix[0, 0]) / 2
    kinds, nothing = TYPES.types, np.zeros(36)
    here = kinds["geometry_msgs/msg/Pose"](
        vector("Point", matrix[:3, 3]), vector("Quaternion", (0, 0, np.sin(half), np.cos(half)))
    )
    still = kinds["geometry_msgs/msg/Twist"](vector("Vector3", [0] * 3), vector("Vector3", [0] * 3))
    message = kinds["nav_msgs/msg/Odometry"](
        header(time_ns, parent),
        child,
        kinds["geometry_msgs/msg/PoseWithCovariance"](here, nothing),
        kinds["geometry_msgs/msg/TwistWithCovariance"](still, nothing),
    )
    return TYPES.serialize_cdr(message, "nav_msgs/msg/Odometry")


MOUNT = np.eye(4)
MOUNT[:3, 3] = [1.0, 0.0, 0.5]


def write_drive(path, frames=12, points=900, motion="tf", labels=None):
    """Write the drive. motion: tf, odometry or nothing. labels: field, or a topic."""
    with BagWriter(path) as bag:
        if motion:
            static = tf(STAMP, "base_link", "lidar", MOUNT)
            bag.write("/tf_static", "tf2_msgs/msg/TFMessage", STAMP - 5, static, latched=True)
        for i in range(frames):
            one, truth = scan(i, points)
            base = pose(i) @ np.linalg.inv(MOUNT)
            if motion == "tf":
                cdr = tf(one.stamp_ns, "odom", "base_link", base)
                bag.write("/tf", "tf2_msgs/msg/TFMessage", one.stamp_ns, cdr)
            elif motion == "odometry":
                cdr = odometry(one.stamp_ns, "odom", "base_link", base)
                bag.write("/odom", "nav_msgs/msg/Odometry", one.stamp_ns, cdr)
            raw = {"label": KITTI.to_raw(truth).astype(np.uint16)}
            now = one.stamp_ns + DELAY
            header_of = {"stamp_ns": one.stamp_ns, "frame": "lidar"}
            parts = encode_scan(one, raw if labels == "field" else None)
            bag.write_cloud("/points", now, parts, **header_of)
            if labels and labels.startswith("/"):
                bag.write_cloud(labels, now + 3, encode_scan(one, raw), **header_of)
    return path


def rewrite(source, path, storage, mode):
    """The same messages in another form."""
    writer = Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer, BagReader(source) as bag:
        connections = {
            topic: writer.add_connection(topic, kind, typestore=TYPES)
            for topic, kind in bag.topics.items()
        }
        for message in bag.messages():
            writer.write(connections[message.topic], message.time_ns, message.cdr)
    return path


def split(source, path, pieces=3):
    """The same messages as a recorder writes them that begins a new file now and then."""
    import yaml

    with BagReader(source) as bag:
        kinds, messages = dict(bag.topics), list(bag.messages())
    path.mkdir()
    metadata, files = None, []
    size = -(-len(messages) // pieces)
    for number in range(pieces):
        name = f"{path.name}_{number}"
        with Writer(path / name, version=9) as writer:
            connections = {
                t: writer.add_connection(t, k, typestore=TYPES) for t, k in kinds.items()
            }
            for message in messages[number * size : (number + 1) * size]:
                writer.write(connections[message.topic], message.time_ns, message.cdr)
        (path / name / f"{name}.db3").rename(path / f"{name}.db3")
        one = yaml.safe_load((path / name / "metadata.yaml").read_text())
        (path / name / "metadata.yaml").unlink()
        (path / name).rmdir()
        files.append(f"{name}.db3")
        information = one["rosbag2_bagfile_information"]
        if metadata is None:
            metadata = one
        else:
            total = metadata["rosbag2_bagfile_information"]
            total["message_count"] += information["message_count"]
            pairs = zip(
                total["topics_with_message_count"],
                information["topics_with_message_count"],
                strict=True,
            )
            for mine, other in pairs:
                mine["message_count"] += other["message_count"]
    total = metadata["rosbag2_bagfile_information"]
    total["relative_file_paths"] = files
    total["duration"] = {"nanoseconds": messages[-1].time_ns - messages[0].time_ns}
    (path / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    return path
