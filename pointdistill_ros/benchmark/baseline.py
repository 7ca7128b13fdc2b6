# SPDX-License-Identifier: Apache-2.0
"""The gate: ratios against those of an earlier run, never milliseconds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointdistill_ros.errors import InputError


@dataclass(frozen=True)
class Regression:
    """A ratio that became worse."""

    name: str
    before: float
    now: float | None

    def __str__(self) -> str:
        if self.now is None:
            return f"{self.name}: {self.before:.2f} before, not measured now"
        return (
            f"{self.name}: {self.before:.2f} before, {self.now:.2f} now "
            f"({100 * (1 - self.now / self.before):.0f} % slower)"
        )


def read_baseline(path: Path) -> dict[str, Any]:
    """An earlier ``--json`` file. Raises InputError."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}; expected a file written by --json") from error
    if not isinstance(content, dict) or not isinstance(content.get("ratios"), dict):
        raise InputError(f"{path}: holds no ratios; expected a file written by --json")
    return content


def regressions(
    now: Mapping[str, Any], baseline: Mapping[str, Any], max_slowdown: float, group: str
) -> Iterable[Regression]:
    """Ratios of ``group`` that fell by more than ``max_slowdown`` per cent, or are gone."""
    for name, before in (baseline.get(group) or {}).items():
        if before is None:
            continue
        value = (now.get(group) or {}).get(name)
        if value is None or value < before * (1 - max_slowdown / 100):
            yield Regression(f"{group}.{name}", before, value)


def gate_group(now: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    """Which ratios to gate on: wall time, or one-thread CPU time where others used the machine."""
    loaded = now.get("load", {}).get("before", 0.0) > 1
    both = all(
        any(value is not None for value in (report.get("ratios_one_thread") or {}).values())
        for report in (now, baseline)
    )
    return "ratios_one_thread" if loaded and both else "ratios"
