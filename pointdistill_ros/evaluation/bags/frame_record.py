# SPDX-License-Identifier: Apache-2.0
"""What is kept of one frame of a bag beside its labels: times, counts, scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.agreement import Agreement
from pointdistill_ros.evaluation.tally import ScanTally


@dataclass(frozen=True)
class FrameRecord:
    """One frame. Everything but ``milliseconds`` depends on the data and the networks only."""

    index: int
    time_ns: int
    """When it was recorded."""
    stamp_ns: int
    """Of its header."""
    points: int
    error: str = ""
    """Why it could not be read; then the rest is empty."""
    sha256: str = ""
    """Of the bytes of the labelled cloud, 24 bytes a point as the node publishes by default."""
    counts: tuple[int, ...] = ()
    """Points per class, without a class last."""
    probability: float = 0.0
    """Mean over the points with a class."""
    entropy: float = 0.0
    voxels: int = 0
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    """Per step; ``total`` is from a cloud to its labelled form, ``cpu`` the time that all threads
    together computed for it, ``teacher`` stands apart."""
    agreement: Agreement | None = None
    """Of teacher (rows) and student (columns)."""
    scores: Mapping[str, ScanTally] = field(default_factory=dict)
    """Of student and teacher against true labels, where the frame has some."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "counts": list(self.counts),
            "milliseconds": dict(self.milliseconds),
            "agreement": self.agreement.to_dict() if self.agreement else None,
            "scores": {name: tally.to_dict() for name, tally in self.scores.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FrameRecord:
        """Inverse of ``to_dict``. Raises InputError."""
        try:
            return cls(
                **{name: data[name] for name in _PLAIN},
                counts=tuple(data["counts"]),
                milliseconds=dict(data["milliseconds"]),
                agreement=Agreement.from_dict(data["agreement"]) if data["agreement"] else None,
                scores={n: ScanTally.from_dict(tally) for n, tally in data["scores"].items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"not the record of a frame ({error!r})") from error


_PLAIN = (
    "index",
    "time_ns",
    "stamp_ns",
    "points",
    "error",
    "sha256",
    "probability",
    "entropy",
    "voxels",
)
