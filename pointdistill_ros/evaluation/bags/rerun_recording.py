# SPDX-License-Identifier: Apache-2.0
"""A bag's clouds with their labels as a recording for the Rerun viewer, an extra.

Clouds stand in the frame of the first one where the ego-motion is known; beside them the figures of
every frame as curves over the same time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.evaluation.bags.frames import BagFrames
from pointdistill_ros.evaluation.bags.labelling import STUDENT, TEACHER, TRUTH
from pointdistill_ros.evaluation.bags.result import BagEvaluation
from pointdistill_ros.evaluation.progress import Bar
from pointdistill_ros.evaluation.rerun_scene import Layout, Scene, require_rerun
from pointdistill_ros.evaluation.walk import shared_label_set
from pointdistill_ros.labels import UNLABELLED, LabelSet

if TYPE_CHECKING:
    from pointdistill_ros.evaluation.bags.run import BagRun

FLIPS = "flips"
_FIGURES = ("latency_ms", "agreement", "accuracy", "flips", "probability")


def write_recording(run: BagRun, evaluation: BagEvaluation, path: Path, bar: Bar) -> None:
    """Write the .rrd file; it appears whole or not at all. Raises InputError without Rerun."""
    require_rerun("--rerun")
    sets = _label_sets(evaluation)
    others = {f"not_{name}": name for name in sets if name != STUDENT}
    titles = {view: f"student ≠ {name}" for view, name in others.items()}
    layout = Layout(evaluation.data["name"], sets, titles, _FIGURES, "recorded")
    scene = Scene(layout)
    done = bar("recording", len(evaluation.records))
    with scene.file(path), BagFrames(run.index, run.options) as frames:
        first = _track(scene, evaluation)
        for frame in frames.all():
            record = evaluation.records[frame.index]
            if not record.error:
                scene.at(frame.index, record.time_ns)
                pose = evaluation.poses[frame.index]
                if first is not None and pose is not None:
                    scene.place(first @ pose)
                stored = run.labelled.load(frame.index)
                assert stored is not None
                xyz, labels = frame.scan().xyz, stored.arrays
                for name in sets:
                    scene.labels(name, xyz, labels.get(name))
                for view, name in others.items():
                    scene.difference(view, xyz, _differs(labels, name, sets))
                _log_figures(scene, evaluation, frame.index, xyz)
            done(frame.index + 1)


def _label_sets(evaluation: BagEvaluation) -> dict[str, LabelSet]:
    """What the labels of each labelling mean."""
    names = [name for name in (STUDENT, TEACHER) if name in evaluation.networks]
    if evaluation.truth_set is not None:
        names.append(TRUTH)
    return {name: evaluation.set_of(name) for name in names}


def _track(scene: Scene, evaluation: BagEvaluation) -> NDArray[np.float64] | None:
    """Show the way; the inverse of the first known pose."""
    track = [pose for pose in evaluation.poses if pose is not None]
    if not track:
        return None
    first = np.asarray(np.linalg.inv(track[0]), np.float64)
    scene.track(np.array([first @ pose for pose in track]))
    return first


def _differs(
    labels: Mapping[str, NDArray[np.uint8]], other: str, sets: Mapping[str, LabelSet]
) -> NDArray[np.bool_] | None:
    """Where the student and another labelling part, in classes that both have."""
    if other not in labels:
        return None
    judged = shared_label_set(sets[STUDENT], sets[other])
    mine, theirs = (sets[name].remap_to(judged)[labels[name]] for name in (STUDENT, other))
    return np.asarray((mine != theirs) & (theirs != UNLABELLED))


def _log_figures(
    scene: Scene, evaluation: BagEvaluation, index: int, xyz: NDArray[np.float32]
) -> None:
    """Points that flip, and the curves' values for a frame."""
    found = evaluation.stabilities.get(index)
    scene.marks(FLIPS, xyz[:0] if found is None else xyz[found.flipped])
    record = evaluation.records[index]
    score = record.scores.get(STUDENT)
    values = (
        record.milliseconds["total"],
        record.agreement.agreement if record.agreement else None,
        score.accuracy if score else None,
        evaluation.flips(index),
        record.probability,
    )
    for name, value in zip(_FIGURES, values, strict=True):
        scene.figure(name, value)
