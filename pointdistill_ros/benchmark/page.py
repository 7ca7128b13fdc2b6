# SPDX-License-Identifier: Apache-2.0
"""A report as the page docs/performance.md."""

from __future__ import annotations

from pointdistill_ros.benchmark.report import Report
from pointdistill_ros.benchmark.tables import tables


def markdown(report: Report, plot: str | None = None) -> str:
    """The page docs/performance.md. ``plot``: file of the picture, relative to the page."""
    parts = ["# Performance", "", _introduction(report), ""]
    if plot:
        parts += [f"![Times, scaling and roofline]({plot})", ""]
    for table in tables(report):
        parts += [f"## {table.title}", ""]
        rules = ["---" if i < table.left else "---:" for i in range(len(table.head))]
        for cells in (table.head, rules, *table.rows):
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        parts += ["", *([table.note, ""] if table.note else [])]
    return "\n".join(parts)


def _introduction(report: Report) -> str:
    options = report.options
    return (
        "Written by `pointdistill benchmark --markdown`; do not edit. Times are milliseconds of "
        "the whole `segmenter(scan)`, from points to a class for every point, warm, every form in "
        f"turns with the others in one process ({options['warm_up']} warm-ups and "
        f"{options['runs']} runs asked for; `n` says how many were made where time was short), "
        f"{report.machine['threads']}. P1 is the plain network in torch with fused "
        "attention. While this was measured, other processes used "
        f"{100 * report.load.get('others', 0):.0f} % of the cores' time."
    )
