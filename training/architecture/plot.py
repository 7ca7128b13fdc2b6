# SPDX-License-Identifier: Apache-2.0
"""A search as one picture: score over latency, the Pareto front as a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pointdistill_ros.io.atomic import atomic_path
from training.architecture.search import Result

_FRONT, _POINT, _NAMED, _REFERENCE = "#1f3b73", "#8fa8d6", "#c46b2d", "#555555"


def save_plot(result: Result, paths: Sequence[Path]) -> bool:
    """Draw into every path (.png, .svg); False where nothing has a score yet."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    if not result.front:
        return False
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.add_subplot()
    points = result.points()
    for name, point in points.items():
        reference = name == result.reference
        colour = _NAMED if result.candidates[name].named else _POINT
        axes.plot(
            [point.latency],
            [100 * point.score],
            "D" if reference else "o",
            color=_REFERENCE if reference else colour,
            markersize=7 if reference else 5,
        )
        if reference or result.candidates[name].named or name == result.winner:
            axes.annotate(
                name, (point.latency, 100 * point.score), (5, 4), textcoords="offset points",
                fontsize=7,
            )  # fmt: skip
    line = [points[name] for name in result.front]
    axes.step(
        [p.latency for p in line], [100 * p.score for p in line], where="post", color=_FRONT,
        linewidth=1.2, label="Pareto front",
    )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"CPU time of a scan, one thread, over that of {result.reference}")
    axes.set_ylabel(f"score (mIoU, %) after {result.rungs[-1].steps} steps")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)
    for path in paths:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=130)
    return True
