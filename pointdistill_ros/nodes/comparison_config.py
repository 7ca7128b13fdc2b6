# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the comparison node, as in config.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pointdistill_ros.config import Live, Range, check_fields


@dataclass(frozen=True)
class ComparisonInputConfig:
    """How labelled clouds come in."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    reliability: Literal["best_effort", "reliable"] = "best_effort"
    """QoS of the subscriptions; with best_effort nobody ever waits for this node."""
    depth: Annotated[int, Range(1, 1000)] = 5
    """QoS history of the subscriptions: clouds that arrive while two others are compared."""
    student_label_set: str = "auto"
    """Shipped label set of the student's class ids; auto: what student/class_info says."""
    teacher_label_set: str = "auto"
    """Shipped label set of the teacher's class ids; auto: what teacher/class_info says."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class PairingConfig:
    """How long one side waits for the other."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    depth: Annotated[int, Range(1, 1000), Live()] = 30
    """Clouds of each side that wait for the other side, 5 bytes a point. At 10 Hz, 30 bridge a
    teacher that is 3 s late."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class WindowConfig:
    """What ~/comparison_window and the alarm sum up."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    clouds: Annotated[int, Range(1, 10000), Live()] = 50
    """The last so many clouds that both sides labelled."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class AlarmConfig:
    """When disagreement is worth a warning."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    warn_below: Annotated[float, Range(0.0, 1.0), Live()] = 0.8
    """Agreement of the window below which it is a WARN."""
    error_below: Annotated[float, Range(0.0, 1.0), Live()] = 0.6
    """Agreement of the window below which it is an ERROR; at most warn_below."""
    hysteresis: Annotated[float, Range(0.0, 0.5), Live()] = 0.02
    """A level ends only when agreement has risen so far above its threshold."""
    min_clouds: Annotated[int, Range(1, 10000), Live()] = 5
    """Clouds in the window before it is judged; at most the length of a full window counts."""
    student_silent_after: Annotated[float, Range(0.1, 3600.0), Live()] = 3.0
    """Seconds without labels of the student that are an ERROR."""
    teacher_silent_after: Annotated[float, Range(0.1, 3600.0), Live()] = 15.0
    """Seconds without labels of the teacher that are a WARN; it may be slow on purpose."""
    log_period: Annotated[float, Range(0.0, 3600.0), Live()] = 5.0
    """Seconds between two lines of the log about clouds that are not compared; 0 logs each."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.error_below > self.warn_below:
            raise ValueError(
                f"error_below ({self.error_below:g}) must not exceed "
                f"warn_below ({self.warn_below:g})"
            )


@dataclass(frozen=True)
class ComparisonConfig:
    """Every parameter of the comparison node."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    autostart: bool = True
    """Configure and activate at start, without a lifecycle manager."""
    input: ComparisonInputConfig = field(default_factory=ComparisonInputConfig)
    pairing: PairingConfig = field(default_factory=PairingConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    diagnostics: AlarmConfig = field(default_factory=AlarmConfig)
