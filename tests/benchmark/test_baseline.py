# SPDX-License-Identifier: Apache-2.0
"""Comparison with an earlier run."""

import pytest

from pointdistill_ros.benchmark.baseline import gate_group, read_baseline, regressions
from pointdistill_ros.errors import InputError


def test_a_ratio_that_fell_too_far_is_found():
    before = {"ratios": {"a": 4.0, "b": 8.0, "c": None, "d": 2.0}}
    now = {"ratios": {"a": 3.7, "b": 7.1, "c": 1.0, "d": None}}
    found = list(regressions(now, before, 10, "ratios"))
    assert [r.name for r in found] == ["ratios.b", "ratios.d"]
    assert "8.00 before, 7.10 now (11 % slower)" in str(found[0])
    assert "not measured" in str(found[1])
    assert not list(regressions(now, before | {"ratios": {"b": 8.0}}, 12, "ratios"))


def test_a_loaded_machine_is_judged_by_cpu_time():
    report = {"load": {"before": 3.0}, "ratios_one_thread": {"a": 4.0}}
    assert gate_group(report, report) == "ratios_one_thread"
    assert gate_group(report | {"load": {"before": 0.3}}, report) == "ratios"
    assert gate_group(report, {"ratios": {"a": 1.0}}) == "ratios"


@pytest.mark.parametrize("text", ["", "[]", '{"ratios": 3}'])
def test_a_baseline_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "before.json").write_text(text)
    with pytest.raises(InputError, match="before"):
        read_baseline(tmp_path / "before.json")
