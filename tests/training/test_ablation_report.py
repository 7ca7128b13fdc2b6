# SPDX-License-Identifier: Apache-2.0
"""From counts to figures, differences, intervals, tables and the picture."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.checkpoint import save_checkpoint
from pointdistill_ros.errors import InputError
from training import ablation
from training.ablations.intervals import (
    most_coverage,
    over_seeds,
    over_streets,
    student_t,
    t_quantile,
)
from training.ablations.measure import PartCounts, Scope, figures_of, measure, measured
from training.ablations.plan import Row
from training.ablations.report import Facts, as_markdown, write_report
from training.ablations.table import collect, differences, spreads
from training.validation import Part, validate
from training.validation import summary as validation_summary

from ..tiny import tiny_meta, tiny_network
from .fake_ablation import (
    BASE,
    ROWS,
    SCOPE,
    counted,
    fake_cells,
    fake_parts,
    pretend,
    street_counts,
)
from .test_evaluate import CAR, Clouds, LabelsFromHeight, Scans

FACTS = Facts("test", "python -m training.ablation", "abc", "20 steps", 12)
GAIN = {"none": 0.70, "together": 0.75}


def full(tmp_path, protocols=("p1",), **options):
    found = fake_cells(tmp_path, **options)
    for cell in found:
        cost = 0.5 if cell.row.name == "none" else 0.6
        share = GAIN.get(cell.row.name, 0.7) + 0.003 * cell.seed
        pretend(cell, share, protocols, cost)
    return found


def test_student_t_has_the_quantiles_of_the_tables():
    for degrees, quantile in {2: 4.30265, 4: 2.77645, 9: 2.26216, 100: 1.98397}.items():
        assert t_quantile(degrees) == pytest.approx(quantile, abs=1e-4)
    low, high = student_t([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-4)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=8))
def test_a_bootstrap_stays_in_the_range_and_turns_with_the_sign(values):
    low, high = over_seeds(values)
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12
    other = over_seeds([-v for v in values])
    assert other == pytest.approx((-high, -low), abs=1e-12)


def test_fewer_than_three_seeds_have_no_interval():
    assert over_seeds([1.0, 2.0]) is None and student_t([1.0, 2.0]) is None
    assert most_coverage(3) == 0.75


def test_coverage_of_three_seeds_is_what_is_said():
    rng = np.random.default_rng(0)
    ends = [over_seeds(row) for row in rng.normal(size=(300, 3))]
    share = np.mean([low <= 0 <= high for low, high in ends])
    assert share == pytest.approx(most_coverage(3), abs=0.08)


def test_streets_cancel_where_both_rows_see_the_same():
    counts = np.stack([street_counts(0.7, seed=s) for s in range(3)])
    both = np.ones(2, bool)
    assert over_streets(counts, counts, both) == ((0, 0), (0, 0))
    better = np.stack([street_counts(0.75, seed=s) for s in range(3)])
    streets, seeds_too = over_streets(better, counts, both)
    assert 0 < streets[0] < streets[1] < 0.2
    assert seeds_too[0] > 0
    assert over_streets(better[:, :7], counts[:, :7], both) == (None, None)
    assert over_streets(better[:2], counts[:2], both)[1] is None


def test_seeds_that_disagree_widen_the_interval_over_both():
    counts = np.stack([street_counts(0.7, seed=s) for s in range(3)])
    moved = np.stack([street_counts(0.7 + d, seed=s) for s, d in enumerate((-0.05, 0, 0.1))])
    streets, both = over_streets(moved, counts, np.ones(2, bool))
    assert both[1] - both[0] > 2 * (streets[1] - streets[0])
    each = [counted(m).miou - counted(c).miou for m, c in zip(moved, counts, strict=True)]
    assert both == pytest.approx(over_seeds(each), abs=0.02)
    assert streets[0] < np.mean(each) < streets[1]


def test_the_main_figure_is_the_validation_s(tmp_path):
    parts = [
        Part("semantic-kitti 07", "semantic-kitti", Clouds()),
        Part("semantic-kitti 10", "semantic-kitti", Scans([CAR] * 150, [CAR] * 150)),
        Part("simulated", "simulated", Clouds()),
    ]
    found = validate(lambda dataset: LabelsFromTable(), parts)
    mine = figures_of({title: PartCounts.of(f) for title, f in found.items()})
    theirs = validation_summary(found)
    assert mine["main figure"] == pytest.approx(theirs["main figure"], abs=5e-5)
    assert mine["accuracy"] == pytest.approx(theirs["mean accuracy"], abs=5e-5)
    assert mine["simulated"] == pytest.approx(theirs["simulated"], abs=5e-5)


class LabelsFromTable(LabelsFromHeight):
    """A labeller that is right now and then."""

    def __call__(self, scan):
        ring = np.abs(scan.xyz[:, 2]) * 40 % 19
        scan = type(scan)(np.column_stack([scan.xyz[:, :2], ring.astype(int)]).astype(np.float32))
        return super().__call__(scan)


def test_without_real_scans_there_is_no_main_figure():
    assert {*figures_of({"simulated": counted(street_counts(0.5))})} == {"simulated"}


def test_spreads_and_differences_are_paired_by_seed():
    ours = {s: fake_parts(0.7 + 0.1 * s, s) for s in range(3)}
    theirs = {s: fake_parts(0.65 + 0.1 * s, s) for s in (0, 2)}
    spread = spreads(ours)["main figure"]
    assert spread.std == pytest.approx(np.std(list(spread.values.values()), ddof=1))
    found = differences(ours, theirs)["main figure"]
    assert {*found.spread.values} == {0, 2} and found.interval is None
    assert found.spread.mean == pytest.approx(0.05 * 1.2, abs=0.02)  # IoU moves faster
    assert found.spread.std < spread.std / 3  # what seeds share is gone


def test_other_scans_are_not_compared():
    ours, theirs = {0: fake_parts(0.7)}, {0: fake_parts(0.7)}
    theirs[0]["simulated"] = counted(street_counts(0.7), first="other")
    with pytest.raises(InputError, match="seed 0: simulated was not measured on the same"):
        differences(ours, theirs, "a and b")


def test_a_full_ablation_has_every_number(tmp_path):
    results = collect(full(tmp_path), ["p1"], SCOPE)
    write_report(results, FACTS, tmp_path)
    none, together = results.rows
    gain = together.differences["p1"]["main figure"]
    assert gain.spread.mean > 0.04 and gain.interval[0] > 0 and none.differences["p1"] == {}
    assert together.step_ratio.mean == pytest.approx(1.2)
    text = (tmp_path / "report.md").read_text()
    assert f"{100 * gain.spread.mean:+.2f} [" in text and "0.500 ± 0.000" in text
    assert "1.20 ± 0.00 × none" in text and "12 streets" in text
    assert "at most 75 %" in text and "every row has every seed" in text
    plain = json.loads((tmp_path / "report.json").read_text())
    found = plain["rows"][1]["differences"]["p1"]["main figure"]
    assert found["spread"]["mean"] == pytest.approx(gain.spread.mean, abs=1e-6)
    assert {*found["spread"]["values"]} == {"0", "1", "2"}
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "report.svg").read_text()


def test_gaps_are_named_and_the_rest_is_told(tmp_path):
    found = full(tmp_path)
    by_name = {cell.name: cell for cell in found}
    (by_name["together, seed 1"].folder / "figures-p1.json").unlink()
    stopped = by_name["together, seed 2"]
    for name in ("trained", "figures-p1"):
        (stopped.folder / f"{name}.json").unlink()
    stopped.fail("no space left")
    never = by_name["none, seed 2"]
    for file in never.folder.iterdir():
        file.unlink()
    never.folder.rmdir()
    results = collect(found, ["p1"], SCOPE)
    assert results.missing == {
        "together, seed 1": "trained, not measured under p1",
        "together, seed 2": "trained to step 20 of 20; failed: no space left",
        "none, seed 2": "not begun",
    }
    assert not never.folder.exists()
    text = as_markdown(results, FACTS)
    assert "- none, seed 2: not begun" in text
    assert len(results.rows[1].differences["p1"]["main figure"].spread.values) == 1
    with stopped.claimed():
        assert collect(found, ["p1"], SCOPE).missing[stopped.name].endswith("; in work")


def test_two_seeds_say_that_there_is_no_interval(tmp_path):
    results = collect(full(tmp_path, seeds=(0, 1)), ["p1"], SCOPE)
    assert "no interval can be given" in as_markdown(results, FACTS)


def test_figures_are_for_these_weights_and_scans_only(tmp_path):
    cell = full(tmp_path)[0]
    assert measured(cell, "p1", SCOPE) is not None
    assert measured(cell, "p3", SCOPE) is None
    assert measured(cell, "p1", Scope(data=True, drives=13)) is None
    assert measured(cell, "p1", Scope(data=False, drives=12)) is None
    cell.write("trained", {"weights": "student.safetensors", "sha256": "others"})
    assert measured(cell, "p1", SCOPE) is None


def test_measuring_keeps_what_is_read_back(tmp_path):
    cell = fake_cells(tmp_path, (Row("none"),), (0,))[0]
    network = tiny_network()
    cell.begin()
    save_checkpoint(cell.folder / "student.safetensors", network, tiny_meta())
    cell.write("trained", {"weights": "student.safetensors", "sha256": "0"})
    measure(cell, "p1", SCOPE, [Part("simulated", "simulated", Clouds())], engine="torch")
    part = measured(cell, "p1", SCOPE)["simulated"]
    assert part.counts.shape == (1, 19, 20) and part.counts.sum() == 1500
    assert part.scenes == ("00",)


def run(monkeypatch, tmp_path, *words):
    plan = tmp_path / "plan.yaml"
    rows = [{"name": r.name, "changes": r.changes, "against": r.against} for r in ROWS]
    plan.write_text(json.dumps({"base": BASE, "rows": rows}))
    common = ["--plan", plan, "--out", tmp_path, "--data", tmp_path, "--drives", 12]
    monkeypatch.setattr(sys, "argv", ["ablation", *map(str, [*common, *words])])
    with pytest.raises(SystemExit) as end:
        ablation.main()
    return end.value.code


def test_the_command_does_what_is_left_and_reports(tmp_path, monkeypatch, capsys):
    trained = []

    def train(cell, claim, data, cache, guard):
        trained.append(cell.name)
        pretend(cell, GAIN[cell.row.name] + 0.003 * cell.seed, protocols=())

    def measure(cell, protocol, scope, parts, bar):
        pretend(cell, GAIN[cell.row.name] + 0.003 * cell.seed, protocols=(protocol,))

    monkeypatch.setattr("training.ablations.report.save_plot", lambda *_: False)
    monkeypatch.setattr(ablation, "train", train)
    monkeypatch.setattr(ablation, "measure", measure)
    monkeypatch.setattr(ablation, "prepare", lambda *_: [])
    assert run(monkeypatch, tmp_path, "--report") == 1
    assert trained == [] and "not begun" in (tmp_path / "report.md").read_text()
    assert run(monkeypatch, tmp_path, "--rows", "together", "--seeds", "1") == 0
    assert trained == ["together, seed 1"]
    assert run(monkeypatch, tmp_path) == 0
    assert trained == [
        "together, seed 1",
        *(f"{r}, seed {s}" for s in range(3) for r in GAIN if (r, s) != ("together", 1)),
    ]
    assert run(monkeypatch, tmp_path) == 0
    assert len(trained) == 6
    assert "every row has every seed" in (tmp_path / "report.md").read_text()
    assert run(monkeypatch, tmp_path, "--rows", "nope") == 2
    assert "row nope is not in the plan" in capsys.readouterr().err
