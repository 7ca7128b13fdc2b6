# SPDX-License-Identifier: Apache-2.0
"""pointdistill evaluate-bag, as a user meets it; the networks are ten-line fakes."""

import hashlib
import importlib
import json
import runpy
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from pointdistill_ros import LabelSet, Segmentation
from pointdistill_ros.cli import main
from pointdistill_ros.errors import ScanError
from pointdistill_ros.io.bag import BagReader, BagWriter
from pointdistill_ros.io.cloud_parts import encode_scan
from tests.cli.node_path import LastBits, published
from tests.evaluation.bags import mounts
from tests.evaluation.bags.drive import (
    BUILDING,
    KITTI,
    ROAD,
    STAMP,
    rewrite,
    scan,
    split,
    write_drive,
)

command = importlib.import_module("pointdistill_ros.cli.evaluate_bag")


ROOT = Path(__file__).parents[2]
RENAMED = {"model": KITTI.name, "autoware": "autoware"}


class Fake:
    """Road below the sensor, building above: cars are half of each, and every label is stable."""

    label_set, weights_sha256 = KITTI, "ab12"
    engine, engine_detail, num_parameters = "fake", "float32, 1 threads", 7
    meta = SimpleNamespace(
        model_id="student",
        grid_size=0.2,
        intensity=SimpleNamespace(low=0.0, median=0.3, high=0.6, missing=0.0, used=True),
    )

    def __init__(self, name="student"):
        self.model_id, self.calls = name, 0

    def __call__(self, scan):
        self.calls += 1
        if self.calls == getattr(self, "dies_at", None):
            raise KeyboardInterrupt
        if scan.intensity is None:
            raise ScanError("network fake needs intensity, the scan has none")
        below = scan.xyz[:, 2] < (-1 if self.model_id == "student" else -1.3)
        labels = np.where(below, ROAD, BUILDING).astype(np.uint8)
        labels[~scan.valid] = 255
        p = np.where(scan.valid, 0.8, 0).astype(np.float32)
        return Segmentation(labels, p, p / 2, KITTI, {"network": 1.0, "total": 1.5}, len(scan))


