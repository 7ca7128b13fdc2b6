# SPDX-License-Identifier: Apache-2.0
"""Status: one line of a diagnostics viewer, its level and hysteresis; DiagnosticArray of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

HOLD = 2.0
"""Seconds for which a level outlives its cause."""


class Level(IntEnum):
    """The levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True)
class Status:
    """One line of a diagnostics viewer."""

    name: str
    level: Level
    message: str
    values: dict[str, str] = field(default_factory=dict)


class Held:
    """Hysteresis of one status: a level rises at once and falls HOLD seconds after its cause."""

    def __init__(self) -> None:
        self._level, self._message, self._until = Level.OK, "", 0.0

    def __call__(self, level: Level, message: str, now: float) -> tuple[Level, str]:
        """The level and message to show."""
        if level in (Level.OK, Level.WARN) and level < self._level and now < self._until:
            return self._level, self._message
        self._level, self._message = level, message
        self._until = now + HOLD if level in (Level.WARN, Level.ERROR) else 0.0
        return level, message


def diagnostic_array(
    node_name: str, hardware_id: str, stamp: object, statuses: Iterable[Status]
) -> DiagnosticArray:
    """The message for ``/diagnostics``; ``stamp`` is a builtin_interfaces Time."""
    array = DiagnosticArray()
    array.header.stamp = stamp
    array.status = [
        DiagnosticStatus(
            level=bytes([status.level]),
            name=f"{node_name}: {status.name}",
            message=status.message,
            hardware_id=hardware_id,
            values=[KeyValue(key=key, value=value) for key, value in status.values.items()],
        )
        for status in statuses
    ]
    return array
