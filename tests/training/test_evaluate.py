# SPDX-License-Identifier: Apache-2.0
import json
import sys

import numpy as np
import pytest
from rich.console import Console

from pointdistill_ros.labels import LabelSet
from pointdistill_ros.resources import weights_path
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation
from training import evaluate
from training.evaluate import spread_table, tables
from training.validation import Part, spread, summary, validate, validation_parts

KITTI, COMMON = LabelSet.named("semantic-kitti"), LabelSet.named("common7")
CAR, ROAD, SIDEWALK, POLE = map(KITTI.index, ("car", "road", "sidewalk", "pole"))


class LabelsFromHeight:
    """z is the answer."""

    label_set = KITTI

    def __call__(self, scan):
        labels = scan.xyz[:, 2].astype(np.uint8)
        return Segmentation(labels, np.ones(len(labels), np.float32), labels * 0.0, KITTI)


class Scans:
    """One scan: what the labeller will say, and the truth."""

    def __init__(self, answers, truth, label_set=KITTI):
        self.label_set, self.sequences = label_set, ["00"]
        xyz = np.zeros((len(answers), 3), np.float32)
        xyz[:, 2] = answers
        self._pair = LidarScan(xyz), np.array(truth, np.uint8)

    def __len__(self):
        return 1

    def __getitem__(self, i):
        return self._pair


def judged(*parts):
    return validate(lambda dataset: LabelsFromHeight(), [Part(*p) for p in parts])


def test_a_foreign_label_set_is_compared_in_its_own_classes():
    truth = [COMMON.index("vehicle"), COMMON.index("road"), COMMON.index("vehicle")]
    figures = judged(("x", "pandaset", Scans([CAR, ROAD, POLE], truth, COMMON)))
    assert figures["x"].accuracy == pytest.approx(2 / 3)
    assert figures["x"].label_set == COMMON


def test_main_figure_is_the_mean_of_the_sequences_not_of_the_points():
    figures = judged(
        ("semantic-kitti 07", "semantic-kitti", Scans([CAR] * 900, [CAR] * 900)),
        ("semantic-kitti 10", "semantic-kitti", Scans([CAR] * 100, [ROAD] * 100)),
        ("simulated", "simulated", Scans([CAR], [ROAD])),
    )
    found = summary(figures)
    assert found["main figure"] == 0.5
    assert found["mean accuracy"] == 0.5
    assert found["pooled accuracy"] == 0.9
    assert found["pooled mIoU"] == pytest.approx((900 / 1000 + 0) / 2)


def test_confusions_are_shares_of_the_true_points():
    answers = [ROAD] * 150 + [SIDEWALK] * 50 + [ROAD] * 30 + [SIDEWALK] * 70
    truth = [ROAD] * 200 + [SIDEWALK] * 100
    found = summary(judged(("semantic-kitti 07", "semantic-kitti", Scans(answers, truth))))
    assert found["road called sidewalk"] == 0.25
    assert found["sidewalk called road"] == 0.3


def test_no_summary_without_the_main_sequences():
    assert summary(judged(("simulated", "simulated", Scans([CAR], [CAR])))) == {}


def test_spread_is_the_sample_deviation_and_skips_what_is_not_there():
    found = spread([{"a": 0.4}, {"a": 0.6, "b": 0.5}])
    assert found["a"]["mean"] == 0.5
    assert found["a"]["std"] == pytest.approx(np.std([0.4, 0.6], ddof=1), abs=1e-4)
    assert found["b"] == {"mean": 0.5, "std": None, "n": 1}


def shown(*some):
    console = Console(width=200)
    with console.capture() as capture:
        for table in some:
            console.print(table)
    return capture.get()


def test_tables_name_every_true_class_and_rare_ones_do_not_count():
    truth = [CAR] * 100 + [POLE] * 99
    figures = judged(("part", "semantic-kitti", Scans([*truth[:-1], ROAD], truth)))
    text = shown(*tables(figures, "weights"))
    assert "0.990 (99)" in text and "≥ 100 points" in text and "bicyclist" not in text
    assert figures["part"].miou == 1.0
    assert figures["part"].left_out()["pole"] == 99


def test_spread_table_has_a_column_per_protocol():
    text = shown(
        spread_table(
            {
                "p1": spread([{"main figure": 0.5}, {"main figure": 0.6}]),
                "p3": spread([{"main figure": 0.7}]),
            }
        )
    )
    assert "0.5500 ± 0.0707 (n = 2)" in text and "0.7000" in text


def test_real_parts_are_sequences_apart(real_data, tmp_path):
    parts = validation_parts(real_data, tmp_path, drives=0)
    assert [part.title for part in parts] == [
        "semantic-kitti 07",
        "semantic-kitti 10",
        "pandaset 003",
        "ika-vlp32",
    ]
    assert set(parts[0].scans.sequences) == {"07"}
    assert parts[2].scans.label_set == COMMON


def cloud(rng):
    xyz = rng.normal(0, (8, 8, 0.5), (1500, 3)).astype(np.float32)
    return LidarScan(xyz, rng.random(1500).astype(np.float32))


class Clouds(Scans):
    def __init__(self):
        super().__init__([CAR], [CAR])
        rng = np.random.default_rng(0)
        self._pair = cloud(rng), rng.choice([ROAD, CAR, 14, 16], 1500).astype(np.uint8)


def test_command_prints_and_writes_what_it_found(tmp_path, monkeypatch, capsys):
    parts = [Part("semantic-kitti 07", "semantic-kitti", Clouds())]
    monkeypatch.setattr(evaluate, "validation_parts", lambda *_: parts)

    def command(*options):
        out = tmp_path / "val.json"
        argv = ["evaluate", "--engine", "torch", "--out", str(out), *options]
        monkeypatch.setattr(sys, "argv", argv)
        evaluate.main()
        return json.loads(out.read_text())

    results = command(
        "--weights", "student", str(weights_path("student")), "--protocol", "p1", "p2"
    )
    found = results["weights"]["student"]
    assert results["weights"][str(weights_path("student"))]["p1"]["parts"] != {}
    assert (
        found["p1"]["summary"]["main figure"] == found["p1"]["parts"]["semantic-kitti 07"]["miou"]
    )
    assert found["p1"] != found["p2"]
    assert results["spread"]["p2"]["main figure"]["n"] == 2
    assert results["spread"]["p2"]["main figure"]["std"] == 0
    bare = command("--no-intensity")
    assert bare["no_intensity"] is True
    assert bare["weights"]["student"]["p1"]["parts"] != found["p1"]["parts"]
    assert "± 0.0000 (n = 2)" in capsys.readouterr().out
    steps = command("--steps", "0", "1")["weights"]["student"]["steps"]
    assert steps["none"]["semantic-kitti 07"]["accuracy"] is not None
    assert len(steps) == 2
