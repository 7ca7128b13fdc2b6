# SPDX-License-Identifier: Apache-2.0
"""The evaluation of a bag as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from pointdistill_ros.evaluation.bags.finding import BagCheck
from pointdistill_ros.evaluation.bags.labelling import STUDENT, TEACHER, TRUTH
from pointdistill_ros.evaluation.bags.result import BagEvaluation

_STYLE = {"bad": "bold red", "doubtful": "yellow", "fits": "green"}


def tables(evaluation: BagEvaluation) -> Iterator[Table]:
    """What a person reads first, first."""
    yield overview_table(evaluation)
    yield class_table(evaluation)
    yield latency_table(evaluation)
    yield check_table(evaluation.check, only_problems=True)


def overview_table(evaluation: BagEvaluation) -> Table:
    """One line a figure."""
    data, results = evaluation.data, evaluation.results()
    student = evaluation.networks[STUDENT]
    table = Table(
        title=f"{student.name} on {data['name']} {data['topic']}: {results['labelled']:,} of "
        f"{results['frames']:,} frames, {results['points']:,} points, {evaluation.seconds:.1f} s",
        title_justify="left",
        show_header=False,
    )
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    if agreement := results.get("agreement"):
        teacher = evaluation.networks[TEACHER]
        table.add_row(
            f"agreement with {teacher.name}",
            f"{_share(agreement['agreement'])} of {agreement['points']:,} points, mean IoU "
            f"{_number(agreement['mean_iou'])}, divergence {_number(agreement['divergence'])} bit",
        )
        table.add_row("most often", _differences(agreement["differences"], "teacher", "student"))
    for name, figures in evaluation.scores.items():
        found = figures.to_dict()
        table.add_row(
            f"{name} against labels",
            f"mIoU {_number(found['miou'])}, accuracy {_share(found['accuracy'])} of "
            f"{found['points']:,} points ({data['labels']})",
        )
    for name, found in results.get("stability", {}).items():
        what = "true labels, for comparison" if name == TRUTH else name
        table.add_row(
            f"flips of static points: {what}",
            f"{_share(found['flips'], 2)} of {found['points']:,} in {found['frames']:,} frames",
        )
    if STUDENT in results.get("stability", {}):
        flips = results["stability"][STUDENT]["differences"]
        table.add_row("most often", _differences(flips, "before", "now"))
    motion = evaluation.motion
    table.add_row("ego-motion", f"{motion['source']}, {motion['metres']:g} m")
    for note in (*motion["notes"], *evaluation.notes):
        table.add_row("note", note)
    timing = evaluation.timing()
    pace = timing["of_the_sensors_pace"]
    table.add_row(
        "throughput",
        f"{_number(timing['scans_per_second'], 2)} scans/s"
        + (f", {pace:.2f} × the pace of the bag" if pace else ""),
    )
    live = timing["live"]
    table.add_row(
        "a live node here",
        f"would label {live['labelled']:,} of {live['of']:,} clouds, "
        f"{live['age_ms']['p50']:.0f} ms after they came (p50; p99 {live['age_ms']['p99']:.0f} ms)",
    )
    table.add_row("sha256 of all labels", results["sha256"])
    return table


def class_table(evaluation: BagEvaluation) -> Table:
    """One row a class that occurs."""
    from pointdistill_ros.evaluation.bags.report import class_rows

    rows = class_rows(evaluation)
    columns = [
        ("share", "share", "points of the student"),
        ("agreement_iou", "IoU with teacher", ""),
        ("iou", "IoU with labels", ""),
        ("flips", "flips", ""),
    ]
    columns = [c for c in columns if any(row[c[0]] is not None for row in rows)]
    table = Table(title="classes", title_justify="left")
    table.add_column("")
    for _, head, _ in columns:
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(row["name"], *(_share(row[key], 2) for key, _, _ in columns))
    return table


def latency_table(evaluation: BagEvaluation) -> Table:
    """Milliseconds per step."""
    table = Table(title="milliseconds a cloud", title_justify="left")
    table.add_column("")
    steps = evaluation.timing()["milliseconds"]
    for head in next(iter(steps.values()), {}):
        table.add_column(head, justify="right")
    for step, found in steps.items():
        table.add_row(step, *(f"{value:.1f}" for value in found.values()))
    return table


def check_table(check: BagCheck, only_problems: bool = False) -> Table:
    """What fits and what does not, worst first."""
    table = Table(title="input", title_justify="left", show_lines=False)
    for head in ("", "what", "found", "what to do"):
        table.add_column(head, overflow="fold")
    for finding in check.findings:
        if not only_problems or finding.level != "fits":
            table.add_row(
                f"[{_STYLE[finding.level]}]{finding.level}[/]",
                finding.what,
                finding.found,
                finding.advice,
            )
    if only_problems and check.worst == "fits":
        table.add_row("[green]fits[/]", "all", "fields, rate, intensity, height, density", "")
    return table


def _differences(found: list[dict[str, Any]], first: str, second: str) -> str:
    pairs = [f"{d['first']} → {d['second']} ({d['points']:,})" for d in found[:4]]
    return f"{', '.join(pairs) or 'none'}  [dim]{first} → {second}[/]"


def _share(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}%}"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
