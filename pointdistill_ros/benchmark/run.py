# SPDX-License-Identifier: Apache-2.0
"""The benchmark, section after section. Each takes its share of the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pointdistill_ros.benchmark import sections
from pointdistill_ros.benchmark.machine import read_load, used_by_others
from pointdistill_ros.benchmark.report import Report
from pointdistill_ros.benchmark.scans import NamedScan
from pointdistill_ros.benchmark.setting import SECTIONS, Options, Setting
from pointdistill_ros.benchmark.timing import Clock, Progress

__all__ = ["SECTIONS", "Options", "run_benchmark"]

_SHARES = {"timing": 0.55, "one-thread": 0.15, "scaling": 0.15, "busy": 0.15}
"""Of the time; the other sections end by themselves within seconds or a minute."""
_MEMORY_SECONDS = 8.0
"""What one process that measures memory needs; kept free of the time above."""
_TIMED: dict[str, Callable[[Setting, float], None]] = {
    "timing": sections.timing,
    "one-thread": sections.one_thread,
    "scaling": sections.scaling,
    "busy": sections.busy,
}
_UNTIMED: dict[str, Callable[[Setting], None]] = {
    "parity": sections.parity,
    "memory": sections.memory,
    "roofline": sections.roofline,
}


def run_benchmark(
    options: Options,
    scans: Sequence[NamedScan],
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> Report:
    """All wanted sections. What cannot be measured here is no error: the report says so."""
    begin, end = read_load(), time.monotonic() + 60 * options.minutes
    setting = Setting(options, scans, progress, clock)
    ahead = [name for name in SECTIONS if name in options.sections]
    others: dict[str, float] = {}
    while ahead:
        name, before = ahead[0], read_load()
        if name in _TIMED:
            kept = _MEMORY_SECONDS * len(setting.segmenters) if "memory" in ahead else 0.0
            left = max(0.0, end - kept - time.monotonic())
            shares = sum(_SHARES[other] for other in ahead if other in _SHARES)
            _TIMED[name](setting, left * _SHARES[name] / shares)
        else:
            _UNTIMED[name](setting)
        ahead.pop(0)
        others[name] = used_by_others(before, read_load())
    after = read_load()
    setting.report.load = {
        "before": begin.average,
        "after": after.average,
        "others": used_by_others(begin, after),
        "others_by_section": others,
    }
    return setting.report