@pytest.fixture
def evaluate(monkeypatch, capsys):
    """Run the command; returns exit code, stdout, stderr. ``evaluate.networks``: those loaded."""
    networks = []

    def load(weights, *options):
        networks.append(Fake("student" if weights == "student" else "teacher"))
        return networks[-1]

    monkeypatch.setattr(command, "load_network", load)
    for size in ("SIZE", "MAP_SIZE"):  # pictures are most of the time
        monkeypatch.setattr(f"pointdistill_ros.evaluation.bags.gallery.{size}", 60)

    def run(*arguments):
        networks.clear()
        monkeypatch.setattr(sys, "argv", ["pointdistill", "evaluate-bag", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
            sys.exit(0)
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    run.networks = networks
    return run


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return write_drive(tmp_path_factory.mktemp("drive") / "drive.mcap", labels="/labels")


def results(folder):
    return json.loads((folder / "report.json").read_text())["results"]


def labelled_digests(bag):
    """What ``pointdistill segment`` puts into a bag and the node publishes: the labelled clouds."""
    from pointdistill_ros.io.pointcloud2 import decode, encode_labels

    network = Fake()
    with BagReader(bag) as reader:
        clouds = [reader.cloud(message) for message in reader.messages("/points")]
    return [hashlib.sha256(encode_labels(c, network(decode(c))).data).hexdigest() for c in clouds]


def test_student_teacher_labels_stability_and_latency(evaluate, drive, tmp_path):
    code, text, err = evaluate(
        drive, "-o", tmp_path, "--topic", "points", "--teacher", "t", "--labels", "/labels"
    )
    assert (code, err) == (0, "")
    found = results(tmp_path)
    assert found["frames"] == found["labelled"] == 12 and found["failed"] == {}
    assert found["points"] == 12 * 900
    # against truth: road and wall above 0.73 m right, walls below it and cars wrong
    right = sum(
        ((s.xyz[:, 2] < -1) & (t == ROAD)).sum() + ((s.xyz[:, 2] >= -1) & (t == BUILDING)).sum()
        for s, t in map(scan, range(12))
    )
    assert found["labels"]["student"]["accuracy"] == pytest.approx(right / 10800, abs=1e-4)
    assert found["labels"]["teacher"]["classes"]["car"]["iou"] == 0
    # student and teacher differ where points lie between their heights
    between = sum(
        ((s.xyz[:, 2] < -1) & (s.xyz[:, 2] >= -1.3)).sum() for s, _ in map(scan, range(12))
    )
    assert found["agreement"]["agreement"] == pytest.approx(1 - between / 10800, abs=1e-4)
    assert found["agreement"]["differences"][0]["first"] == "building"
    # six of twelve frames have scans half a second before; nothing flips, the car is not static
    stable = found["stability"]["student"]
    assert stable["frames"] == 7 and stable["flips"] < 0.01
    assert 300 * 7 < stable["points"] <= 620 * 7
    assert "car" not in found["stability"]["truth"]["classes"]
    assert found["ego_motion"]["source"] == "tf, lidar in odom"
    timing = json.loads((tmp_path / "report.json").read_text())["timing"]
    assert set(timing["milliseconds"]) == {"decode", "network", "encode", "total", "cpu", "teacher"}
    assert timing["live"]["labelled"] == 12
    for part in ("agreement with teacher", "tf, lidar in odom", "12 of 12 frames", found["sha256"]):
        assert part in text
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure") == 4 and "drive.mcap" in page and "12 of 12 frames" in page


def test_labels_are_those_of_segment_and_node(evaluate, drive, tmp_path):
    evaluate(drive, "-o", tmp_path, "--topic", "points", "--poses", "none")
    found = results(tmp_path)
    expected = labelled_digests(drive)
    assert [frame["sha256"] for frame in found["by_frame"]] == expected
    assert found["sha256"] == hashlib.sha256("".join(expected).encode()).hexdigest()
    messages = pytest.importorskip("pointdistill_ros.nodes.messages")
    from pointdistill_ros.io.pointcloud2 import decode

    writer = messages.CloudWriter()
    with BagReader(drive) as bag:
        for message, frame in zip(bag.messages("/points"), found["by_frame"], strict=True):
            cloud = bag.cloud(message)
            cloud.header = messages.PointCloud2().header  # rosbags' header is not rclpy's
            out = writer.write(cloud, Fake()(decode(cloud)), "xyzcpe_aligned")
            assert hashlib.sha256(out.data).hexdigest() == frame["sha256"]


@pytest.mark.parametrize("z_offset", [0.42, -1.1])
def test_z_offset_gives_what_the_node_sends_bit_for_bit(evaluate, tmp_path, monkeypatch, z_offset):
    monkeypatch.setattr(Fake, "__call__", lambda self, scan: LastBits()(scan))
    bag = write_drive(tmp_path / "a.mcap", frames=3, points=300)
    options = (bag, "-o", tmp_path / "out", "--poses", "none")
    evaluate(*options)
    level = results(tmp_path / "out")
    code, _, err = evaluate(*options, "--z-offset", z_offset)
    assert code == 0, err
    found = results(tmp_path / "out")
    sent = published(bag, "/points", z_offset)
    digests = [frame["sha256"] for frame in found["by_frame"]]
    assert digests == [hashlib.sha256(data).hexdigest() for data in sent]
    assert found["sha256"] != level["sha256"], "what is known of another height is not taken over"
    # what goes out lies where it was
    with BagReader(bag) as reader:
        cloud = reader.cloud(next(reader.messages("/points")))
    rows = np.frombuffer(sent[0], np.uint8).reshape(-1, 24)[:, :12]
    np.testing.assert_array_equal(rows.copy().view(np.float32), scan(0, 300)[0].xyz)
    assert len(rows) == cloud.width


def test_the_teacher_sees_the_same_height(evaluate, tmp_path):
    bag = write_drive(tmp_path / "a.mcap", frames=2, points=300)
    options = (bag, "-o", tmp_path / "out", "--poses", "none", "--teacher", "t")
    evaluate(*options)
    assert results(tmp_path / "out")["agreement"]["agreement"] < 1
    evaluate(*options, "--z-offset", "100")  # building, for both
    assert results(tmp_path / "out")["agreement"]["agreement"] == 1


ROOF, TOP, AXLE = (
    (mounts.turn(2, -14, 91), (0.8, 0.01, 1.6)),
    (mounts.turn(-3, 1, 0.4), (0.05, -0.3, 0.21)),
    (mounts.turn(0, 0.7, 0), (-1.2, 0.0, 0.31)),
)


def write_mounted(path, top=TOP, frames=3, points=400):
    """Clouds of a tilted lidar on a roof rack, and where it is on the vehicle."""
    edges = {"roof": ("base_link", *ROOF), "lidar": ("roof", *top), "axle": ("base_link", *AXLE)}
    with BagWriter(path) as bag:
        mounts.write_mount(bag, edges)
        for i in range(frames):
            one = scan(i, points)[0]
            header = {"stamp_ns": one.stamp_ns, "frame": "lidar"}
            bag.write_cloud("/points", one.stamp_ns, encode_scan(one), **header)
    return path


@pytest.mark.parametrize("classes", ["model", "autoware"])
@pytest.mark.parametrize(("frame", "below"), [("base_link", ()), ("axle", [AXLE])])
def test_frame_and_classes_give_what_the_node_sends_bit_for_bit(
    evaluate, tmp_path, monkeypatch, frame, below, classes
):
    """The node has its transform from tf2, composed in tf2's order; here it comes from the bag."""
    tf2 = runpy.run_path(str(ROOT / "tests/nodes/tf_stand_in.py"))["tf2_ros"]
    known = {(frame, "lidar"): tuple(map(tuple, mounts.chained([ROOF, TOP], below)))}
    monkeypatch.setitem(sys.modules, "tf2_ros", tf2(known))
    monkeypatch.setattr(Fake, "__call__", lambda self, scan: LastBits()(scan))
    bag = write_mounted(tmp_path / "a.mcap")
    options = (bag, "-o", tmp_path / "out", "--poses", "none")
    evaluate(*options)
    plain = results(tmp_path / "out")
    given = ("--target-frame", frame, "--z-offset", -1.73)
    code, _, err = evaluate(*options, *given, "--classes", classes)
    assert code == 0, err
    found = results(tmp_path / "out")
    sent = published(bag, "/points", -1.73, classes=classes, target_frame=frame)
    digests = [frame["sha256"] for frame in found["by_frame"]]
    assert digests == [hashlib.sha256(data).hexdigest() for data in sent]
    assert set(found["classes"]) <= {*LabelSet.named(RENAMED[classes]).names, "unlabelled"}
    assert not {f["sha256"] for f in plain["by_frame"]} & set(digests)
    page = (tmp_path / "out/report.html").read_text()
    assert f"seen in {frame}, z shifted by -1.73 m" in page
    # the same clouds of a lidar that hangs otherwise are another measurement
    turned = write_mounted(tmp_path / "b.mcap", (TOP[0], (0.05, -0.3, 0.22)))
    evaluate(turned, *options[1:], *given, "--classes", classes)
    assert results(tmp_path / "out")["sha256"] != found["sha256"]


def test_other_classes_are_compared_with_true_labels_as_the_nodes_are(evaluate, drive, tmp_path):
    options = (drive, "-o", tmp_path, "--topic", "points", "--labels", "/labels", "--teacher", "t")
    code, _, err = evaluate(*options, "--classes", "autoware", "--poses", "none")
    assert (code, err) == (0, "")
    found = results(tmp_path)
    assert set(found["classes"]) == {"ground", "structure"}
    assert {d["first"] for d in found["agreement"]["differences"]} <= {"ground", "structure"}
    assert found["labels"]["student"]["classes"]["ground"]["iou"] > 0.5
    assert "classes of autoware" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--target-frame", "base"], "no transform lidar → base: frames in this bag's"),
        (["--target-frame", "odom"], "/tf moves them against each other"),
        (["--classes", "nonsense"], "no label set 'nonsense'"),
    ],
)
def test_what_cannot_be_placed_or_named_is_refused_before_anything_is_loaded(
    evaluate, drive, tmp_path, options, what
):
    code, _, err = evaluate(drive, "-o", tmp_path / "out", "--topic", "points", *options)
    assert code == 2 and what in err and err.count("\n") == 1
    assert not evaluate.networks and not (tmp_path / "out").exists()


