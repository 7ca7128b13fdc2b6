# SPDX-License-Identifier: Apache-2.0
"""Frames of a bag: all of them, in order, from anywhere, and their results on disk."""

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from pointdistill_ros.errors import InputError, PointDistillError
from pointdistill_ros.evaluation.bags.block_pool import run_blocks
from pointdistill_ros.evaluation.bags.frame_store import FrameStore
from pointdistill_ros.evaluation.bags.frames import BagFrames, FrameIndex
from pointdistill_ros.io.bag import BagWriter
from pointdistill_ros.io.cloud_parts import encode_scan
from tests.evaluation.bags.drive import rewrite, scan, split, write_drive

FORMS = [(storage, mode) for storage in StoragePlugin for mode in CompressionMode]
FORMS.remove((StoragePlugin.SQLITE3, CompressionMode.STORAGE))  # this one does not exist


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return write_drive(tmp_path_factory.mktemp("drive") / "a.mcap", frames=9, points=90)


def check(path, fingerprint):
    index = FrameIndex.of(path)
    assert index.fingerprint == fingerprint and len(index) == 9
    with BagFrames(index) as frames:
        assert [frame.index for frame in frames.all()] == list(range(9))
        assert [frame.index for frame in frames.read(range(3, 6))] == [3, 4, 5]
        assert list(frames.read(range(4, 4))) == []
        for i in (0, 8, 4):
            np.testing.assert_array_equal(frames.one(i).scan().xyz, scan(i, 90)[0].xyz)


@pytest.mark.parametrize("form", [*FORMS, "split"])
def test_every_form_of_a_recording_is_the_same(drive, tmp_path, form):
    path = tmp_path / "bag"
    split(drive, path) if form == "split" else rewrite(drive, path, *form)
    check(path, FrameIndex.of(drive).fingerprint)


def test_frames_of_one_time_stay_apart(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        for i, time_ns in enumerate((1, 1, 2, 2, 2, 3)):
            bag.write_cloud("/p", time_ns, encode_scan(scan(i, 30)[0]), stamp_ns=i, frame="f")
    index = FrameIndex.of(tmp_path / "a.mcap")
    assert [list(block) for block in index.blocks(1)] == [[0, 1], [2, 3, 4], [5]]
    with BagFrames(index) as frames:
        for i in range(6):
            assert frames.one(i).scan().stamp_ns == i


@pytest.mark.parametrize("size", [1, 2, 4, 100])
def test_blocks_are_all_frames_once(drive, size):
    blocks = FrameIndex.of(drive).blocks(size)
    assert [i for block in blocks for i in block] == list(range(9))
    assert all(len(block) >= min(size, 9) for block in blocks[:-1])


def test_damage_is_an_error_or_the_end(drive, monkeypatch):
    from pointdistill_ros.io import bag

    whole = bag.BagReader.messages

    def broken(self, *topics, **span):
        for number, message in enumerate(whole(self, *topics, **span)):
            if number == 4:
                raise InputError("chunk broken")
            yield message

    monkeypatch.setattr(bag.BagReader, "messages", broken)
    with pytest.raises(InputError, match=r"only 4 of 9 clouds on /points.*--keep-going"):
        FrameIndex.of(drive)
    index = FrameIndex.of(drive, keep_going=True)
    assert len(index) == 4 and "only 4 of 9" in index.damage


def test_no_clouds(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write_text("/text", 1, "x")
    with pytest.raises(InputError, match="no PointCloud2 topic"):
        FrameIndex.of(tmp_path / "a.mcap")


def test_a_bag_that_shrinks_is_noticed(drive, tmp_path):
    small = write_drive(tmp_path / "a.mcap", frames=5, points=90)
    index = FrameIndex.of(drive)
    short = FrameIndex(small, index.topic, index.times_ns, index.sizes)
    with BagFrames(short) as frames, pytest.raises(InputError, match="fewer clouds"):
        list(frames.all())


def test_stored_frames_come_back(tmp_path):
    store = FrameStore(tmp_path, "labels", {"weights": "ab"})
    labels = np.arange(5, dtype=np.uint8)
    store.save(3, {"a": [1, None, 0.5]}, student=labels)
    found = store.load(3)
    assert found.record == {"a": [1, None, 0.5]}
    np.testing.assert_array_equal(found.arrays["student"], labels)
    assert store.load(2) is None and not store.has(2) and store.has(3)
    assert [path.name for path in tmp_path.iterdir()] == ["labels-000003.npz"]


def test_what_is_damaged_or_foreign_is_missing(tmp_path):
    store = FrameStore(tmp_path, "labels", {"weights": "ab"})
    store.save(0, {"a": 1}, student=np.zeros(1000, np.uint8))
    assert FrameStore(tmp_path, "labels", {"weights": "cd"}).load(0) is None
    assert FrameStore(tmp_path, "motion", {"weights": "ab"}).load(0) is None
    whole = store.path(0).read_bytes()
    rng = np.random.default_rng(0)
    for keep in range(0, len(whole), 37):
        store.path(0).write_bytes(whole[:keep])
        assert store.load(0) is None
    for _ in range(100):  # an npz knows by its checksums
        data = np.frombuffer(whole, np.uint8).copy()
        data[rng.integers(0, len(data), 8)] ^= rng.integers(1, 256, 8).astype(np.uint8)
        store.path(0).write_bytes(data.tobytes())
        found = store.load(0)
        assert found is None or (found.record == {"a": 1} and not found.arrays["student"].any())


class Counting:
    """A worker that refuses frame 5."""

    def __init__(self, bad=-1):
        self.bad, self.seen = bad, []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.seen.append("closed")

    def __call__(self, block, on_frame):
        for i in block:
            if i == self.bad:
                raise InputError("frame 5 is bad")
            self.seen.append(i)
            on_frame()


def test_one_worker_works_here():
    worker, done = Counting(), []
    run_blocks(lambda: worker, [range(2), range(2, 5)], 1, done.append)
    assert worker.seen == [0, 1, 2, 3, 4, "closed"] and done == [1, 2, 3, 4, 5]
    worker = Counting(3)
    with pytest.raises(PointDistillError, match="frame 5"):
        run_blocks(lambda: worker, [range(2), range(2, 5)], 1)
    assert worker.seen == [0, 1, 2, "closed"]
    run_blocks(lambda: worker, [], 1)
