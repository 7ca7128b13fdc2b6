# SPDX-License-Identifier: Apache-2.0
"""Bags: written whole or not at all, read in every storage form, refused with the reason."""

import shutil
import sqlite3
import tracemalloc

import numpy as np
import pytest
from mcap.reader import make_reader
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from pointdistill_ros import LidarScan
from pointdistill_ros.errors import InputError
from pointdistill_ros.io.bag import POINTCLOUD2, BagReader, BagScans, BagWriter
from pointdistill_ros.io.pointcloud2 import encode_scan

KILTED = get_typestore(Stores.ROS2_KILTED)
NOETIC = get_typestore(Stores.ROS1_NOETIC)
STAMP = 1_700_000_000_123_456_789


def scan(number=0, points=50):
    xyz = np.arange(3.0 * points).reshape(-1, 3) + number
    return LidarScan.from_arrays(xyz, np.full(points, 0.5), ring=np.arange(points))


def write(path, scans=5, topic="/points", points=50):
    with BagWriter(path) as bag:
        for i in range(scans):
            time_ns = STAMP + i * 100_000_000
            bag.write_cloud(
                topic, time_ns + 7, encode_scan(scan(i, points)), stamp_ns=time_ns, frame="velo"
            )
    return path


def rewrite(source, path, storage, mode):
    """The same messages through rosbags' own writer."""
    writer = Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer, BagReader(source) as bag:
        connection = writer.add_connection("/points", POINTCLOUD2, typestore=KILTED)
        for message in bag.messages():
            writer.write(connection, message.time_ns, message.cdr)
    return path


def check(source):
    names_and_scans = list(source)
    assert [name for name, _ in names_and_scans] == source.names == [f"{i:06d}" for i in range(5)]
    assert len(source) == 5
    for i, (_, read) in enumerate(names_and_scans):
        np.testing.assert_array_equal(read.xyz, scan(i).xyz)
        np.testing.assert_array_equal(read.intensity, np.float32(0.5))
        assert (read.stamp_ns, read.frame) == (STAMP + i * 100_000_000, "velo")
    assert [e.time_ns for e in source.entries()][:2] == [STAMP + 7, STAMP + 100_000_007]


def test_single_file_round_trip(tmp_path):
    write(tmp_path / "new" / "a.mcap")
    assert [p.name for p in tmp_path.rglob("*")] == ["new", "a.mcap"]  # nothing else is left
    check(BagScans(tmp_path / "new" / "a.mcap"))


def test_folder_round_trip(tmp_path):
    write(tmp_path / "bag")
    assert sorted(p.name for p in (tmp_path / "bag").iterdir()) == ["bag.mcap", "metadata.yaml"]
    check(BagScans(tmp_path / "bag"))


def test_single_file_is_read_by_mcap_itself(tmp_path):
    with write(tmp_path / "a.mcap").open("rb") as file:
        reader = make_reader(file)
        assert reader.get_summary().statistics.message_count == 5
        metadata = next(iter(reader.iter_metadata())).metadata["serialized_metadata"]
    assert "- a.mcap" in metadata  # names itself, not the scratch folder


FORMS = [(storage, mode) for storage in StoragePlugin for mode in CompressionMode]
FORMS.remove((StoragePlugin.SQLITE3, CompressionMode.STORAGE))  # this one does not exist


@pytest.mark.parametrize(("storage", "mode"), FORMS)
def test_every_storage_and_compression(tmp_path, storage, mode):
    check(BagScans(rewrite(write(tmp_path / "a.mcap"), tmp_path / "bag", storage, mode)))


def test_bare_db3(tmp_path):
    bag = rewrite(
        write(tmp_path / "a.mcap"), tmp_path / "bag", StoragePlugin.SQLITE3, CompressionMode.NONE
    )
    check(BagScans(bag / "bag.db3"))


