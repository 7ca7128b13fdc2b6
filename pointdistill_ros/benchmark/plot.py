# SPDX-License-Identifier: Apache-2.0
"""A report as one picture: times by part, times as fast as P1, scaling, busy machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pointdistill_ros.benchmark.report import Report, Row
from pointdistill_ros.benchmark.subjects import PLAIN
from pointdistill_ros.benchmark.text_table import number
from pointdistill_ros.errors import InputError
from pointdistill_ros.io.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg")
_COLOURS = ("#5b6472", "#1f77b4", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")
_PARTS = {
    "geometry": "#4c78a8",
    "stem": "#9ecae9",
    "convolution": "#f58518",
    "attention": "#e45756",
    "mlp": "#54a24b",
    "pooling": "#b79a20",
    "head": "#b279a2",
    "network": "#9aa1ac",
    "points and rest": "#d8dbe0",
}


def check_plot_path(path: Path) -> None:
    """Raises InputError where the suffix is none we draw."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: cannot draw this; use NAME{' or NAME'.join(SUFFIXES)}")


def save_plot(report: Report, path: Path) -> None:
    """Draw what was measured. The file appears whole or not at all. Raises InputError."""
    from matplotlib.figure import Figure

    check_plot_path(path)
    panels: list[Callable[[Axes], None]] = []
    if any(row.wall for row in report.rows):
        panels.append(lambda axes: _speedups(axes, report))
    if any(row.parts for row in report.rows):
        panels.append(lambda axes: _parts(axes, report))
    if report.scaling:
        panels.append(lambda axes: _scaling(axes, report))
    if report.busy:
        panels.append(lambda axes: _busy(axes, report))
    if not panels:
        raise InputError(
            f"{path}: nothing to draw; measure one of the sections timing, scaling, busy"
        )
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(7.2 * columns, 4.6 * lines + 0.4), layout="constrained")
    for i, draw in enumerate(panels):
        draw(figure.add_subplot(lines, columns, i + 1))
    figure.suptitle(f"{report.machine['CPU']}, {report.machine['threads']}", fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=130)


def _speedups(axes: Axes, report: Report) -> None:
    """Bars: P1 of the same network over this form, per network and scan."""
    groups = list(dict.fromkeys((row.model, row.scan) for row in report.rows))
    forms = [f for f in dict.fromkeys(row.form for row in report.rows) if f != PLAIN.name]
    width = 0.8 / max(1, len(forms))
    for f, form in enumerate(forms):
        heights, places, colour = [], [], _COLOURS[1 + f % (len(_COLOURS) - 1)]
        for g, (model, scan) in enumerate(groups):
            row = _find(report, model, form, scan)
            plain = _find(report, model, PLAIN.name, scan)
            if row and plain and row.wall and plain.wall:
                heights.append(plain.wall.p50 / row.wall.p50)
                places.append(g + (f - (len(forms) - 1) / 2) * width)
        bars = axes.bar(places, heights, width, label=form, color=colour)
        axes.bar_label(bars, [number(h, 2) for h in heights], fontsize=8)
    axes.axhline(1, color=_COLOURS[0], linewidth=1)
    labels = [f"{model}\n{_short(scan)}" for model, scan in groups]
    axes.set_xticks(range(len(groups)), labels, fontsize=7.5)
    axes.set_ylabel("times as fast as P1")
    axes.set_title("Speed against the plain network in torch", fontsize=10)
    if forms:
        axes.legend(fontsize=8)


def _parts(axes: Axes, report: Report) -> None:
    """Stacked bars: medians of the parts on the reference scan, as shares of the total."""
    rows = [r for r in report.rows if r.parts and r.scan == report.reference_scan]
    for y, row in enumerate(rows):
        left, whole = 0.0, sum(value for _, value in _stack(row))
        for name, value in _stack(row):
            axes.barh(y, 100 * value / whole, left=left, color=_PARTS[name])
            left += 100 * value / whole
        axes.text(101, y, f"{number(row.parts['total'])} ms", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [f"{row.model} {row.form}" for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 117)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("% of the time")
    axes.set_title(f"Where the time goes, {_short(report.reference_scan)}", fontsize=10)
    used = {name for row in rows for name, _ in _stack(row)}
    handles = [axes.barh(0, 0, color=c, label=n) for n, c in _PARTS.items() if n in used]
    axes.legend(
        handles=handles, fontsize=7.5, ncols=5, loc="upper center", bbox_to_anchor=(0.45, -0.13)
    )


def _stack(row: Row) -> list[tuple[str, float]]:
    parts = row.parts
    geometry = parts.get("geometry", 0.0) + parts.get("voxels", 0.0)
    inside = [(n, parts[n]) for n in list(_PARTS)[1:7] if n in parts]
    network = inside or [("network", parts.get("network", 0.0))]
    rest = parts["total"] - geometry - sum(value for _, value in network)
    return [("geometry", geometry), *network, ("points and rest", max(rest, 0.0))]


def _scaling(axes: Axes, report: Report) -> None:
    """Time over voxels, both logarithmic."""
    exponents = report.exponents()
    for i, form in enumerate(dict.fromkeys(p.form for p in report.scaling)):
        points = [p for p in report.scaling if p.form == form]
        label = f"{form}, exponent {exponents[form]:.2f}" if form in exponents else form
        colour = _COLOURS[i % len(_COLOURS)]
        axes.plot(
            [p.voxels for p in points], [p.p50 for p in points], "o-", color=colour, label=label
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(which="both", alpha=0.25)
    axes.set_xlabel("voxels")
    axes.set_ylabel("median, ms")
    axes.set_title(f"Scaling of {next(iter(report.models))}", fontsize=10)
    axes.legend(fontsize=8)


def _busy(axes: Axes, report: Report) -> None:
    """Median and 99th percentile, alone and beside spinning processes."""
    for y, row in enumerate(report.busy):
        for shift, figures, colour in ((-0.17, row.idle, "#1f77b4"), (0.17, row.busy, "#d62728")):
            axes.barh(y + shift, figures.p50, 0.3, color=colour)
            axes.plot([figures.p50, figures.p99], [y + shift] * 2, "k|-", linewidth=1)
    axes.set_yticks(range(len(report.busy)), [row.form for row in report.busy], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("ms: bar = median, line to the 99th percentile")
    axes.set_title(f"{next(iter(report.models))}: alone (blue), busy machine (red)", fontsize=10)


def _find(report: Report, model: str, form: str, scan: str) -> Row | None:
    try:
        return report.row(model, form, scan)
    except KeyError:
        return None


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:21]}…"
