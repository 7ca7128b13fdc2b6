# SPDX-License-Identifier: Apache-2.0
"""An evaluation as one HTML page that needs nothing else: no server, no network, no other file.

Numbers, bars and diagrams are HTML and SVG, so that they stay sharp in print; pictures of scans are
embedded. Not here: what the figures are (figures.py) and which scans are shown (gallery.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pointdistill_ros.evaluation.confusion import ConfusionMatrix
from pointdistill_ros.evaluation.figures import Figures
from pointdistill_ros.evaluation.gallery import Exhibit
from pointdistill_ros.evaluation.paint import class_colours
from pointdistill_ros.evaluation.result import Evaluation
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.labels import LabelSet

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(evaluation: Evaluation, exhibits: Sequence[Exhibit], path: Path) -> None:
    """Write the page; the file appears whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(render(evaluation, exhibits), encoding="utf-8")


def render(evaluation: Evaluation, exhibits: Sequence[Exhibit] = ()) -> str:
    """The page as text."""
    label_set = evaluation.first.label_set
    data = evaluation.to_dict()
    for name, figures in evaluation.protocols.items():
        data["protocols"][name]["matrix"] = matrix_rows(figures.matrix, label_set)
    page = environment().get_template("report.html.j2")
    return page.render(
        **data,
        classes=class_rows(evaluation),
        sequences=sequence_rows(evaluation.protocols),
        exhibits=exhibits,
    )


@cache
def environment() -> Environment:
    """Where templates of pages are, and what they may use."""
    found = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"percent": percent, "grouped": grouped, "number": number}
    return found


def percent(value: float | None, digits: int = 1) -> str:
    """0.5136 → 51.4; a dash where there is no figure."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}"


def grouped(value: int) -> str:
    """1234567 → 1 234 567, with narrow spaces that do not break."""
    return f"{value:,}".replace(",", "\u202f")


def number(value: float | None, digits: int = 2) -> str:
    """With so many decimals."""
    return "–" if value is None else f"{value:.{digits}f}"


def class_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One row per class of the label set, present or not, with the IoU under every protocol."""
    label_set = evaluation.first.label_set
    found = {name: f.to_dict()["classes"] for name, f in evaluation.protocols.items()}
    first = next(iter(found.values()))
    left_out = evaluation.first.left_out()
    swatches = class_colours(np.arange(len(label_set), dtype=np.uint8), label_set)
    return [
        {
            "name": name,
            "colour": "#{:02x}{:02x}{:02x}".format(*swatches[i]),
            "counted": name not in left_out,
            "ticks": [classes[name]["iou"] for classes in found.values()][1:],
            **first[name],
            "iou": {protocol: classes[name]["iou"] for protocol, classes in found.items()},
        }
        for i, name in enumerate(label_set.names)
        if name in first
    ]


def sequence_rows(protocols: Mapping[str, Figures]) -> list[dict[str, Any]]:
    """One row per drive with the figures under every protocol."""
    first = next(iter(protocols.values()))
    rows = []
    for sequence in first.sequences:
        parts = {name: figures.of_sequence(sequence) for name, figures in protocols.items()}
        part = next(iter(parts.values()))
        rows.append(
            {
                "name": sequence or "–",
                "scans": len(part.tallies),
                "points": int(part.matrix.points().sum()),
                "accuracy": part.accuracy,
                "ece": part.reliability.error(),
                "miou": {name: one.miou for name, one in parts.items()},
                "ticks": [one.miou for one in parts.values()][1:],
                "classes": int(part.matrix.present(part.min_points).sum()),
            }
        )
    return rows


def matrix_rows(matrix: ConfusionMatrix, label_set: LabelSet) -> dict[str, Any]:
    """Rows of the classes that have true points, as shares; columns of all that occur."""
    counts, points = matrix.counts, matrix.points()
    predicted = counts.sum(axis=0)
    names = [*label_set.names, "nothing"]
    columns = [i for i in range(len(names)) if predicted[i] or (i < len(points) and points[i])]
    return {
        "columns": [names[i] for i in columns],
        "rows": [
            {
                "name": names[row],
                "points": int(points[row]),
                "cells": [
                    {
                        "name": names[column],
                        "count": int(counts[row, column]),
                        "share": float(counts[row, column] / points[row]),
                        "hit": row == column,
                    }
                    for column in columns
                ],
            }
            for row in range(len(points))
            if points[row]
        ],
    }