def test_ros1_bag(tmp_path):
    types = NOETIC.types
    with Ros1Writer(tmp_path / "a.bag") as bag, BagReader(write(tmp_path / "a.mcap")) as ros2:
        connection = bag.add_connection("/points", POINTCLOUD2, typestore=NOETIC)
        for number, message in enumerate(ros2.messages()):
            cloud = ros2.cloud(message)
            stamp = types["builtin_interfaces/msg/Time"](
                sec=cloud.header.stamp.sec, nanosec=cloud.header.stamp.nanosec
            )
            cloud.header = types["std_msgs/msg/Header"](number, stamp, "velo")
            raw = NOETIC.serialize_ros1(cloud, POINTCLOUD2)
            bag.write(connection, message.time_ns, raw)
    check(BagScans(tmp_path / "a.bag"))


def test_messages_by_topic_and_time(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        for i in range(10):
            bag.write_text(f"/t{i % 2}", i, f"text {i}")
    with BagReader(tmp_path / "a.mcap") as bag:
        assert dict(bag.topics) == dict.fromkeys(("/t0", "/t1"), "std_msgs/msg/String")
        assert dict(bag.counts) == {"/t0": 5, "/t1": 5}
        assert [m.time_ns for m in bag.messages()] == list(range(10))
        assert [m.time_ns for m in bag.messages("/t1", start_ns=3, stop_ns=8)] == [3, 5, 7]
        assert list(bag.messages("/none")) == []


def test_latched_topics_say_so(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write_text("/class_info", 1, "once", latched=True)
        bag.write_text("/text", 1, "often")
    with BagReader(tmp_path / "a.mcap") as bag:
        profiles = {c.topic: c.ext.offered_qos_profiles for c in bag._reader.connections}
    assert profiles["/class_info"][0].durability.name == "TRANSIENT_LOCAL"
    assert profiles["/text"] == []


def test_own_message_types(tmp_path):
    kind, text = "own_msgs/msg/Speed", "float32 value"
    types = get_typestore(Stores.EMPTY)
    types.register(get_types_from_msg(text, kind))
    cdr = types.serialize_cdr(types.types[kind](value=2.5), kind)
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write("/speed", kind, 1, cdr, definition=text)
        bag.write("/speed", kind, 2, cdr)
    with BagReader(tmp_path / "a.mcap") as bag:
        assert [types.deserialize_cdr(m.cdr, kind).value for m in bag.messages()] == [2.5, 2.5]


@pytest.mark.parametrize("name", ["a.mcap", "folder"])
def test_after_an_error_nothing_remains(tmp_path, name):
    with pytest.raises(KeyError), BagWriter(tmp_path / name) as bag:
        bag.write_text("/text", 1, "lost")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_an_error_spares_the_older_file(tmp_path):
    old = write(tmp_path / "a.mcap").read_bytes()
    with pytest.raises(KeyError), BagWriter(tmp_path / "a.mcap"):
        raise KeyError
    assert (tmp_path / "a.mcap").read_bytes() == old
    check(BagScans(write(tmp_path / "a.mcap")))  # success replaces it


def test_where_bags_cannot_go(tmp_path):
    (tmp_path / "folder").mkdir()
    for name, reason in (("folder", "exists already"), ("a.db3", "expected NAME.mcap")):
        with pytest.raises(InputError, match=reason):
            BagWriter(tmp_path / name)


def texts(path, **kinds):
    """A bag with one message of each type (field-free stand-ins for vendors' messages)."""
    with BagWriter(path) as bag:
        for topic, kind in kinds.items():
            bag.write(f"/{topic}", kind, 1, b"\0\1\0\0\0", definition="uint8 nothing")
    return path


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("velodyne_msgs/msg/VelodyneScan", "velodyne_pointcloud"),
        ("nebula_msgs/msg/NebulaPackets", "sensor's driver"),
        ("ouster_sensor_msgs/msg/PacketMsg", "sensor's driver"),
        ("livox_ros_driver2/msg/CustomMsg", "xfer_format to 0"),
        ("own_msgs/msg/Speed", r"\)$"),
    ],
)
def test_bag_without_clouds_says_what_it_holds(tmp_path, kind, hint):
    with pytest.raises(InputError, match=rf"no PointCloud2.*/lidar \({kind}.*{hint}"):
        BagScans(texts(tmp_path / "a.mcap", lidar=kind))


