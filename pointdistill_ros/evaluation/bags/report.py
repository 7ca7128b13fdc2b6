# SPDX-License-Identifier: Apache-2.0
"""The evaluation of a bag as one HTML page that needs nothing else; see report.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pointdistill_ros.evaluation.bags.gallery import BagExhibit, DriveMap
from pointdistill_ros.evaluation.bags.labelling import STUDENT, TRUTH
from pointdistill_ros.evaluation.bags.result import BagEvaluation, short
from pointdistill_ros.evaluation.paint import class_colours
from pointdistill_ros.evaluation.plots import Series, histogram, lines
from pointdistill_ros.evaluation.report import class_rows as scored_rows
from pointdistill_ros.evaluation.report import environment, matrix_rows
from pointdistill_ros.evaluation.result import Evaluation
from pointdistill_ros.io.atomic import atomic_path


def write_bag_report(
    evaluation: BagEvaluation,
    exhibits: Sequence[BagExhibit],
    drive: DriveMap | None,
    path: Path,
) -> None:
    """Write the page; the file appears whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(render(evaluation, exhibits, drive), encoding="utf-8")


def render(
    evaluation: BagEvaluation,
    exhibits: Sequence[BagExhibit] = (),
    drive: DriveMap | None = None,
) -> str:
    """The page as text."""
    data = evaluation.to_dict()
    found = data["results"]
    return (
        environment()
        .get_template("bag.html.j2")
        .render(
            **data,
            seconds=evaluation.seconds,
            student=data["networks"][STUDENT],
            teacher=data["networks"].get("teacher"),
            agreement=found.get("agreement"),
            stability={n: s for n, s in found.get("stability", {}).items() if n != TRUTH},
            floor=found.get("stability", {}).get(TRUTH),
            labels=_labels(evaluation),
            classes=class_rows(evaluation),
            over_time=_over_time(evaluation),
            latencies=_latencies(evaluation),
            exhibits=exhibits,
            drive=drive,
        )
    )


def class_rows(evaluation: BagEvaluation) -> list[dict[str, Any]]:
    """One row per class of the student that occurs in any of the tables."""
    label_set = evaluation.networks[STUDENT].label_set
    points = evaluation.class_points()
    total = max(sum(points.values()), 1)
    swatches = class_colours(np.arange(len(label_set), dtype=np.uint8), label_set)
    agreement, stability = evaluation.agreement, evaluation.stability.get(STUDENT)
    teacher_iou = {}
    if agreement is not None and evaluation.agreement_set is not None:
        pairs = zip(evaluation.agreement_set.names, agreement.class_iou, strict=True)
        teacher_iou = {name: short(iou) for name, iou in pairs}
    true_iou = {}
    if STUDENT in evaluation.scores:
        figures = evaluation.scores[STUDENT]
        pairs = zip(figures.label_set.names, figures.matrix.iou(), strict=True)
        true_iou = {name: short(iou) for name, iou in pairs}
    rows = []
    for i, name in enumerate(label_set.names):
        flips = static = None
        if stability is not None:
            counts = stability.counts.sum(axis=0)
            static = int(counts[i].sum())
            flips = short(1 - counts[i, i] / static) if static else None
        row = {
            "name": name,
            "colour": "#{:02x}{:02x}{:02x}".format(*swatches[i]),
            "points": points.get(name, 0),
            "share": points.get(name, 0) / total,
            "agreement_iou": teacher_iou.get(name),
            "iou": true_iou.get(name),
            "flips": flips,
            "static": static,
        }
        if row["points"] or row["agreement_iou"] is not None or row["iou"] is not None:
            rows.append(row)
    return sorted(rows, key=lambda row: -row["points"])


def _labels(evaluation: BagEvaluation) -> dict[str, Any] | None:
    """What the page says of the true labels, in the form of ``report.py``."""
    if not evaluation.scores:
        return None
    one = Evaluation({}, {}, evaluation.scores)
    protocols = one.to_dict()["protocols"]
    for name, figures in evaluation.scores.items():
        protocols[name]["matrix"] = matrix_rows(figures.matrix, figures.label_set)
    return {"protocols": protocols, "rows": scored_rows(one)}


def _over_time(evaluation: BagEvaluation) -> list[dict[str, Any]]:
    """Diagrams of figures over the time of the recording."""
    records = evaluation.labelled
    x = evaluation.arrivals
    agreement = [100 * r.agreement.agreement if r.agreement else None for r in records]
    scores = {
        name: [100 * r.scores[name].accuracy if r.scores else None for r in records]
        for name in evaluation.scores
    }
    flips = {
        name: [None if (v := evaluation.flips(r.index, name)) is None else 100 * v for r in records]
        for name in evaluation.stability
    }
    right = [Series("agreement", agreement, 0)]
    right += [Series(f"accuracy, {n}", v, i + 1) for i, (n, v) in enumerate(scores.items())]
    right = [s for s in right if any(v is not None for v in s.values)]
    unstable = [
        Series("true labels" if n == TRUTH else n, v, i) for i, (n, v) in enumerate(flips.items())
    ]
    total = [r.milliseconds["total"] for r in records]
    waits = [max(ms, 0.0) for ms in total]
    plots: list[tuple[str, str, list[Series], dict[str, Any]]] = [
        (_right(evaluation), "per cent of the points", right, {"unit": "%"}),
        ("Flips", "per cent of the static points", unstable, {"unit": "%", "low": 0.0}),
        (
            "Probability",
            "mean of the labels that were given",
            [Series("probability", [100 * r.probability for r in records], 0)],
            {"unit": "%"},
        ),
        ("Latency", "from a cloud to its labelled form", [Series("latency", waits, 0)], _MS),
    ]
    return [
        {
            "title": title,
            "note": note,
            "series": [(s.name, s.colour) for s in series] if len(series) > 1 else [],
            "svg": lines(x, series, **options),
        }
        for title, note, series, options in plots
        if series
    ]


def _right(evaluation: BagEvaluation) -> str:
    """Title of the first diagram: what it holds."""
    if evaluation.agreement is None:
        return "Accuracy"
    return "Agreement and accuracy" if evaluation.scores else "Agreement"


_MS: dict[str, Any] = {"unit": "ms", "low": 0.0, "digits": 0}


def _latencies(evaluation: BagEvaluation) -> dict[str, Any]:
    total = [r.milliseconds["total"] for r in evaluation.labelled]
    marks = {f"p{p}": float(np.percentile(total, p)) for p in (50, 99)}
    return {"svg": histogram(total, unit="ms", marks=marks)}
