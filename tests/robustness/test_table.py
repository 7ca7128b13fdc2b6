# SPDX-License-Identifier: Apache-2.0
import json
from types import SimpleNamespace

import numpy as np
import pytest

from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.evaluation.corruptions import trial
from pointdistill_ros.evaluation.corruptions.table import Row, markdown, rows, summary, to_dict
from pointdistill_ros.evaluation.corruptions.trial import Cause, TrialJournal, causes, run_trials
from pointdistill_ros.evaluation.drift.gauges import read_gauges
from pointdistill_ros.segmentation import Segmentation
from tests.robustness.street import BUILDING, KITTI, ROAD, street
from training.calibrate_drift import Frame, KnownFrames, measure
from training.corruption_table import _parser, run


class ByHeight:
    """Calls everything low road: right on a level street."""

    label_set = KITTI

    def __init__(self):
        self.asked = 0

    def __call__(self, scan):
        self.asked += 1
        labels = np.where(scan.xyz[:, 2] < -1.6, ROAD, BUILDING).astype(np.uint8)
        return Segmentation(
            labels, np.ones(len(scan), np.float32), np.zeros(len(scan), np.float32), KITTI
        )


class Streets:
    """Two drives of one scan each."""

    label_set, sequences = KITTI, ["a", "b"]

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return street(i, beams=24, turns=180)


WANTED = causes(["height", "cut-sectors"], [1, 5])


def trials(labeller=None, journal=None):
    return list(run_trials(labeller or ByHeight(), Streets(), KITTI, WANTED, 0, journal))


def test_rows_say_what_a_corruption_costs():
    table = {(row.name, row.strength): row for row in rows(trials(), 10, None)}
    assert list(table) == [(c.name, c.strength) for c in WANTED]
    assert table["clean", 0].miou > 0.9
    assert table["clean", 0].loss == 0
    assert table["height", 5].loss > 0.3  # low is not low any more
    assert table["cut-sectors", 5].loss < 0.05  # what is left is as it was
    assert all(row.flagged is None and row.scans == 2 for row in table.values())


def test_scores_of_a_reference_are_counted():
    def judge(gauges):
        return SimpleNamespace(score=2.0 if gauges[0] < np.log(3000) else 0.5)

    table = {(row.name, row.strength): row for row in rows(trials(), 10, judge)}
    assert table["clean", 0].flagged == 0
    assert table["cut-sectors", 5].flagged == 1
    assert table["cut-sectors", 5].score == (2.0, 2.0, 2.0)


def test_a_journal_goes_on_and_gives_the_same(tmp_path):
    path = tmp_path / "trials.jsonl"
    first = trials(journal=TrialJournal(path, {"of": 1}))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:5]) + "\n" + lines[5][:40])  # crashed while writing
    labeller = ByHeight()
    again = trials(labeller, TrialJournal(path, {"of": 1}))
    assert labeller.asked == len(first) - 4
    assert [t.to_dict() for t in again] == [t.to_dict() for t in first]
    assert path.read_text().splitlines() == lines
    assert TrialJournal(path, {"of": 2}).known == {}


def test_other_code_begins_anew(tmp_path, monkeypatch):
    path = tmp_path / "trials.jsonl"
    trials(journal=TrialJournal(path, {}))
    assert TrialJournal(path, {}).known
    monkeypatch.setattr(trial, "fingerprint", lambda: "other")
    assert not TrialJournal(path, {}).known


def row(name, strength, loss, flagged):
    return Row(name, strength, 4, 0.5 - loss, loss, 0.9, flagged, (0.1, 0.5, 0.9))


def test_the_summary_counts_frames():
    table = [row("clean", 0, 0.0, 0.25), row("fog", 3, 0.01, 0.5), row("fog", 4, 0.1, 1.0),
             row("rain", 5, 0.02, 0.5)]  # fmt: skip
    found = summary(table)
    assert found["clean"] == {"frames": 4, "flagged": 0.25}
    assert found["strong"] == {"frames": 8, "flagged": 0.75}
    assert found["strong and harmful"] == {"frames": 4, "flagged": 1.0}
    json.dumps(to_dict(table))


def test_markdown_has_a_cell_per_strength():
    lines = list(
        markdown([row("clean", 0, 0.0, 0.0), row("fog", 1, 0.1, 0.5), row("fog", 5, 0.3, 1.0)])
    )
    assert lines[0] == "Clean: mIoU 0.500, 0% flagged."
    assert lines[-1] == "| fog | 500, 25 m visibility | 0.400, 50% flagged | 0.200, 100% flagged |"
    assert len({line.count("|") for line in lines[2:]}) == 1


def test_frames_that_are_known_are_not_measured_again(tmp_path):
    scan, _ = street()
    frames = [Frame(f"f{i}", "p", lambda: scan) for i in range(3)]
    labeller, path = ByHeight(), tmp_path / "frames.json"
    first = list(measure(labeller, frames[:2], KnownFrames(path, "abc")))
    again = list(measure(labeller, frames, KnownFrames(path, "abc")))
    assert labeller.asked == 3
    assert np.allclose(again[0], first[0], equal_nan=True)
    assert np.allclose(first[0], read_gauges(scan, labeller(scan)), atol=1e-5, equal_nan=True)
    with pytest.raises(InputError, match="of other weights"):
        KnownFrames(path, "def")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to measure"),
        (["--dataset", "semantic-kitti"], "needs --root"),
        (["--drives", "nowhere", "--reference", "none.json"], "none.json: No such file"),
    ],
)
def test_commands_that_cannot_work_say_why(tmp_path, options, message):
    with pytest.raises((ConfigError, InputError), match=message):
        run(_parser().parse_args(["--out", str(tmp_path), *options]))


def test_causes_begin_with_clean():
    assert causes(["fog"], [2, 3]) == [Cause("clean", 0), Cause("fog", 2), Cause("fog", 3)]