def test_topic_choice(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        for topic in ("/front", "/rear"):
            bag.write_cloud(topic, 1, encode_scan(scan()), stamp_ns=1, frame="f")
        bag.write_text("/text", 1, "x")
    with pytest.raises(InputError, match="several PointCloud2 topics; choose one of /front, /rear"):
        BagScans(tmp_path / "a.mcap")
    with pytest.raises(InputError, match="no topic /roof; choose one of /front, /rear"):
        BagScans(tmp_path / "a.mcap", "/roof")
    with pytest.raises(InputError, match="/text holds std_msgs/msg/String; expected sensor_msgs"):
        BagScans(tmp_path / "a.mcap", "/text")
    assert BagScans(tmp_path / "a.mcap", "rear").topic == "/rear"


@pytest.mark.parametrize("keep", [0, 4, 60, 0.3, 0.99])
def test_truncated_mcap(tmp_path, keep):
    file = write(tmp_path / "a.mcap", points=5000)
    data = file.read_bytes()
    file.write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    with pytest.raises(InputError, match=r"a\.mcap: not a readable bag"):
        list(BagScans(file))


def test_damaged_bags_give_input_error_or_clouds(tmp_path):
    rng = np.random.default_rng(5)
    source = write(tmp_path / "a.mcap")
    folder = rewrite(source, tmp_path / "bag", StoragePlugin.SQLITE3, CompressionMode.NONE)
    refused = 0
    for file in (source, folder / "bag.db3", folder / "metadata.yaml"):
        whole = file.read_bytes()
        for _ in range(60):
            data = np.frombuffer(whole, np.uint8).copy()
            data[rng.integers(0, len(data), 20)] = rng.integers(0, 256, 20)
            file.write_bytes(data.tobytes())
            try:
                list(BagScans(file if file == source else folder))
            except InputError as error:
                refused += 1
                assert "\n" not in str(error)
        file.write_bytes(whole)
    assert 60 < refused < 180


@pytest.mark.parametrize("content", ["", "not yaml: [", "rosbag2_bagfile_information: 3", "a: b"])
def test_broken_metadata(tmp_path, content):
    bag = write(tmp_path / "bag")
    (bag / "metadata.yaml").write_text(content)
    with pytest.raises(InputError, match="not a readable bag"):
        BagScans(bag)


def test_missing_storage_file(tmp_path):
    bag = write(tmp_path / "bag")
    (bag / "bag.mcap").unlink()
    with pytest.raises(InputError, match="database files are missing"):
        BagScans(bag)


def test_foreign_database(tmp_path):
    with sqlite3.connect(tmp_path / "a.db3") as database:
        database.execute("CREATE TABLE cats (name TEXT)")
    database.close()
    with pytest.raises(InputError, match="not a readable bag"):
        BagScans(tmp_path / "a.db3")


def test_bad_cloud_is_named_and_the_next_one_works(tmp_path):
    parts = encode_scan(scan())
    with BagWriter(tmp_path / "a.mcap") as bag:
        for i in range(3):
            bag.write_cloud("/points", i, parts, stamp_ns=i, frame="f")
            parts.data.pop() if i == 0 else parts.data.append(0)
    loads = [entry.load for entry in BagScans(tmp_path / "a.mcap").entries()]
    assert len(loads[0]()) == len(loads[2]()) == 50
    with pytest.raises(InputError, match=r"a\.mcap: cloud 1 on /points: .* bytes"):
        loads[1]()


def test_long_bags_are_streamed(tmp_path):
    file = write(tmp_path / "a.mcap", scans=60, points=20_000)  # 22 MB
    tracemalloc.start()
    count = sum(len(scan) for _, scan in BagScans(file))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 60 * 20_000
    assert peak < file.stat().st_size / 3
    shutil.rmtree(tmp_path)
