# SPDX-License-Identifier: Apache-2.0
"""True labels from a field, a topic, a folder: the same ones, or one line that says why not."""

import numpy as np
import pytest

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.bags.frames import BagFrames, FrameIndex
from pointdistill_ros.evaluation.bags.truth import open_truth, own_truth, stamp_of
from pointdistill_ros.io.bag import BagReader, BagWriter
from pointdistill_ros.io.binfile import write_labels
from pointdistill_ros.io.cloud_parts import encode_scan
from tests.evaluation.bags.drive import KITTI, STAMP, scan, write_drive

FRAMES, POINTS = 5, 90


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bags")
    return {
        kind: write_drive(folder / f"{kind.strip('/')}.mcap", FRAMES, POINTS, None, kind)
        for kind in ("field", "/labels")
    }


def labels_of(truth, index):
    with BagFrames(index) as frames:
        return [truth.of(frame) for frame in frames.all()]


def check(truth, index, missing=()):
    for i, labels in enumerate(labels_of(truth, index)):
        if i in missing:
            assert labels is None
        else:
            np.testing.assert_array_equal(labels, scan(i, POINTS)[1])


def test_field(bags):
    index = FrameIndex.of(bags["field"])
    check(open_truth("field:label", index, KITTI), index)
    truth, why_not = own_truth(index, KITTI)
    assert why_not == ""
    check(truth, index)


def test_no_field_is_no_truth_and_another_meaning_is_said(bags, tmp_path):
    assert own_truth(FrameIndex.of(bags["/labels"], "/points"), KITTI) == (None, "")
    with BagWriter(tmp_path / "a.mcap") as bag:
        strange = {"label": np.full(POINTS, 7777, np.uint32)}
        bag.write_cloud("/p", 1, encode_scan(scan(0, POINTS)[0], strange), stamp_ns=1, frame="f")
    truth, why_not = own_truth(FrameIndex.of(tmp_path / "a.mcap"), KITTI)
    assert truth is None and "7777" in why_not and "not taken" in why_not


def test_topic(bags):
    index = FrameIndex.of(bags["/labels"], "/points")
    truth = open_truth("labels", index, KITTI)
    assert truth.detail == "topic /labels"
    check(truth, index)


def test_topic_of_train_ids_as_nodes_publish(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        for i in range(3):
            one, labels = scan(i, POINTS)
            header = {"stamp_ns": one.stamp_ns, "frame": "f"}
            bag.write_cloud("/p", i, encode_scan(one), **header)
            if i != 1:  # the node missed one
                parts = encode_scan(one, {"class_id": labels})
                bag.write_cloud("/p/labeled", i, parts, **header)
    index = FrameIndex.of(tmp_path / "a.mcap", "/p")
    check(open_truth("/p/labeled", index, KITTI), index, missing=[1])


def test_topic_without_a_common_stamp_or_with_other_points(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        one, labels = scan(0, POINTS)
        parts = encode_scan(one, {"class_id": labels})
        bag.write_cloud("/p", 1, encode_scan(one), stamp_ns=5, frame="f")
        bag.write_cloud("/late", 1, parts, stamp_ns=6, frame="f")
        few = encode_scan(one.select(np.arange(9)), {"class_id": labels[:9]})
        bag.write_cloud("/few", 1, few, stamp_ns=5, frame="f")
        wrong = encode_scan(one, {"class_id": np.full(POINTS, 90, np.uint8)})
        bag.write_cloud("/wrong", 1, wrong, stamp_ns=5, frame="f")
    index = FrameIndex.of(tmp_path / "a.mcap", "/p")
    with pytest.raises(InputError, match=r"no cloud on /late has the stamp"):
        open_truth("/late", index, KITTI)
    with pytest.raises(InputError, match=r"on /few: 9 labels for 90 points"):
        labels_of(open_truth("/few", index, KITTI), index)
    with pytest.raises(InputError, match=r"on /wrong: a class_id is not one of semantic-kitti"):
        labels_of(open_truth("/wrong", index, KITTI), index)


def folder(path, names, points=POINTS):
    path.mkdir()
    for name in names:
        labels = scan(int(name), POINTS)[1][:points]
        write_labels(KITTI.to_raw(labels), path / f"{name}.label")
    return path


def test_folder_of_all_or_of_some(bags, tmp_path):
    index = FrameIndex.of(bags["field"])
    all_of_them = folder(tmp_path / "all", [f"{i:06d}" for i in range(FRAMES)])
    check(open_truth(str(all_of_them), index, KITTI), index)
    some = folder(tmp_path / "some", ["000001", "000003"])
    check(open_truth(str(some), index, KITTI), index, missing=[0, 2, 4])


@pytest.mark.parametrize("names", [[], ["000007"], ["000000", "000009"]])
def test_folder_that_does_not_fit(bags, tmp_path, names):
    with pytest.raises(InputError, match=rf"{len(names)} \.label files for {FRAMES} clouds"):
        open_truth(str(folder(tmp_path / "l", names)), FrameIndex.of(bags["field"]), KITTI)


def test_file_that_does_not_fit(bags, tmp_path):
    index = FrameIndex.of(bags["field"])
    few = folder(tmp_path / "few", ["000000"], points=10)
    with pytest.raises(InputError, match=r"000000\.label: 10 labels, its scan has 90 points"):
        labels_of(open_truth(str(few), index, KITTI), index)
    write_labels(np.full(POINTS, 7777), few / "000000.label")
    with pytest.raises(InputError, match=r"000000\.label: raw id 7777"):
        labels_of(open_truth(str(few), index, KITTI), index)


def test_stamps_are_read_without_parsing_the_rest(bags):
    with BagReader(bags["field"]) as bag:
        stamps = [stamp_of(message.cdr) for message in bag.messages("/points")]
    assert stamps == [STAMP + i * 100_000_000 for i in range(FRAMES)]
    assert stamp_of(b"\0\1\0\0" + (-5 % 2**32).to_bytes(4, "little") + bytes(4)) == -5 * 10**9
    assert stamp_of(b"\0\0\0\0\0\0\0\1\0\0\0\2") == 10**9 + 2  # big-endian
    assert stamp_of(b"") == 0
