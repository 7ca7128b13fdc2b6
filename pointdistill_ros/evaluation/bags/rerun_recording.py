# SPDX-License-Identifier: Apache-2.0
"""A bag's clouds with their labels as a recording for the Rerun viewer, an extra.

Clouds stand in the frame of the first one where the ego-motion is known; beside them the figures of
every frame as curves over the same time.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.bags.frames import BagFrames
from pointdistill_ros.evaluation.bags.labelling import STUDENT, TEACHER, TRUTH
from pointdistill_ros.evaluation.bags.result import BagEvaluation
from pointdistill_ros.evaluation.paint import WRONG
from pointdistill_ros.evaluation.progress import Bar
from pointdistill_ros.io.atomic import atomic_path

if TYPE_CHECKING:
    from pointdistill_ros.evaluation.bags.run import BagRun

_RADIUS = 0.04


def require_rerun() -> None:
    """Raises InputError where Rerun is not installed."""
    if util.find_spec("rerun") is None:
        raise InputError(
            "--rerun needs the Rerun SDK; pip install 'pointdistill-ros[viewer]' (rerun-sdk, "
            "Python 3.11 or later)"
        )


def write_recording(run: BagRun, evaluation: BagEvaluation, path: Path, bar: Bar) -> None:
    """Write the .rrd file; it appears whole or not at all. Raises InputError without Rerun."""
    require_rerun()
    import rerun as rr

    with atomic_path(path) as temporary:
        recording = rr.RecordingStream("pointdistill_ros")
        recording.save(temporary, default_blueprint=_blueprint(evaluation))
        _describe(recording, evaluation)
        done = bar("recording", len(evaluation.records))
        with BagFrames(run.index, run.options) as frames:
            for frame in frames.all():
                record = evaluation.records[frame.index]
                if not record.error:
                    recording.set_time("frame", sequence=frame.index)
                    recording.set_time("recorded", timestamp=np.datetime64(record.time_ns, "ns"))
                    stored = run.labelled.load(frame.index)
                    assert stored is not None
                    _log(recording, evaluation, frame.index, frame.scan().xyz, stored.arrays)
                done(frame.index + 1)
        recording.flush()
        recording.disconnect()


def _blueprint(evaluation: BagEvaluation) -> Any:
    import rerun.blueprint as rrb

    curves = [rrb.TimeSeriesView(origin=f"/figures/{name}", name=name) for name in _figures()]
    view = rrb.Spatial3DView(origin="/", contents=["+ /drive/**"], name=evaluation.data["name"])
    return rrb.Blueprint(rrb.Vertical(view, rrb.Horizontal(*curves), row_shares=[4, 1]))


def _describe(recording: Any, evaluation: BagEvaluation) -> None:
    """Names and colours of the classes, and the way of the sensor."""
    import rerun as rr

    for name in (STUDENT, TEACHER, TRUTH):
        if name in evaluation.networks or (name == TRUTH and evaluation.truth_set is not None):
            label_set = evaluation.set_of(name)
            classes = [
                rr.AnnotationInfo(i, label_set.names[i], label_set.colours[i])
                for i in range(len(label_set))
            ]
            recording.log(
                f"drive/sensor/{name}",
                rr.AnnotationContext(
                    [*classes, rr.AnnotationInfo(255, "unlabelled", (90, 90, 90))]
                ),
                static=True,
            )
    track = [pose for pose in evaluation.poses if pose is not None]
    if track:
        first = np.linalg.inv(track[0])
        recording.log(
            "drive/track",
            rr.LineStrips3D([np.array([(first @ pose)[:3, 3] for pose in track])]),
            static=True,
        )


def _log(
    recording: Any, evaluation: BagEvaluation, index: int, xyz: Any, labels: Mapping[str, Any]
) -> None:
    """One frame."""
    import rerun as rr

    first = next((pose for pose in evaluation.poses if pose is not None), None)
    pose = evaluation.poses[index]
    if first is not None and pose is not None:
        here = np.linalg.inv(first) @ pose
        recording.log("drive/sensor", rr.Transform3D(translation=here[:3, 3], mat3x3=here[:3, :3]))
    valid = np.isfinite(xyz).all(axis=1)
    for name, ids in labels.items():
        recording.log(
            f"drive/sensor/{name}",
            rr.Points3D(xyz[valid], class_ids=ids[valid].astype(np.uint16), radii=_RADIUS),
        )
    found = evaluation.stabilities.get(index)
    flips = np.empty((0, 3), np.float32) if found is None else xyz[found.flipped & valid]
    recording.log("drive/sensor/flips", rr.Points3D(flips, colors=WRONG, radii=2 * _RADIUS))
    for name, value in _figures(evaluation, index).items():
        if value is not None and np.isfinite(value):
            recording.log(f"figures/{name}", rr.Scalars(value))


def _figures(evaluation: BagEvaluation | None = None, index: int = 0) -> dict[str, float | None]:
    """The curves and their values for a frame."""
    names = ("latency_ms", "agreement", "accuracy", "flips", "probability")
    if evaluation is None:
        return dict.fromkeys(names)
    record = evaluation.records[index]
    score = record.scores.get(STUDENT)
    values = (
        record.milliseconds["total"],
        record.agreement.agreement if record.agreement else None,
        score.accuracy if score else None,
        evaluation.flips(index),
        record.probability,
    )
    return dict(zip(names, values, strict=True))
