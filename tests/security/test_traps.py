# SPDX-License-Identifier: Apache-2.0
"""Files with a program inside are read by everything that reads files; it must not have run."""

import gzip
import pickle
import sqlite3

import numpy as np
import pytest
import torch

from pointdistill_ros.config import NodeConfig, load_config
from pointdistill_ros.datasets.pandas_pickle import read_frame
from pointdistill_ros.errors import PointDistillError
from pointdistill_ros.io.bag import BagReader, BagScans, BagWriter
from pointdistill_ros.io.open import open_scans, read_scan
from pointdistill_ros.io.pointcloud2 import encode_scan
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.nodes.multi_config import read_lidars
from pointdistill_ros.public_weights import read_public
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmenter import Segmenter


@pytest.fixture
def canary(tmp_path):
    """A file that exists once somebody has run what was in another one."""
    return tmp_path / "canary"


@pytest.fixture
def trap(canary):
    class Trap:
        def __reduce__(self):
            return open, (str(canary), "w")

    return Trap()


def test_the_trap_works(trap, canary):
    pickle.loads(pickle.dumps(trap)).close()
    assert canary.exists()


def npz(path, trap):
    np.savez(path, xyz=np.array([trap], object), points=np.zeros((1, 3)))


def torch_file(path, trap):
    torch.save({"state_dict": {"x": torch.zeros(1)}, "more": trap}, path)


def plain(path, trap):
    path.write_bytes(pickle.dumps(trap))


def zipped(path, trap):
    with gzip.open(path, "wb") as file:
        file.write(pickle.dumps(trap))


@pytest.mark.parametrize("write", [plain, torch_file, npz])
@pytest.mark.parametrize(
    "name", ["a.safetensors", "a.pt", "a.pth", "a.npy", "a.npz", "a.pcd", "a.bin", "a.mcap"]
)
def test_files_with_a_pickle_inside(tmp_path, trap, canary, write, name):
    path = tmp_path / name
    write(tmp_path / "written.npz", trap)  # numpy insists on its suffix
    (tmp_path / "written.npz").rename(path)
    for read in (Segmenter.load, read_public, read_scan, open_scans):
        try:
            read(path)
        except PointDistillError as error:  # noqa: PERF203
            assert str(path) in str(error)
        else:  # headerless floats are a legal scan where the length fits
            assert name == "a.bin" or read is open_scans
    assert not canary.exists()


@pytest.mark.parametrize(("write", "name"), [(plain, "a.pkl"), (zipped, "a.pkl.gz")])
def test_frames_with_a_pickle_inside(tmp_path, trap, canary, write, name):
    write(tmp_path / name, trap)
    with pytest.raises(PointDistillError, match=r"asks for _?io\.open, which is no part"):
        read_frame(tmp_path / name)
    assert not canary.exists()


def test_bags_with_a_pickle_inside(tmp_path, trap, canary):
    with BagWriter(tmp_path / "bag") as bag:
        bag.write("/points", "sensor_msgs/msg/PointCloud2", 1, pickle.dumps(trap))
    with pytest.raises(PointDistillError, match="not a readable bag"):
        next(BagScans(tmp_path / "bag").entries()).load()
    text = (tmp_path / "bag" / "metadata.yaml").read_text()
    program = f"!!python/object/apply:builtins.open ['{canary}', 'w']"
    for old in ("ros_distro: rosbags", "storage_identifier: mcap"):
        assert old in text
        key = old.partition(":")[0]
        (tmp_path / "bag" / "metadata.yaml").write_text(text.replace(old, f"{key}: {program}"))
        with pytest.raises(PointDistillError, match="not a readable bag"):
            BagScans(tmp_path / "bag")
    assert not canary.exists()


@pytest.mark.parametrize("read", [lambda path: load_config(NodeConfig, path), LabelSet.load])
def test_yaml_with_a_program_inside(tmp_path, canary, read):
    path = tmp_path / "a.yaml"
    path.write_text(f"model: !!python/object/apply:builtins.open ['{canary}', 'w']\n")
    with pytest.raises(PointDistillError, match=r"a\.yaml"):
        read(path)
    with pytest.raises(PointDistillError, match=r"a\.yaml"):
        read_lidars(str(path))
    assert not canary.exists()


FOREVER = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x FROM r) SELECT x FROM r WHERE x = 2"


@pytest.mark.parametrize("view", ["schema", "message_definitions"])
@pytest.mark.timeout(60)
def test_databases_with_a_program_inside(tmp_path, view):
    path = tmp_path / "a.db3"
    database = sqlite3.connect(path)
    database.executescript(
        "CREATE TABLE topics(id INTEGER PRIMARY KEY, name, type, serialization_format,"
        " offered_qos_profiles, type_description_hash);"
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, timestamp, data);"
    )
    if view != "schema":
        database.executescript("CREATE TABLE schema(schema_version); INSERT INTO schema VALUES(4)")
    columns = {"schema": "schema_version", "message_definitions": "topic_type"}
    database.execute(f"CREATE VIEW {view}({columns[view]}) AS {FOREVER}")
    database.close()
    with pytest.raises(PointDistillError, match="not a readable bag"), BagReader(path):
        pass


def test_values_of_databases_are_bounded(tmp_path):
    path = tmp_path / "a.db3"
    database = sqlite3.connect(path)
    database.executescript(
        "CREATE TABLE topics(id INTEGER PRIMARY KEY, name, type, serialization_format);"
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, timestamp,"
        " data GENERATED ALWAYS AS (zeroblob(900000000)));"
        "INSERT INTO topics VALUES (1, '/points', 'sensor_msgs/msg/PointCloud2', 'cdr');"
        "INSERT INTO messages(topic_id, timestamp) VALUES (1, 1);"
    )
    database.close()
    with pytest.raises(PointDistillError, match="too big"):
        list(BagScans(path))


@pytest.mark.parametrize("value", ["'text'", "NULL", "7", "1.5"])
def test_messages_are_bytes(tmp_path, value):
    path = tmp_path / "a.db3"
    database = sqlite3.connect(path)
    database.executescript(
        "CREATE TABLE topics(id INTEGER PRIMARY KEY, name, type, serialization_format);"
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, timestamp, data);"
        "INSERT INTO topics VALUES (1, '/points', 'sensor_msgs/msg/PointCloud2', 'cdr');"
        f"INSERT INTO messages VALUES (1, 1, 1, {value});"
    )
    database.close()
    with pytest.raises(PointDistillError, match="expected bytes"):
        list(BagScans(path))


def test_an_ordinary_bag_is_read_all_the_same(tmp_path):
    parts = encode_scan(LidarScan.from_arrays(np.zeros((2, 3))))
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write_cloud("/points", 1, parts, stamp_ns=1, frame="lidar")
    assert [len(scan) for _, scan in BagScans(tmp_path / "a.mcap")] == [2]
