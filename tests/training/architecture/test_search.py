# SPDX-License-Identifier: Apache-2.0
"""The whole search on a tiny budget: accuracy is a formula, latency a formula or the engine's."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pointdistill_ros.engine.library import EngineMissingError, load_library
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.scan import LidarScan
from tests.test_weights import SCAN
from tests.training.fake_ablation import fake_parts
from training.ablations.measure import Scope, _key, _plain
from training.architecture.candidate import Candidate
from training.architecture.journal import Journal
from training.architecture.latency import EngineTimer, Latency
from training.architecture.plan import HeldOut, SearchPlan
from training.architecture.report import as_json, write_report
from training.architecture.scoring import Score, TrainedScores, held_out_apart, scored_on
from training.architecture.search import halve, time_shapes
from training.architecture.space import Space
from training.config import TrainConfig
from training.data_config import SourceConfig
from training.interrupt import InterruptGuard

PLAN = SearchPlan("cpu", proposals=12, candidates=6, rungs=(10, 30, 90), keep=0.5, max_latency=2.0)
BASE = TrainConfig(sources=(SourceConfig("simulated", drives=1),))


class FakeTimer:
    """Parameters over those of the reference; remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, candidates, reference):
        self.asked += [c.name for c in candidates]
        return {
            c.name: Latency(c.parameters / reference.parameters, c.parameters / 1e6, 1000, {})
            for c in (reference, *candidates)
        }


class FakeScorer:
    """More parameters are better, more steps too; says what every rung trained."""

    def __init__(self, fails=()):
        self.rungs, self.fails = [], fails

    def __call__(self, candidates, rung, steps):
        self.rungs.append([c.name for c in candidates])
        value = {c.name: 0.1 * np.log(c.parameters) - 1 / steps for c in candidates}
        scores = {n: Score(v, {"simulated": v}) for n, v in value.items() if n not in self.fails}
        return scores, {n: "killed" for n in value if n in self.fails}


def timed(out, timer, plan=PLAN, **setting):
    return time_shapes(plan, out, BASE, setting, timer, say=lambda text: None)


def halved(result, scorer, plan=PLAN, tell=lambda result: None):
    return halve(plan, result, scorer, tell, say=lambda text: None)


def test_rungs_shrink_and_the_reference_stays(tmp_path):
    scorer, seen = FakeScorer(), []
    result = halved(timed(tmp_path, FakeTimer()), scorer, tell=seen.append)
    sizes = [len(names) for names in scorer.rungs]
    assert sizes == [1 + 3 + 6, 1 + 4, 1 + 2]  # reference, named, drawn; then halves of the rest
    assert all(names[0] == "student" for names in scorer.rungs)
    assert [len(r.rungs) for r in seen] == [1, 2, 3]
    assert result.rungs[1].correlation == pytest.approx(1)
    # here, who is larger is slower and better: nobody is dominated, so the best scores stay
    assert set(result.front) == set(scorer.rungs[-1])
    assert result.winner is None  # none scores what the reference does


def test_the_same_plan_finds_the_same(tmp_path):
    runs = [halved(timed(tmp_path / str(i), FakeTimer()), FakeScorer()) for i in range(2)]
    assert as_json(runs[0], {}) == as_json(runs[1], {})
    other = halved(timed(tmp_path / "2", FakeTimer(), replace(PLAN, seed=1)), FakeScorer())
    assert set(other.candidates) != set(runs[0].candidates)


def test_an_interrupted_search_times_nothing_twice(tmp_path):
    class Killed(Exception):
        pass

    class Mortal(FakeTimer):
        def __call__(self, candidates, reference):
            if self.asked:
                raise Killed
            return super().__call__(candidates, reference)

    first, second = Mortal(), FakeTimer()
    with pytest.raises(Killed):
        timed(tmp_path, first)
    journal = tmp_path / "search.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-5])  # the last line was cut short
    result = timed(tmp_path, second)
    assert first.asked and len(second.asked) == 15 - len(first.asked) + 1
    assert set(second.asked) & set(first.asked) == {first.asked[-1]}
    assert set(result.latencies) == {"student", *first.asked, *second.asked}
    third = FakeTimer()
    assert timed(tmp_path, third) == result and third.asked == []
    more = replace(PLAN, proposals=14)  # the first draws stay the same
    timed(tmp_path, third, more)
    assert len(third.asked) == 2


def test_no_shape_is_proposed_twice(tmp_path):
    one = Space(
        strides=((4, 4),), first_widths=(32,), widths=(64,), depths=(2,), attention_stages=(1,),
        head_widths=(16,), patch_sizes=(256,), decoder_depths=(0,), decoder_widths=(32,),
        mlp_ratios=(2,), stem_sizes=(3,), grid_sizes=(0.1, 0.2), deep_xcpe=(True,),
    )  # fmt: skip
    result = timed(tmp_path, FakeTimer(), replace(PLAN, space=one))
    drawn = [candidate for candidate in result.candidates.values() if not candidate.named]
    assert sorted(candidate.grid_size for candidate in drawn) == [0.1, 0.2]


def test_another_search_in_the_same_folder_is_refused(tmp_path):
    timed(tmp_path, FakeTimer(), precision="float32")
    with pytest.raises(ConfigError, match=r"another search.*precision.*--out"):
        timed(tmp_path, FakeTimer(), precision="bfloat16")


