# SPDX-License-Identifier: Apache-2.0
"""An ablation as one picture: paired differences with their intervals, and what steps cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pointdistill_ros.io.atomic import atomic_path
from training.ablations.intervals import Interval
from training.ablations.measure import MAIN_FIGURE, SIMULATED
from training.ablations.table import Results, RowResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MEAN, _SEED, _COST = "#1f3b73", "#8fa8d6", "#b7bcc6"


def save_plot(results: Results, title: str, paths: Sequence[Path]) -> bool:
    """Draw into every path (.png, .svg); False where there is no difference to draw yet."""
    from matplotlib.figure import Figure

    panels = [
        (protocol, name)
        for protocol in results.protocols
        for name in (MAIN_FIGURE, SIMULATED)
        if any(name in row.differences[protocol] for row in results.rows)
    ]
    if not panels:
        return False
    rows = [row for row in results.rows if row.row.against]
    columns = len(panels) + 1
    figure = Figure(figsize=(1.8 + 3.6 * columns, 1.9 + 0.38 * len(rows)), layout="constrained")
    first = None
    for i, (protocol, name) in enumerate(panels):
        axes = figure.add_subplot(1, columns, i + 1, sharey=first)
        first = first or axes
        _differences(axes, rows, protocol, name)
    _costs(figure.add_subplot(1, columns, columns, sharey=first), rows)
    assert first is not None
    first.set_yticks(range(len(rows)), [f"{r.row.name} − {r.row.against}" for r in rows])
    first.set_ylim(len(rows) - 0.5, -0.5)
    for axes in figure.axes:
        axes.tick_params(labelsize=8, labelleft=axes is first)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"Ablation: {title}", fontsize=10)
    for path in paths:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=130)
    return True


def _differences(axes: Axes, rows: Sequence[RowResult], protocol: str, name: str) -> None:
    """A small dot per seed, a large one for the mean, a line for the interval."""
    for y, row in enumerate(rows):
        found = row.differences[protocol].get(name)
        if found is None:
            axes.text(0, y, " not measured", va="center", fontsize=7, color="#888888")
            continue
        each = [100 * v for v in found.spread.values.values()]
        axes.plot(each, [y] * len(each), "o", color=_SEED, markersize=4)
        many = name == SIMULATED
        interval = found.over_seeds_and_streets if many else found.t_interval
        if interval:
            _line(axes, interval, y)
        axes.plot([100 * found.spread.mean], [y], "D", color=_MEAN, markersize=5)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.grid(axis="x", alpha=0.25)
    what = "mean mIoU of 07 and 10" if name == MAIN_FIGURE else "mIoU, simulated streets"
    axes.set_title(f"{what}, {protocol.upper()}", fontsize=9)
    covers = "Student's t over seeds" if name == MAIN_FIGURE else "bootstrap, seeds and streets"
    axes.set_xlabel(f"points; dots: seeds, diamond: mean\n95 %: {covers}", fontsize=8)


def _line(axes: Axes, interval: Interval, y: int) -> None:
    axes.plot([100 * end for end in interval], [y, y], "|-", color=_MEAN, linewidth=1.5)


def _costs(axes: Axes, rows: Sequence[RowResult]) -> None:
    """Bars of the step cost, in units of the row compared with."""
    for y, row in enumerate(rows):
        if row.step_ratio:
            axes.barh(y, row.step_ratio.mean, 0.55, color=_COST)
            edge = axes.get_yaxis_transform()
            text = f"{row.step_ratio.mean:.2f}"
            axes.text(1, y, text, transform=edge, ha="right", va="center", fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlim(0, 1.2 * max([1.0, *(r.step_ratio.mean for r in rows if r.step_ratio)]))
    axes.set_title("cost of a step", fontsize=9)
    axes.set_xlabel("seconds per step ÷ those of\nthe row compared with", fontsize=8)
