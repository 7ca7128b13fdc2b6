# SPDX-License-Identifier: Apache-2.0
"""Record: what was sent, heard and seen while the node ran. Plain numbers, no ROS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tools.soak.process import State


class Look(NamedTuple):
    """The node's process at one moment."""

    at: float
    """Steady seconds since the run began."""
    state: State


class Told(NamedTuple):
    """SegmentationStats of one cloud."""

    at: float
    """Steady seconds since the run began."""
    age: float
    """Seconds from the stamp to having published the labels."""
    total: float
    """Seconds of work."""
    received: int
    processed: int
    dropped: int


@dataclass
class Record:
    """One run."""

    period: float
    """Seconds between two clouds."""
    sent: int = 0
    late: int = 0
    """Clouds that this program sent more than a period after they were due."""
    seconds: float = 0.0
    """How long clouds were sent."""
    looks: list[Look] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    """Seconds from the stamp to the arrival of the labels here, of every labelled cloud."""
    first: Told = field(default_factory=lambda: Told(0.0, 0.0, 0.0, 0, 0, 0))
    """What the node had counted before the first cloud of this record."""
    ending: str = ""
    """Why the node did not live to the end; empty where it did."""
    log: str = ""
    """What the node logged."""

    def settled(self, warm_up: float) -> Record:
        """The same without what was told, heard and seen in the first seconds."""
        kept = Record(self.period, self.sent, self.late, self.seconds, ending=self.ending)
        kept.looks = [look for look in self.looks if look.at >= warm_up]
        kept.told = [told for told in self.told if told.at >= warm_up]
        kept.ages, kept.log, kept.first = self.ages, self.log, self.first
        return kept
