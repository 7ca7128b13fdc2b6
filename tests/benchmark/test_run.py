# SPDX-License-Identifier: Apache-2.0
"""The whole benchmark with engines and clocks that are known, and what it says."""

import json

import pytest

from pointdistill_ros.benchmark import sections
from pointdistill_ros.benchmark.page import markdown
from pointdistill_ros.benchmark.peaks import Peaks
from pointdistill_ros.benchmark.report import ScalingPoint
from pointdistill_ros.benchmark.run import SECTIONS, Options, run_benchmark
from pointdistill_ros.benchmark.scans import NamedScan
from pointdistill_ros.benchmark.tables import tables
from pointdistill_ros.benchmark.text_table import number
from pointdistill_ros.errors import ConfigError

from .doubles import NATIVE, TWO_SCANS, cloud, options

FAKE_PEAKS = Peaks({"float32": 1e9}, 1e12, "by decree")


def nearly(ratios):
    return {k: None if v is None else pytest.approx(v) for k, v in ratios.items()}


def test_ratios_are_of_medians_on_the_largest_scan(checkpoints, fakes):
    chosen = options(checkpoints, "parity", "timing", "one-thread")
    report = run_benchmark(chosen, TWO_SCANS, clock=fakes.clock)
    assert report.reference_scan == "large"
    assert set(report.load["others_by_section"]) == {"parity", "timing", "one-thread"}
    found = report.to_dict()
    assert found["ratios"] == nearly(
        {
            "student_vs_plain_student": 8,
            "student_vs_plain_teacher": 40,
            "teacher_vs_plain_teacher": 4,
            "shipped_vs_plain_shipped": None,
        }
    )
    assert found["ratios_float32"]["student_vs_plain_student"] == pytest.approx(4)
    assert found["ratios_bfloat16"]["teacher_vs_plain_teacher"] is None
    assert found["ratios_one_thread"] == nearly(found["ratios"])
    assert [(m.model, m.form, m.reason) for m in report.missing] == [
        ("teacher", "native-bf16", "needs a better CPU")
    ]
    row = report.row("student", "torch", "small")
    assert row.wall.n == 20 and row.wall.p50 == pytest.approx(400)
    assert row.one_thread.cpu == pytest.approx(1200)


def test_a_form_that_lost_parity_makes_no_ratio(checkpoints, fakes):
    fakes.wrong["student", "native-bf16"] = 0.2
    report = run_benchmark(options(checkpoints), TWO_SCANS, clock=fakes.clock)
    assert report.ratios()["student_vs_plain_student"] == pytest.approx(4)
    assert report.parity()["student native-bf16"] == {
        "equal_labels": pytest.approx(0.8),
        "max_logit_error": None,
        "kept": False,
    }
    assert report.ratios(precision="bfloat16")["student_vs_plain_student"] is None


def test_the_tables_show_what_was_measured(checkpoints, fakes, monkeypatch):
    monkeypatch.setattr(
        sections, "scaling_scans", lambda sizes, tell: [NamedScan(str(n), cloud(n)) for n in sizes]
    )
    chosen = options(checkpoints, *(s for s in SECTIONS if s != "memory"), sizes=(200, 400))
    monkeypatch.setattr(sections, "measure_peaks", lambda device, threads: FAKE_PEAKS)
    monkeypatch.setattr(sections, "usable_threads", lambda: 0)  # nobody spins
    report = run_benchmark(chosen, TWO_SCANS, clock=fakes.clock)
    titles = [table.title for table in tables(report)]
    assert "Times as fast as P1 on large" in titles and "small: 200 points" in titles
    assert "Not measured here" in titles and "Machine" in titles
    page = markdown(report, "plot.svg")
    assert "![Times, scaling and roofline](plot.svg)" in page
    assert "| student | native | 20 | 100 | 100 | 100 | 100 | 200 |" in page
    assert "| best, wall | 8.00 × | 40.0 × | 4.00 × |" in page
    for table in tables(report):
        assert all(len(row) == len(table.head) for row in table.rows), table.title
    # equal times at both sizes: the exponent of something that does not grow
    assert report.exponent() == pytest.approx(0, abs=1e-9)
    (attention,) = (
        r for r in report.roofline if (r.model, r.form, r.part) == ("student", "torch", "attention")
    )
    assert attention.limit == pytest.approx(
        1e3 * max(attention.gflop * 1e9 / 1e9, attention.megabytes * 1e6 / 1e12)
    )
    json.dumps(report.to_dict(), allow_nan=False)


def test_exponent_is_that_of_the_fastest_own_form(checkpoints, fakes):
    report = run_benchmark(options(checkpoints), TWO_SCANS, clock=fakes.clock)
    for form, power in (("torch", 1.0), ("native", 0.5), ("native-bf16", 0.75)):
        factor = {"torch": 1.0, "native": 10.0, "native-bf16": 0.1}[form]
        for size in (1000, 10_000, 100_000):
            time_ms = factor * size**power
            report.scaling.append(ScalingPoint(form, size, size, 5, time_ms, time_ms))
    assert report.exponent() == pytest.approx(0.75)
    assert report.exponents()["torch"] == pytest.approx(1)


@pytest.mark.parametrize(
    "changes", [{"runs": 0}, {"minutes": 0.0}, {"sections": ("speed",)}, {"forms": (NATIVE,)}]
)
def test_options_that_make_no_sense_are_refused(changes):
    with pytest.raises(ConfigError):
        Options(**changes)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (99.96, "100"), (0.01234, "0.012"), (1.5, "1.50"), (12345.6, "12346"), (None, "–")],
)
def test_numbers_have_three_digits_that_matter(value, text):
    assert number(value) == text