def test_a_failed_run_costs_its_candidate_alone(tmp_path):
    shapes = timed(tmp_path, FakeTimer())
    scorer = FakeScorer(fails=("student-rt-g",))
    result = halved(shapes, scorer)
    assert result.rungs[0].missing == {"student-rt-g": "killed"}
    assert "student-rt-g" not in scorer.rungs[1]
    everything = FakeScorer(fails=set(shapes.candidates) - {"student"})
    with pytest.raises(ConfigError, match="no candidate has a score after 10 steps"):
        halved(shapes, everything)


def test_the_winner_is_the_fastest_at_no_loss(tmp_path):
    shapes = timed(tmp_path, FakeTimer())

    def scorer(candidates, rung, steps):
        score = {"student": 0.6, "student-rt-g": 0.61, "student-rt-litept": 0.62}
        return {c.name: Score(score.get(c.name, 0.2), {}) for c in candidates}, {}

    result = halved(shapes, scorer)
    assert result.winner == "student-rt-litept"
    assert shapes.latencies["student-rt-litept"].ratio < shapes.latencies["student-rt-g"].ratio


def test_the_report_shows_the_front(tmp_path):
    pytest.importorskip("matplotlib")
    result = halved(timed(tmp_path, FakeTimer()), FakeScorer(fails=("student-rt-d",)))
    write_report(result, {"command": "`python -m training.search`"}, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "Pareto front after 90 steps" in text and "student-rt-d, 10 steps: killed" in text
    table = text.split("## Every shape timed")[0]
    for name in result.front:
        assert f"| {name} |" in table
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["front"] == result.front and len(found["candidates"]) == 16
    assert (tmp_path / "report.png").stat().st_size > 5000
    assert (tmp_path / "report.svg").exists()


def test_the_report_of_latencies_alone(tmp_path):
    result = timed(tmp_path, FakeTimer())
    write_report(result, {}, tmp_path)
    assert "student-rt-g" in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "report.png").exists()


def test_latency_of_the_compiled_engine():
    try:
        load_library()
    except EngineMissingError as missing:
        pytest.skip(f"the CPU engine is not built: {missing}")
    scan = LidarScan.read(SCAN)
    part = LidarScan(scan.xyz[::8].copy(), None)
    student = Candidate.of_file("student", 0.2)
    found = EngineTimer(part, "float32", 3)([Candidate.of_file("student-rt-g", 0.2)], student)
    assert found["student"].ratio == 1
    assert 0 < found["student-rt-g"].ratio < 1  # its reason to be
    assert found["student"].voxels == found["student-rt-g"].voxels > 1000
    assert found["student-rt-g"].parts["attention"] < found["student"].parts["attention"]


def test_scores_are_those_of_runs(tmp_path):
    """The runs' folders say all; what is measured is not trained again."""
    candidates = [Candidate.of_file(n, 0.15, 256) for n in ("student", "student-rt-d")]
    scores = TrainedScores(BASE, [], tmp_path, None, tmp_path, InterruptGuard(), lambda text: None)
    for share, candidate in zip((0.8, 0.7), candidates, strict=True):
        cell = scores.cell(candidate, 0, 40)
        assert cell.config.steps == 40 and cell.config.patch_size is None
        assert Path(cell.config.model).is_file() and cell.config.grid_size == 0.15
        cell.begin()
        cell.write("trained", {"weights": "student.safetensors", "sha256": f"{share}"})
        key = _key(cell, Scope(False, 0))
        cell.write("figures-p1", {"key": key, "parts": _plain(fake_parts(share))})
    found, missing = scores(candidates, 0, 40)
    assert missing == {} and found["student"].value > found["student-rt-d"].value
    assert set(found["student"].figures) == {"main figure", "pandaset 003", "simulated"}
    with pytest.raises(ConfigError, match="differs in steps"):
        (cell.folder / "config.yaml").write_text((cell.recipe).read_text())
        scores.cell(candidates[1], 0, 41)


def test_held_out_drives_are_not_trained_on(tmp_path):
    manifest = {
        "files": [
            {"dataset": "SemanticKITTI", "split": "train", "path": f"{s}.npz", "sequence": s}
            for s in ("00", "01", "02")
        ]
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    base = TrainConfig(sources=(SourceConfig("packed", "semantic-kitti"),))
    held = HeldOut(sequences=("01",))
    apart = held_out_apart(base, held, tmp_path, tmp_path)
    assert apart.sources[0].sequences == ("00", "02")
    parts = scored_on(held, 0, tmp_path, tmp_path)
    assert [part.title for part in parts] == ["semantic-kitti 01"]
    assert set(parts[0].scans.sequences) == {"01"}
    with pytest.raises(ConfigError, match="would be left"):
        held_out_apart(base, HeldOut(sequences=("00", "01", "02")), tmp_path, tmp_path)
    assert held_out_apart(base, held, None, tmp_path) == base
    with pytest.raises(ConfigError, match="nothing to score on"):
        scored_on(held, 0, None, tmp_path)


def test_a_journal_that_is_none_is_refused(tmp_path):
    path = tmp_path / "search.jsonl"
    path.write_text("not JSON\n")
    with pytest.raises(Exception, match=r"search\.jsonl:1: not a line of a search"):
        Journal(path).of_kind("latency")


def test_help_teaches_and_mistakes_are_one_line():
    call = [sys.executable, "-m", "training.search"]
    shown = subprocess.run([*call, "--help"], capture_output=True, text=True, check=True).stdout
    assert "examples:" in shown and "searches: cpu" in shown and "OUT/shapes/" in shown
    wrong = subprocess.run([*call, "--recipe", "none"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1
    assert "plans are cpu" in wrong.stderr
