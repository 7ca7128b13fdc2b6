# SPDX-License-Identifier: Apache-2.0
from pointdistill_ros.evaluation import progress as module
from pointdistill_ros.evaluation.progress import progress


def test_without_a_terminal_a_line_when_one_is_due(monkeypatch, capsys):
    clock = iter([0.0, 100.0, 130.0, 200.0, 300.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress() as bar:
        done = bar("P3", 4)
        for number in (1, 2, 3, 4):
            done(number)
    err = capsys.readouterr().err.splitlines()
    # nothing at 130 s, too soon after the one before; nothing at the end
    assert err == ["P3: 1 of 4 scans, 5 min left", "P3: 3 of 4 scans, 1 min left"]
