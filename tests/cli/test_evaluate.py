# SPDX-License-Identifier: Apache-2.0
"""pointdistill evaluate, as a user meets it; the network is a ten-line fake."""

import importlib
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from pointdistill_ros import LabelSet, LidarScan, Segmentation
from pointdistill_ros.cli import main
from pointdistill_ros.datasets.semantic_kitti import SemanticKitti
from pointdistill_ros.io.binfile import write_kitti

command = importlib.import_module("pointdistill_ros.cli.evaluate")
KITTI = LabelSet.named("semantic-kitti")
ROAD, VEGETATION, CAR = (KITTI.index(n) for n in ("road", "vegetation", "car"))


class RoadBelow:
    """Road below one metre under the sensor, else vegetation; with probability = intensity."""

    label_set, model_id, weights_sha256 = KITTI, "fake", "ab12"
    engine, engine_detail, num_parameters = "fake", "one thread", 0
    meta = SimpleNamespace(grid_size=0.1)

    def __call__(self, scan):
        labels = np.where(scan.xyz[:, 2] < -1, ROAD, VEGETATION).astype(np.uint8)
        p = np.ones(len(scan), np.float32) if scan.intensity is None else scan.intensity
        return Segmentation(labels, p, p, KITTI, voxels=len(scan))


@pytest.fixture
def root(tmp_path):
    """SemanticKITTI 08 in its official layout: 300 road, 150 car and 150 vegetation points."""
    rng = np.random.default_rng(0)
    for frame in range(4):
        xyz = rng.normal(0, 10, (600, 3)).astype(np.float32)
        xyz[:, 2] = np.repeat([-1.7, 0.5], 300)
        truth = np.repeat([ROAD, CAR, VEGETATION], (300, 150, 150)).astype(np.uint8)
        scan = LidarScan(xyz, rng.random(600).astype(np.float32))
        folder = tmp_path / "kitti" / "sequences" / "08"
        for name in ("velodyne", "labels"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        write_kitti(scan, folder / "velodyne" / f"{frame:06d}.bin")
        KITTI.to_raw(truth).astype("<u4").tofile(folder / "labels" / f"{frame:06d}.label")
    return tmp_path / "kitti"


@pytest.fixture
def evaluate(monkeypatch, capsys):
    """Run the command; returns exit code, stdout, stderr."""
    monkeypatch.setattr(command, "load_segmenter", lambda *args: RoadBelow())

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["pointdistill", "evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
            sys.exit(0)
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return run


def test_figures_of_an_official_folder(evaluate, root, tmp_path):
    out = tmp_path / "out.json"
    code, text, _ = evaluate(root, "--dataset", "semantic-kitti", "--json", out)
    assert code == 0
    p1 = json.loads(out.read_text())["protocols"]["P1"]
    assert (p1["scans"], p1["points"], p1["accuracy"]) == (4, 2400, 0.75)
    assert p1["miou"] == pytest.approx((1 + 0.5 + 0) / 3, abs=1e-4)
    assert p1["left_out"]["bicycle"] == 0
    assert "0.5000" in text and "fake on semantic-kitti val" in text


def test_report_is_written_and_a_second_run_labels_only_the_pictures(
    evaluate, root, tmp_path, monkeypatch
):
    asked = []
    label = RoadBelow.__call__
    monkeypatch.setattr(RoadBelow, "__call__", lambda s, scan: asked.append(1) or label(s, scan))
    options = (root, "--dataset", "semantic-kitti", "--report", tmp_path / "out")
    code, text, _ = evaluate(*options)
    assert code == 0 and "report.html" in text
    page = (tmp_path / "out" / "report.html").read_text()
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "fake" in page and page.count("<figure") == 4
    assert data["data"]["dataset"] == "semantic-kitti"
    assert data["command"].startswith("pointdistill evaluate")
    assert len(asked) == 8
    evaluate(*options)
    assert len(asked) == 12  # four pictures
    evaluate(*options, "--no-intensity")
    assert len(asked) == 20


def test_floor_decides_the_exit_code(evaluate, root):
    below = evaluate(root, "--dataset", "semantic-kitti", "--floor", "0.6")
    assert below[0] == 1 and "mIoU 0.5000 (P1) is below 0.6" in below[2]
    assert evaluate(root, "--dataset", "semantic-kitti", "--floor", "0.5")[0] == 0
    nothing = ("--min-points", "100000", "--floor", "0.1")
    assert evaluate(root, "--dataset", "semantic-kitti", *nothing)[0] == 1


def test_other_classes_and_fewer_scans(evaluate, root, tmp_path):
    out = tmp_path / "out.json"
    options = ("--label-set", "common7", "--every", "3", "--sequences", "08", "--json", out)
    assert evaluate(root, "--dataset", "semantic-kitti", *options)[0] == 0
    p1 = json.loads(out.read_text())["protocols"]["P1"]
    assert (p1["scans"], p1["label_set"]) == (2, "common7")
    assert set(p1["classes"]) == {"vehicle", "road", "nature"}


def test_simulated_streets_are_unseen_ones(evaluate, root, tmp_path, monkeypatch):
    asked = {}

    class Streets(SemanticKitti):
        def __init__(self, cache, seeds, **options):
            asked.update(cache=cache, seeds=list(seeds))
            super().__init__(root, "val")

    monkeypatch.setattr("pointdistill_ros.datasets.simulated.SimulatedStreets", Streets)
    code, text, _ = evaluate("simulated", "--drives", "3", "--cache", tmp_path)
    assert code == 0 and "fake on simulated 3 unseen streets" in text
    assert asked == {"cache": tmp_path, "seeds": [100_000, 100_001, 100_002]}


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["DATA"], "--dataset"),
        (["DATA", "--dataset", "kitty"], "kitty"),
        (["DATA", "--dataset", "semantic-kitti", "--split", "vall"], "vall"),
        (["DATA", "--dataset", "nuscenes"], "nuScenes"),
        (["nowhere", "--dataset", "semantic-kitti"], "nowhere"),
        (["DATA", "--dataset", "semantic-kitti", "--sequences", "99"], "99"),
        (["DATA", "--dataset", "semantic-kitti", "--protocol", "p4"], "p1, p2, p3"),
        (["DATA", "--dataset", "semantic-kitti", "--protocol", "p1,p1"], "once"),
        (["DATA", "--dataset", "semantic-kitti", "--protocol", ""], "once"),
        (["DATA", "--dataset", "semantic-kitti", "--label-set", "common8"], "common8"),
    ],
)
def test_refusals_are_one_line_that_names_the_cause(evaluate, root, options, what):
    code, _, err = evaluate(*[root if o == "DATA" else o for o in options])
    assert code == 2
    assert what in err and err.count("\n") == 1 and "Traceback" not in err


def test_unknown_engine_and_precision_are_refused():
    with pytest.raises(command.ConfigError, match="magic"):
        command.load_segmenter("student", "cpu", "magic", "float32", None)
    with pytest.raises(command.ConfigError, match="float8"):
        command.load_segmenter("student", "cpu", "torch", "float8", None)


def test_report_must_be_a_folder(evaluate, root):
    file = root / "sequences" / "08" / "labels" / "000000.label"
    code, _, err = evaluate(root, "--dataset", "semantic-kitti", "--report", file)
    assert code == 2 and "is a file" in err
