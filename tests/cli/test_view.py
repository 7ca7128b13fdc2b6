# SPDX-License-Identifier: Apache-2.0
"""pointdistill view, as a user meets it: what is in the recording. No window is opened."""

import importlib
import sys
from collections import defaultdict

import numpy as np
import pytest

from pointdistill_ros import LabelSet, Segmentation
from pointdistill_ros.cli import main
from pointdistill_ros.evaluation import rerun_scene
from pointdistill_ros.io.bag import BagWriter
from pointdistill_ros.io.binfile import write_kitti, write_labels
from pointdistill_ros.io.cloud_parts import encode_scan
from tests.evaluation.bags.drive import BUILDING, KITTI, ROAD, scan, write_drive

pytest.importorskip("rerun")
command = importlib.import_module("pointdistill_ros.cli.view")


class Fake:
    """Road below a height, building above; the teacher's is lower."""

    label_set, model_id, weights_sha256 = KITTI, "fake", "ab12"

    def __init__(self, height):
        self.height, self.seen = height, []

    def __call__(self, scan):
        self.seen.append(scan)
        labels = np.where(scan.xyz[:, 2] < self.height, ROAD, BUILDING).astype(np.uint8)
        labels[~scan.valid] = 255
        p = np.full(len(scan), 0.75, np.float32)
        return Segmentation(labels, p, p / 3, KITTI, {"total": 2.5}, len(scan))


