# SPDX-License-Identifier: Apache-2.0
"""Finding: one thing that was checked about a bag, and all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["bad", "doubtful", "fits"]
"""Worst first."""


@dataclass(frozen=True)
class Finding:
    """One thing that was checked."""

    level: Level
    what: str
    found: str
    advice: str = ""
    """What to do; empty where it fits."""


@dataclass(frozen=True)
class BagCheck:
    """Everything that was found, worst first."""

    findings: tuple[Finding, ...]
    facts: Mapping[str, Any]
    """Medians of the sample, for programs."""

    @property
    def worst(self) -> Level:
        """The level of the first finding."""
        return self.findings[0].level

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"findings": [asdict(finding) for finding in self.findings], **self.facts}
