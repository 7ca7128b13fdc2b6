# SPDX-License-Identifier: Apache-2.0
"""An evaluation as tables for a terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from pointdistill_ros.evaluation.result import Evaluation


def figure_table(evaluation: Evaluation) -> Table:
    """One row per protocol; the caption says which classes enter no mean."""
    data = evaluation.to_dict()
    first = next(iter(data["protocols"].values()))
    title = (
        f"{data['weights']['name']} on {data['data']['dataset']} {data['data']['split']}: "
        f"{first['scans']:,} scans, {first['points']:,} points, {first['label_set']}"
    )
    table = _table(title, "", "mIoU", "95 %", "all classes", "accuracy", "class accuracy", "fw IoU")
    table.add_column("ECE", justify="right")
    table.add_column("CPU s/scan", justify="right")
    for name, p in data["protocols"].items():
        low, high = p["intervals"]["miou"]
        table.add_row(
            name,
            _share(p["miou"]),
            "–" if low is None else f"{low:.3f} to {high:.3f}",
            *(_share(p[key]) for key in ("miou_all", "accuracy", "mean_accuracy", "fw_iou", "ece")),
            f"{p['seconds_per_scan']:.2f}",
        )
    notes = [first["no_intervals"]] if first["no_intervals"] else []
    if left := first["left_out"]:
        names = ", ".join(f"{name} ({n:,})" if n else name for name, n in left.items())
        notes.insert(0, f"fewer than {first['min_points']} points, in no mean: {names}")
    table.caption = "\n".join(notes) or None
    table.caption_justify = "left"
    return table


def class_table(evaluation: Evaluation) -> Table:
    """IoU per class and protocol, with points and the share that was found."""
    protocols = evaluation.to_dict()["protocols"]
    table = _table("IoU per class", "", "points", *protocols, "95 %", "found")
    first = next(iter(protocols.values()))
    for name, c in first["classes"].items():
        low, high = c["interval"]
        table.add_row(
            name,
            f"{c['points']:,}",
            *(_share(p["classes"][name]["iou"]) for p in protocols.values()),
            "–" if low is None else f"{low:.3f} to {high:.3f}",
            _share(c["accuracy"]),
            style="dim" if name in first["left_out"] else None,
        )
    return table


def drive_table(evaluation: Evaluation) -> Table:
    """mIoU per drive and protocol."""
    protocols = evaluation.to_dict()["protocols"]
    table = _table("mIoU per drive", "", "scans", "points", *protocols, "accuracy")
    first = next(iter(protocols.values()))
    for name, drive in first["by_sequence"].items():
        table.add_row(
            name,
            f"{drive['scans']:,}",
            f"{drive['points']:,}",
            *(_share(p["by_sequence"][name]["miou"]) for p in protocols.values()),
            _share(drive["accuracy"]),
        )
    return table


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(heads):
        table.add_column(name, justify="right" if i else "left")
    return table


def _share(value: Any) -> str:
    return "–" if value is None else f"{value:.4f}"