@pytest.fixture
def view(monkeypatch, capsys):
    """Run the command; returns exit code, stdout, stderr. ``view.networks``: those loaded."""
    networks = {}

    def load(weights, *options):
        networks[weights] = Fake(-1.3 if weights == "teacher" else -1.0)
        return networks[weights]

    monkeypatch.setattr(command, "load_segmenter", load)

    def run(*arguments):
        networks.clear()
        monkeypatch.setattr(sys, "argv", ["pointdistill", "view", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
            sys.exit(0)
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    run.networks = networks
    return run


class Recording:
    """An .rrd, read back."""

    def __init__(self, path):
        from rerun.chunk import RrdReader

        self.rows, self.static = defaultdict(list), {}
        for chunk in RrdReader(path).stream().to_chunks():
            batch = chunk.to_record_batch()
            fields = {name.rpartition(":")[2]: name for name in batch.schema.names}
            for row in batch.to_pylist():
                values = {short: row[name] for short, name in fields.items()}
                if chunk.is_static:
                    self.static[chunk.entity_path] = values
                else:
                    self.rows[chunk.entity_path].append(values)
        for rows in self.rows.values():
            rows.sort(key=lambda row: row["frame"])

    def ids(self, name):
        """Class ids of every frame."""
        return [np.array(row["class_ids"]) for row in self.rows[f"/drive/sensor/{name}"]]

    def curve(self, name):
        return [row["scalars"][0] for row in self.rows[f"/figures/{name}"]]

    def red(self, name):
        """Which points differ, of every frame."""
        radii = [np.array(row["radii"]) for row in self.rows[f"/drive/sensor/{name}"]]
        return [r < r.max() for r in radii]  # negative ones are the viewer's points


def expected(height, frames, points):
    scans = [scan(i, points)[0].xyz[:, 2] for i in range(frames)]
    return [np.where(z < height, ROAD, BUILDING) for z in scans]


def test_a_bag_with_teacher_and_true_labels(view, tmp_path):
    bag = write_drive(tmp_path / "drive.mcap", 3, 300, labels="field")
    file = tmp_path / "out" / "drive.rrd"
    code, out, err = view(bag, "--teacher", "teacher", "--save", file)
    assert (code, err) == (0, "")
    assert out == f"3 scans → {file}; show them with: rerun {file}\n"
    found = Recording(file)
    student, teacher = (expected(h, 3, 300) for h in (-1.0, -1.3))
    truth = [scan(i, 300)[1] for i in range(3)]
    for name, labels in {"student": student, "teacher": teacher, "labels": truth}.items():
        assert np.array_equal(found.ids(name), labels)
    assert np.array_equal(found.red("not_teacher"), np.not_equal(student, teacher))
    assert np.array_equal(found.red("not_labels"), np.not_equal(student, truth))
    assert found.curve("agreement_teacher") == pytest.approx(
        [(s == t).mean() for s, t in zip(student, teacher, strict=True)]
    )
    assert found.curve("latency_ms") == [2.5] * 3
    assert found.curve("probability") == [0.75] * 3
    rows = found.rows["/drive/sensor/student"]
    stamps = [row["stamp"].value for row in rows]
    assert stamps == [scan(i)[0].stamp_ns for i in range(3)]
    assert np.allclose(rows[1]["positions"], scan(1, 300)[0].xyz)
    # the legend, and the names and colours under the pointer
    assert found.static["/classes"]["blob"]
    (context,) = found.static["/drive/sensor/student"]["context"]
    names = [entry["class_description"]["info"]["label"] for entry in context]
    assert names == [*KITTI.names, "unlabelled"]
    assert not list((tmp_path / "out").glob(".*"))


def test_labels_of_a_folder_need_no_network(view, tmp_path):
    scans, labels = tmp_path / "scans", tmp_path / "labels"
    for i in range(3):
        one, truth = scan(i, 90)
        write_kitti(one, scans / f"{i:06d}.bin")
        if i != 1:
            write_labels(KITTI.to_raw(truth), labels / f"{i:06d}.label")
    code, _, err = view(scans, "--labels", labels, "--save", tmp_path / "a.rrd")
    assert (code, err, view.networks) == (0, "", {})
    found = Recording(tmp_path / "a.rrd")
    rows = found.rows["/drive/sensor/labels"]
    shown = [row["frame"] for row in rows if row.get("class_ids")]
    assert shown == [0, 2], "a scan without labels shows none, not those of the scan before"
    cleared = [row["frame"] for row in rows if row.get("is_recursive") is not None]
    assert cleared == [1]
    assert not found.rows["/figures/latency_ms"]
    steps = [row["stamp"] for row in rows]
    assert [step / steps[-1] for step in steps] == [0, 0.5, 1], "10 Hz from 0"
    # with a network the two are compared
    view(scans, "--labels", labels, "--weights", "student", "--save", tmp_path / "b.rrd")
    assert len(Recording(tmp_path / "b.rrd").curve("agreement_labels")) == 2


def test_labels_of_another_topic(view, tmp_path):
    bag = write_drive(tmp_path / "drive.mcap", 2, 90, labels="/labels")
    code, _, err = view(bag, "--save", tmp_path / "a.rrd")
    assert code == 2 and "several PointCloud2 topics; choose one of" in err
    given = ("--topic", "points", "--labels", "/labels")
    assert view(bag, *given, "--save", tmp_path / "a.rrd")[0] == 0 and not view.networks
    assert np.array_equal(
        Recording(tmp_path / "a.rrd").ids("labels"), [scan(i, 90)[1] for i in range(2)]
    )


def test_labels_that_lie_in_a_kitti_sequence(view, tmp_path):
    for i in range(2):
        one, truth = scan(i, 90)
        write_kitti(one, tmp_path / "00/velodyne" / f"{i:06d}.bin")
        write_labels(KITTI.to_raw(truth), tmp_path / "00/labels" / f"{i:06d}.label")
    view(tmp_path / "00", "--save", tmp_path / "a.rrd")
    assert len(Recording(tmp_path / "a.rrd").ids("labels")) == 2
    view(tmp_path / "00", "--labels", "none", "--save", tmp_path / "a.rrd")
    assert (
        "student" in view.networks
        and not Recording(tmp_path / "a.rrd").rows["/drive/sensor/labels"]
    )
    code, _, err = view(tmp_path / "00", "--label-set", "nuscenes", "--save", tmp_path / "b.rrd")
    assert code == 2 and "000000.label" in err and "--label-set names another" in err
    assert not (tmp_path / "b.rrd").exists()


def test_frame_height_and_number_of_scans(view, tmp_path):
    bag = write_drive(tmp_path / "drive.mcap", 4, 90)
    placed = ("--target-frame", "base_link", "--z-offset", "0.25", "--frames", "2")
    code, out, _ = view(bag, *placed, "--save", tmp_path / "a.rrd")
    assert code == 0 and out.startswith("2 scans")
    (first, _) = view.networks["student"].seen
    moved = scan(0, 90)[0].xyz + np.array([1.0, 0.0, 0.75])
    assert first.frame == "base_link" and np.allclose(first.xyz, moved, atol=1e-5)
    shown = Recording(tmp_path / "a.rrd").rows["/drive/sensor/student"]
    assert len(shown) == 2 and np.allclose(shown[0]["positions"], scan(0, 90)[0].xyz)


def test_points_without_return_are_not_shown(view, tmp_path):
    one = scan(0, 90)[0]
    one.xyz[::3] = np.nan
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write_cloud("/points", 1, encode_scan(one), stamp_ns=one.stamp_ns, frame="lidar")
    assert view(tmp_path / "a.mcap", "--save", tmp_path / "a.rrd")[0] == 0
    (ids,) = Recording(tmp_path / "a.rrd").ids("student")
    assert len(ids) == 60 and 255 not in ids


def test_a_window_is_started_and_fed(view, tmp_path, monkeypatch):
    import rerun as rr

    started = []
    sink = tmp_path / "sink.rrd"

    def spawn(self, *, default_blueprint):
        started.append(default_blueprint)
        self.save(sink)

    monkeypatch.setattr(rr.RecordingStream, "spawn", spawn)
    bag = write_drive(tmp_path / "drive.mcap", 2, 90)
    code, out, err = view(bag)
    assert (code, out, err, len(started)) == (0, "2 scans\n", "", 1)

    def fail(self, *, default_blueprint):
        raise RuntimeError("Failed to find Rerun Viewer executable in PATH")

    monkeypatch.setattr(rr.RecordingStream, "spawn", fail)
    code, _, err = view(bag)
    assert code == 2 and "--save FILE.rrd and --web do without" in err and err.count("\n") == 1


def test_a_browser_is_served_until_the_user_ends_it(view, tmp_path, monkeypatch):
    import rerun as rr

    pages = []
    monkeypatch.setattr(rr, "serve_web_viewer", lambda **options: pages.append(options))
    monkeypatch.setattr(
        rr.RecordingStream,
        "serve_grpc",
        lambda self, **options: f"rerun+http://a/{options['grpc_port']}",
    )

    def interrupted(self, timeout=None):
        raise KeyboardInterrupt

    waiting = importlib.import_module("pointdistill_ros.cli.view_show").threading
    monkeypatch.setattr(waiting.Event, "wait", interrupted)
    code, out, err = view(write_drive(tmp_path / "drive.mcap", 2, 90), "--web")
    assert (code, err) == (0, "")
    assert (
        f"http://localhost:{pages[0]['web_port']}?url=rerun%2Bhttp%3A%2F%2F" in out
        and "2 scans" in out
    )
    assert pages[0]["web_port"] != int(pages[0]["connect_to"].rpartition("/")[2])


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["scans", "--weights", "none"], "nothing to colour by; give --labels or --weights"),
        (
            ["scans", "--labels", "empty"],
            "expected a folder of .label files named as these, 0.label",
        ),
        (["scans", "--save", "a.mp4"], "a.mp4: expected NAME.rrd"),
        (["scans", "--save", "a.rrd", "--web"], "choose one"),
        (["scans", "--target-frame", "base"], "scan files have no frames"),
        (["scans", "--labels", "empty", "--teacher", "t"], "give --weights, too"),
        (["scans", "--label-set", "nonsense"], "no label set 'nonsense'"),
        (["drive.mcap", "--labels", "/none"], "neither a folder of .label files nor a topic"),
        (["drive.mcap", "--target-frame", "base"], "no transform lidar → base"),
    ],
)
def test_what_cannot_be_shown_is_one_line(view, tmp_path, monkeypatch, arguments, what):
    monkeypatch.chdir(tmp_path)
    write_kitti(scan(0, 30)[0], tmp_path / "scans/0.bin")
    (tmp_path / "empty").mkdir()
    write_drive(tmp_path / "drive.mcap", 1, 30)
    extra = [] if "--save" in arguments else ["--save", "out.rrd"]
    code, _, err = view(*arguments, *extra)
    assert code == 2 and what in err and err.count("\n") == 1
    assert not list(tmp_path.glob("*.rrd"))


def test_a_missing_extra_says_what_to_install(view, tmp_path, monkeypatch):
    monkeypatch.setattr(rerun_scene.util, "find_spec", lambda _: None)
    code, _, err = view(write_drive(tmp_path / "drive.mcap", 1, 30))
    assert code == 2 and "pip install 'pointdistill-ros[viewer]'" in err and not view.networks


def test_sets_that_both_have_are_compared(view, tmp_path):
    other = LabelSet.named("pandaset")
    one = scan(0, 90)[0]
    raw = np.full(90, other.raw_ids[other.index("Road")][0])
    write_kitti(one, tmp_path / "s/0.bin")
    write_labels(raw, tmp_path / "l/0.label")
    options = ("--weights", "student", "--labels", tmp_path / "l", "--label-set", "pandaset")
    code, _, err = view(tmp_path / "s", *options, "--save", tmp_path / "a.rrd")
    assert (code, err) == (0, "")
    (share,) = Recording(tmp_path / "a.rrd").curve("agreement_labels")
    assert share == pytest.approx((one.xyz[:, 2] < -1).mean())
