# SPDX-License-Identifier: Apache-2.0
"""A teacher beside the demo's student: its processes, and the figures of how far they agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pointdistill_ros.evaluation.distance import band_name
from pointdistill_ros.labels import LabelSet

if TYPE_CHECKING:
    from pointdistill_ros.nodes.comparison_listener import ComparisonListener

NONE = "none"
"""Named as the teacher: the student alone."""

START_TIMEOUT = 30.0
"""Seconds that the comparison node gets to know both sides."""
FIRST_TIMEOUT = 60.0
"""Seconds that the teacher gets for its first cloud after the last one was played."""


@dataclass
class Beside:
    """What came of the comparison."""

    listener: ComparisonListener | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    """Figures; empty without a teacher."""
    pictures: list[Path] = field(default_factory=list)


def check_teacher(teacher: str, label_set: LabelSet) -> None:
    """Refuse weights that cannot be read, or whose classes have no meaning for the student's.

    Raises CheckpointError or LabelError.
    """
    if teacher == NONE:
        return
    from pointdistill_ros.checkpoint import find_weights, load_checkpoint

    classes = load_checkpoint(find_weights(teacher))[1].label_set
    if classes.names != label_set.names:
        classes.remap_to(label_set)


@contextmanager
def teacher_beside(
    teacher: str, output: Path, clouds: int, label_set: LabelSet
) -> Iterator[Beside]:
    """Run teacher and comparison while the block runs; afterwards the result is filled.

    teacher: shipped network or checkpoint, ``none`` for none. The student must be running; the
    window of the comparison holds all ``clouds``.
    """
    beside = Beside()
    if teacher == NONE:
        yield beside
        return
    from pointdistill_ros.nodes.comparison_listener import ComparisonListener
    from pointdistill_ros.nodes.process import comparison_process, teacher_process

    with ExitStack() as stack:
        stack.enter_context(teacher_process(teacher, output / "teacher.log"))
        stack.enter_context(comparison_process(output / "comparison.log", clouds))
        listener = stack.enter_context(ComparisonListener())
        listener.wait_for_sides(START_TIMEOUT)  # else the first clouds are not compared
        beside.listener = listener
        yield beside
        listener.wait_for_last(FIRST_TIMEOUT)
        beside.summary = {"model": teacher, **_figures(listener.window, label_set)}
        points = listener.disagreement
        if points is not None and len(points):
            from pointdistill_ros.evaluation.pictures import birds_eye

            picture = output / "disagreement.png"
            birds_eye(
                points["xyz"],
                points["teacher_class"],
                label_set,
                picture,
                title="Where the student says something else: the teacher's classes",
            )
            beside.pictures = [picture]


def _figures(window: dict[str, Any], label_set: LabelSet) -> dict[str, Any]:
    """Of the comparison's last window, for people and programs; NaN becomes None."""
    if not window:
        return {"clouds": 0}
    begins, shares = window["band_begin"], window["band_agreement"]
    return {
        "clouds": window["clouds"],
        "points": window["points"],
        "agreement": _rounded(window["agreement"]),
        "divergence_bits": _rounded(window["divergence"]),
        "by_distance": {
            band_name(band): _rounded(share)
            for band, (_, share) in enumerate(zip(begins, shares, strict=True))
            if isfinite(share)
        },
        "class_iou": {
            name: _rounded(iou)
            for name, iou in zip(label_set.names, window["class_iou"], strict=True)
            if isfinite(iou)
        },
        "teacher_later_by_ms": _rounded(window["teacher_lag_ms"], 1),
    }


def _rounded(value: float, digits: int = 4) -> float | None:
    return round(value, digits) if isfinite(value) else None


def rows(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Lines for the demo's table."""
    if not summary:
        return
    if not summary["clouds"]:
        yield "teacher", f"{summary['model']}: not one cloud within {FIRST_TIMEOUT:g} s"
        return
    yield (
        "teacher",
        f"{summary['model']}, {summary['clouds']} clouds in the time that the student left, "
        f"labels {summary['teacher_later_by_ms']:.0f} ms after the student's",
    )
    yield "agreement", f"{_percent(summary['agreement'])} of {summary['points']} points"
    bands = summary["by_distance"].items()
    yield "… by distance", ", ".join(f"{name} {_percent(share)}" for name, share in bands)
    worst = sorted(summary["class_iou"].items(), key=lambda item: item[1])[:4]
    yield "… worst classes", ", ".join(f"{name} {iou:.2f}" for name, iou in worst)


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.1f} %"
