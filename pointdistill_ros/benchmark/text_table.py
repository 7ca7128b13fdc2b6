# SPDX-License-Identifier: Apache-2.0
"""A table of text, and how numbers look in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DASH = "–"


@dataclass(frozen=True)
class TextTable:
    """A title, a head, rows of cells; the first ``left`` columns are text, the others numbers."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 2
    note: str = ""


def number(value: float | None, digits: int = 3) -> str:
    """So many significant digits, never scientific."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    rounded = abs(float(f"{value:.{digits}g}"))  # 99.96 is 100, not 100.0
    whole = len(str(int(rounded))) if rounded >= 1 else 0
    return f"{value:.{max(0, digits - whole)}f}"


def times(value: float | None) -> str:
    """A ratio."""
    return DASH if value is None else f"{number(value)} ×"


def grouped(value: int) -> str:
    """Thousands apart."""
    return f"{value:,}".replace(",", " ")


def levels(values: Sequence[int]) -> str:
    """Counts of all levels of a pyramid."""
    return ", ".join(grouped(value) for value in values)
