# SPDX-License-Identifier: Apache-2.0
"""A search as one picture: score over latency, a panel per rung, fronts as lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pointdistill_ros.io.atomic import atomic_path
from training.architecture.halving import fronts
from training.architecture.search import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FRONT, _DRAWN, _NAMED, _REFERENCE = "#1f3b73", "#8fa8d6", "#c46b2d", "#555555"
_TICKS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)


def save_plot(result: Result, paths: Sequence[Path]) -> bool:
    """Draw into every path (.png, .svg); False where nothing has a score yet."""
    from matplotlib.figure import Figure

    rungs = [number for number, rung in enumerate(result.rungs) if rung.scores]
    if not rungs:
        return False
    figure = Figure(figsize=(1.2 + 4.2 * len(rungs), 4.2), layout="constrained")
    first = None
    for column, number in enumerate(rungs):
        axes = figure.add_subplot(1, len(rungs), column + 1, sharex=first)
        first = first or axes
        _rung(axes, result, number)
    assert first is not None
    first.set_ylabel("score (mIoU, %)", fontsize=8)
    figure.supxlabel(f"CPU time of a scan, one thread, over that of {result.reference}", fontsize=9)
    for path in paths:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=130)
    return True


def _rung(axes: Axes, result: Result, number: int) -> None:
    """Every candidate of a rung; names of those that a reader may know."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    points = result.points(number)
    for name, point in points.items():
        reference, named = name == result.reference, result.candidates[name].named
        place = (point.latency, 100 * point.score)
        colour = _REFERENCE if reference else _NAMED if named else _DRAWN
        axes.plot(*place, "D" if reference else "o", color=colour, markersize=5)
        if named or name == result.winner:
            axes.annotate(name, place, (4, 4), textcoords="offset points", fontsize=7)
    line = [points[name] for name in fronts(points)[0]]
    x, y = [p.latency for p in line], [100 * p.score for p in line]
    axes.step(x, y, where="post", color=_FRONT, linewidth=1.2)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.xaxis.set_major_locator(FixedLocator(_TICKS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=8)
    axes.set_title(f"after {result.rungs[number].steps} steps", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
