# SPDX-License-Identifier: Apache-2.0
"""Diagrams of a page as SVG text: sharp in print, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

WIDTH, HEIGHT = 900, 150
_MOST = 300
"""Points a line is drawn with; longer series become means with the range around them."""


@dataclass(frozen=True)
class Series:
    """One line."""

    name: str
    values: Sequence[float | None]
    """One per place on the x axis, None where there is none."""
    colour: int = 0
    """Class ``c0``, ``c1`` … of the style sheet."""


def lines(
    x: Sequence[float],
    series: Sequence[Series],
    *,
    unit: str,
    digits: int = 1,
    x_unit: str = "s",
    low: float | None = None,
    high: float | None = None,
) -> Markup:
    """Series over x [N] (rising), one plot. ``low`` and ``high`` bound the y axis at least so far.

    Empty text where no series has a value.
    """
    known = [v for s in series for v in s.values if v is not None and math.isfinite(v)]
    if not known or not len(x):
        return Markup()
    bottom, top = min(known), max(known)
    bottom = bottom if low is None else min(low, bottom)
    top = top if high is None else max(high, top)
    ticks = _ticks(bottom, top)
    bottom, top = min(ticks[0], bottom), max(ticks[-1], top)
    begin, end = float(x[0]), float(x[-1]) if x[-1] > x[0] else float(x[0]) + 1
    names = " and ".join(s.name for s in series)
    parts = [
        f'<svg class="plot" viewBox="-52 -10 {WIDTH + 66} {HEIGHT + 36}" role="img" '
        f'aria-label="{escape(names)} over time">'
    ]
    for tick in ticks:
        y = _at(tick, bottom, top)
        parts.append(f'<line class="grid" x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="-7" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    for tick in _ticks(begin, end, 8):
        if begin <= tick <= end:
            place = WIDTH * (tick - begin) / (end - begin)
            parts.append(
                f'<text x="{place:.1f}" y="{HEIGHT + 18}" text-anchor="middle">'
                f"{_number(tick)} {escape(x_unit)}</text>"
            )
    drawn = [_line(x, s, (begin, end), (bottom, top), unit, digits) for s in series]
    return Markup("".join([*parts, *drawn, "</svg>"]))


def histogram(values: Sequence[float], *, unit: str, marks: dict[str, float]) -> Markup:
    """How often values occur, with vertical marks (name → value); empty without values."""
    if not len(values):
        return Markup()
    top = max(float(np.percentile(values, 99.5)) * 1.08, 1e-9)
    bins = min(60, max(10, len(values) // 3))
    counts, edges = np.histogram(np.clip(values, 0, top), bins, (0, top))
    most = int(counts.max())
    parts = [
        f'<svg class="plot" viewBox="-52 -26 {WIDTH + 66} {HEIGHT + 52}" role="img" '
        'aria-label="Histogram">'
    ]
    step = WIDTH / bins
    for i, n in enumerate(counts):
        if n:
            tall = HEIGHT * n / most
            label = f"{edges[i]:.0f} to {edges[i + 1]:.0f} {unit}: {n}"
            parts.append(
                f'<rect class="bin" x="{i * step + 1:.1f}" y="{HEIGHT - tall:.1f}" '
                f'width="{step - 2:.1f}" height="{tall:.1f}" rx="1.5">'
                f"<title>{escape(label)}</title></rect>"
            )
    parts += [
        f'<text x="{WIDTH * tick / top:.1f}" y="{HEIGHT + 18}" text-anchor="middle">'
        f"{_number(tick)} {escape(unit)}</text>"
        for tick in _ticks(0, top, 8)
        if tick <= top
    ]
    last = -100.0
    for name, value in marks.items():
        place = WIDTH * min(value, top) / top
        last = max(place, last + 34)  # names do not touch
        parts.append(
            f'<line class="mark" x1="{place:.1f}" x2="{place:.1f}" y1="-8" y2="{HEIGHT}"/>'
        )
        parts.append(f'<text x="{last:.1f}" y="-13" text-anchor="middle">{escape(name)}</text>')
    parts.append(f'<line class="axis" x1="0" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}"/></svg>')
    return Markup("".join(parts))


def _line(
    x: Sequence[float],
    series: Series,
    span: tuple[float, float],
    reach: tuple[float, float],
    unit: str,
    digits: int,
) -> str:
    """Lines between neighbours, dots that say their value, a band where many became one."""
    place = WIDTH * (np.asarray(x, np.float64) - span[0]) / (span[1] - span[0])
    values = np.array([np.nan if v is None else v for v in series.values], np.float64)
    parts = []
    dots = len(values) <= _MOST
    if not dots:
        place, values, low, high = _thinned(place, values)
        for run in _runs(values):
            around = [
                *(f"{place[i]:.1f},{_at(high[i], *reach):.1f}" for i in run),
                *(f"{place[i]:.1f},{_at(low[i], *reach):.1f}" for i in reversed(run)),
            ]
            parts.append(f'<polygon class="band c{series.colour}" points="{" ".join(around)}"/>')
    for run in _runs(values):
        points = " ".join(f"{place[i]:.1f},{_at(values[i], *reach):.1f}" for i in run)
        parts.append(f'<polyline class="line c{series.colour}" points="{points}"/>')
    if dots:
        for i in np.flatnonzero(np.isfinite(values)):
            label = f"frame {i}, {series.name}: {values[i]:.{digits}f} {unit}"
            parts.append(
                f'<circle class="c{series.colour}" cx="{place[i]:.1f}" '
                f'cy="{_at(values[i], *reach):.1f}" r="2.6"><title>{escape(label)}</title></circle>'
            )
    return "".join(parts)


def _thinned(
    place: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """Mean place and value, smallest and largest value, of runs of neighbours."""
    kept = [part for part in np.array_split(np.arange(len(values)), _MOST) if len(part)]
    rows = []
    for part in kept:
        some = values[part][np.isfinite(values[part])]
        value = (some.mean(), some.min(), some.max()) if len(some) else (np.nan,) * 3
        rows.append((place[part].mean(), *value))
    means, middle, low, high = np.array(rows).T
    return means, middle, low, high


def _runs(values: NDArray[np.float64]) -> list[list[int]]:
    """Indices of neighbours that have values."""
    runs: list[list[int]] = []
    for i in np.flatnonzero(np.isfinite(values)).tolist():
        if runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


def _at(value: float, bottom: float, top: float) -> float:
    return HEIGHT * (1 - (float(value) - bottom) / (top - bottom))


def _ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round numbers from at or below ``low`` to at or above ``high``."""
    if high - low < 1e-9:
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def _number(value: float) -> str:
    return f"{value:.10g}" if abs(value) < 1e5 else f"{value:.3g}"