def test_classes_without_a_remap_are_refused(evaluate, drive, tmp_path):
    options = (drive, "-o", tmp_path / "out", "--topic", "points", "--classes", "waymo")
    code, _, err = evaluate(*options)
    assert code == 2 and "semantic-kitti has no remap to waymo" in err


def test_clouds_of_frames_that_are_nowhere_are_listed(evaluate, tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        mounts.write_mount(bag, {"lidar": ("base_link", *TOP)})
        for i, frame in enumerate(("rear", "lidar")):
            one = encode_scan(scan(i, 90)[0])
            bag.write_cloud("/points", STAMP + i, one, stamp_ns=STAMP + i, frame=frame)
    options = (tmp_path / "a.mcap", "-o", tmp_path / "out", "--target-frame", "base_link")
    code, text, err = evaluate(*options, "--keep-going")
    assert code == 1 and "1 of 2 frames" in text and "no transform rear → base_link" in err


@pytest.mark.parametrize("z_offset", ["100.1", "-101", "nan", "inf", "high"])
def test_heights_are_checked_as_by_the_node(evaluate, drive, tmp_path, z_offset):
    code, _, err = evaluate(drive, "-o", tmp_path / "out", "--z-offset", z_offset)
    assert code == 2 and "--z-offset" in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_another_form_of_the_bag_gives_the_same(evaluate, tmp_path):
    source = write_drive(tmp_path / "a.mcap", frames=8, points=300)
    evaluate(source, "-o", tmp_path / "out")
    expected = results(tmp_path / "out")
    assert expected["stability"]["student"]["frames"] == 3
    packed = rewrite(source, tmp_path / "bag", StoragePlugin.SQLITE3, CompressionMode.FILE)
    code, _, err = evaluate(packed, "-o", tmp_path / "new")
    assert code == 0, err
    assert results(tmp_path / "new") == expected and evaluate.networks[0].calls == 8
    # the same recording, so what is known of it counts for the copy
    evaluate(split(source, tmp_path / "pieces"), "-o", tmp_path / "new")
    assert results(tmp_path / "new") == expected and evaluate.networks[0].calls == 0


def test_an_interrupted_run_goes_on(evaluate, drive, tmp_path, monkeypatch):
    options = (drive, "-o", tmp_path / "out", "--topic", "points", "--teacher", "t")
    monkeypatch.setattr(Fake, "dies_at", 6, raising=False)
    assert evaluate(*options)[0] != 0
    assert len(list((tmp_path / "out/frames").glob("labels-*.npz"))) == 5
    assert not (tmp_path / "out/report.html").exists()
    monkeypatch.delattr(Fake, "dies_at")
    (tmp_path / "out/frames/labels-000002.npz").write_bytes(b"PK damaged")
    assert evaluate(*options)[0] == 0
    assert [network.calls for network in evaluate.networks] == [8, 8]
    assert evaluate(*options)[0] == 0
    assert [network.calls for network in evaluate.networks] == [0, 0]
    resumed = results(tmp_path / "out")
    evaluate(drive, "-o", tmp_path / "new", "--topic", "points", "--teacher", "t")
    assert results(tmp_path / "new") == resumed
    # other options are another measurement
    evaluate(*options, "--intensity-scale", "div255")
    assert [network.calls for network in evaluate.networks] == [12, 12]


def test_bad_clouds_are_refused_or_listed(evaluate, tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        for i in range(3):
            parts = encode_scan(scan(i, 90)[0])
            if i == 1:
                parts.data.pop()
            bag.write_cloud("/points", STAMP + i, parts, stamp_ns=STAMP + i, frame="f")
    code, _, err = evaluate(tmp_path / "a.mcap", "-o", tmp_path / "out")
    assert code == 2 and "cloud 1 on /points" in err and err.count("\n") == 1
    code, text, err = evaluate(tmp_path / "a.mcap", "-o", tmp_path / "out", "--keep-going")
    assert code == 1 and "2 of 3 frames" in text and "skipped: " in err
    assert list(results(tmp_path / "out")["failed"]) == ["1"]
    assert "Skipped" in (tmp_path / "out" / "report.html").read_text()


def test_all_clouds_bad(evaluate, tmp_path):
    one = scan(0, 90)[0]
    with BagWriter(tmp_path / "a.mcap") as bag:
        parts = encode_scan(type(one)(one.xyz))
        bag.write_cloud("/points", 1, parts, stamp_ns=1, frame="f")
    code, _, err = evaluate(tmp_path / "a.mcap", "-o", tmp_path / "out", "--keep-going")
    assert code == 2 and "needs intensity" in err


@pytest.mark.parametrize(
    ("make", "options", "what"),
    [
        (lambda p: p, [], "no such file"),
        (lambda p: p.write_text("x") and p, [], "not a readable bag"),
        (lambda p: write_drive(p, frames=0), [], "no PointCloud2 topic"),
        (lambda p: write_drive(p, 2), ["--topic", "none"], "choose one of /points"),
        (lambda p: write_drive(p, 2), ["--labels", "nowhere"], "neither a folder of .label files"),
        (lambda p: write_drive(p, 2), ["--labels", "field:x"], "field 'x' is float32"),
        (lambda p: write_drive(p, 2), ["--labels", "field:truth"], "no field 'truth'"),
        (lambda p: write_drive(p, 2), ["--label-set", "kitty"], "no label set 'kitty'"),
        (
            lambda p: write_drive(p, 2, motion=None),
            ["--poses", "tf"],
            "tf does not say how 'lidar'",
        ),
        (lambda p: write_drive(p, 2), ["--poses", "/odom"], "topics with poses: none"),
        (lambda p: write_drive(p, 2), ["--poses", "no.txt"], "not a poses file"),
    ],
)
def test_refusals_are_one_line_that_names_the_cause(evaluate, tmp_path, make, options, what):
    code, _, err = evaluate(make(tmp_path / "a.mcap"), "-o", tmp_path / "out", *options)
    assert code == 2, err
    assert what in err and err.count("\n") == 1 and "Traceback" not in err


def test_output_must_be_a_folder(evaluate, drive):
    code, _, err = evaluate(drive, "-o", drive)
    assert code == 2 and "is a file" in err


def test_recording_for_the_viewer(evaluate, tmp_path):
    pytest.importorskip("rerun")
    bag = write_drive(tmp_path / "a.mcap", 8, 300)
    code, _, err = evaluate(bag, "-o", tmp_path / "out", "--teacher", "t", "--rerun")
    assert code == 0, err
    file = tmp_path / "out" / "recording.rrd"
    assert file.read_bytes()[:3] == b"RRF"
    assert file.stat().st_size > 8 * 2 * 300 * 12 / 2  # clouds of both, compressed
    assert not list((tmp_path / "out").glob(".*"))
    from rerun.chunk import RrdReader

    rows = Counter()
    for chunk in RrdReader(file).stream().to_chunks():
        rows[chunk.entity_path.removeprefix("/drive/")] += 0 if chunk.is_static else chunk.num_rows
    assert {"classes", "track"} <= {path.removeprefix("/") for path in rows}
    for path in ("sensor", "sensor/student", "sensor/teacher", "sensor/not_teacher"):
        assert rows[path] == 8, path
    assert rows["/figures/latency_ms"] == rows["/figures/agreement"] == 8
    assert rows["/figures/flips"] == 3 and rows["/figures/accuracy"] == 0


def test_missing_extras_say_what_to_install(evaluate, drive, tmp_path, monkeypatch):
    from pointdistill_ros.evaluation import rerun_scene
    from pointdistill_ros.evaluation.motion import registration

    monkeypatch.setattr(registration.util, "find_spec", lambda _: None)
    monkeypatch.setattr(rerun_scene.util, "find_spec", lambda _: None)
    topic = ("--topic", "points")
    code, _, err = evaluate(drive, "-o", tmp_path, *topic, "--rerun")
    assert code == 2 and "rerun-sdk" in err and not list(tmp_path.iterdir())
    code, _, err = evaluate(drive, "-o", tmp_path, *topic, "--poses", "kiss-icp")
    assert code == 2 and "kiss-icp" in err
    bare = write_drive(tmp_path / "bare.mcap", 8, 300, motion=None)
    code, text, _ = evaluate(bare, "-o", tmp_path / "out")
    assert code == 0 and "pip install" in text  # said, not passed over
    assert "stability" not in results(tmp_path / "out")
