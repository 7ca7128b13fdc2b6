# SPDX-License-Identifier: Apache-2.0
"""Where the sensor was for every cloud of a bag: from tf, odometry, a poses file, or estimated.

A source that was asked for and does not work is an error; ``auto`` takes the first that is there
and says which. Poses are of the clouds' own frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.bags.frames import BagFrames
from pointdistill_ros.evaluation.motion.registration import estimate, installed
from pointdistill_ros.evaluation.motion.tf_tree import TfTree
from pointdistill_ros.evaluation.motion.trajectory import Pose, Trajectory, read_poses
from pointdistill_ros.scan import LidarScan

AUTO, NONE, TF, ESTIMATE = "auto", "none", "tf", "kiss-icp"
POSE_KINDS: dict[str, Callable[[Any], tuple[Any, str]]] = {
    "nav_msgs/msg/Odometry": lambda m: (m.pose.pose, m.child_frame_id),
    "geometry_msgs/msg/PoseStamped": lambda m: (m.pose, ""),
    "geometry_msgs/msg/PoseWithCovarianceStamped": lambda m: (m.pose.pose, ""),
}
"""Message type → its pose and the frame it is of, empty where it does not say."""


@dataclass(frozen=True, eq=False)
class EgoMotion:
    """One pose a frame, None where there is none."""

    poses: tuple[Pose | None, ...]
    source: str
    """For people."""
    notes: tuple[str, ...] = ()

    @property
    def known(self) -> int:
        """Frames with a pose."""
        return sum(pose is not None for pose in self.poses)


def ego_motion(
    wanted: str,
    frames: BagFrames,
    stamps_ns: Sequence[int],
    frame_id: str,
    on_frame: Callable[[int], None] = lambda done: None,
) -> EgoMotion:
    """Poses of the clouds with these stamps.

    ``wanted``: auto, none, tf, kiss-icp, a topic of poses, or a file (``trajectory.read_poses``).
    Raises InputError where that does not give a pose for two frames; ``auto`` gives none then.
    """
    if wanted == NONE:
        return _none(stamps_ns, "switched off")
    if wanted == AUTO:
        return _first(frames, stamps_ns, frame_id, on_frame)
    if wanted == TF:
        found = from_tf(frames, stamps_ns, frame_id)
        if found is None:
            raise InputError(
                f"{frames.index.path}: tf does not say how {frame_id!r} moves; it needs a chain of "
                "transforms from there to a fixed frame, one of which moves"
            )
    elif wanted == ESTIMATE:
        return _estimated(frames, stamps_ns, on_frame)
    elif wanted.startswith("/") and not Path(wanted).is_file():
        found = from_topic(frames, wanted, stamps_ns, frame_id)
    else:
        trajectory = read_poses(Path(wanted), stamps_ns)
        found = EgoMotion(tuple(trajectory.at(t) for t in stamps_ns), f"poses of {wanted}")
    if found.known < min(2, len(stamps_ns)):
        raise InputError(
            f"{found.source}: poses for {found.known} of {len(stamps_ns)} clouds; their times must "
            "cover the stamps of the clouds"
        )
    return found


def from_tf(frames: BagFrames, stamps_ns: Sequence[int], frame_id: str) -> EgoMotion | None:
    """From /tf and /tf_static; None where they do not tell."""
    tree = TfTree.of(frames.bag)
    fixed = tree.fixed_frame(frame_id)
    if fixed is None:
        return None
    poses = tuple(tree.lookup(fixed, frame_id.lstrip("/"), t) for t in stamps_ns)
    return EgoMotion(poses, f"tf, {frame_id} in {fixed}")


def from_topic(frames: BagFrames, topic: str, stamps_ns: Sequence[int], frame_id: str) -> EgoMotion:
    """From odometry or stamped poses, moved to the sensor by tf_static. Raises InputError."""
    bag = frames.bag
    kind = bag.topics.get(topic, "")
    if kind not in POSE_KINDS:
        held = ", ".join(t for t, k in bag.topics.items() if k in POSE_KINDS) or "none"
        raise InputError(
            f"{bag.path}: no poses on topic {topic} ({kind or 'neither in this bag nor a file'}); "
            f"topics with poses: {held}"
        )
    times, rows, of_frame = [], [], ""
    for message in bag.messages(topic):
        content = bag.deserialise(message, kind)
        pose, of_frame = POSE_KINDS[kind](content)
        p, q = pose.position, pose.orientation
        times.append(content.header.stamp.sec * 10**9 + content.header.stamp.nanosec)
        rows.append((p.x, p.y, p.z, q.x, q.y, q.z, q.w))
    values = np.array(rows, np.float64).reshape(-1, 7)
    try:
        trajectory = Trajectory.of(times, values[:, :3], values[:, 3:])
    except InputError as error:
        raise InputError(f"{bag.path}: {topic}: {error}") from error
    mount = np.eye(4)
    notes: tuple[str, ...] = ()
    if of_frame.lstrip("/") != frame_id.lstrip("/"):
        found = TfTree.of(bag).lookup(of_frame, frame_id, times[0]) if of_frame else None
        if found is None:
            notes = (
                f"{topic} tells where {of_frame or 'something'} is and tf not where {frame_id} is "
                "on it: the two are taken as one",
            )
        else:
            mount = found
    poses = tuple(None if (p := trajectory.at(t)) is None else p @ mount for t in stamps_ns)
    return EgoMotion(poses, f"topic {topic}", notes)


def _first(
    frames: BagFrames,
    stamps_ns: Sequence[int],
    frame_id: str,
    on_frame: Callable[[int], None],
) -> EgoMotion:
    """tf, else a topic, else the estimate; why not, where none of them is there."""
    tried: list[str] = []
    attempts: list[Callable[[], EgoMotion | None]] = [
        lambda: from_tf(frames, stamps_ns, frame_id),
        *(
            lambda topic=topic: from_topic(frames, topic, stamps_ns, frame_id)
            for topic, kind in sorted(frames.bag.topics.items())
            if kind in POSE_KINDS
        ),
    ]
    for attempt in attempts:
        try:
            found = attempt()
        except InputError as error:
            tried.append(str(error))
            continue
        if found is not None and 2 * found.known >= len(stamps_ns):
            return EgoMotion(found.poses, found.source, (*found.notes, *tried))
        if found is not None:
            tried.append(f"{found.source}: poses for {found.known} of {len(stamps_ns)} clouds only")
    if installed() and len(stamps_ns) > 1:
        found = _estimated(frames, stamps_ns, on_frame)
        return EgoMotion(found.poses, found.source, tuple(tried))
    missing = (
        "the bag tells nothing of the sensor's motion; name a poses file or topic, or "
        "pip install 'pointdistill-ros[odometry]' to estimate it"
    )
    return _none(stamps_ns, "; ".join([*tried, missing]))


def _estimated(
    frames: BagFrames, stamps_ns: Sequence[int], on_frame: Callable[[int], None]
) -> EgoMotion:
    """Raises InputError without kiss-icp."""
    poses = estimate(_scans(frames), on_frame)
    return EgoMotion(tuple(poses), "estimated from the clouds by KISS-ICP")


def _scans(frames: BagFrames) -> Iterator[LidarScan]:
    """All clouds; one that cannot be read is empty, it has been reported before."""
    for frame in frames.all():
        try:
            scan = frame.scan()
        except InputError:
            scan = LidarScan(np.empty((0, 3), np.float32))
        yield scan


def _none(stamps_ns: Sequence[int], why: str) -> EgoMotion:
    return EgoMotion((None,) * len(stamps_ns), "none", (why,))


def load_motion(record: dict[str, Any], poses: Any) -> EgoMotion:
    """Inverse of ``dump_motion``."""
    known = tuple(None if np.isnan(pose).any() else np.asarray(pose) for pose in poses)
    return EgoMotion(known, str(record["source"]), tuple(record["notes"]))


def dump_motion(motion: EgoMotion) -> tuple[dict[str, Any], Any]:
    """Plain data and poses [N, 4, 4], NaN where there is none."""
    unknown = np.full((4, 4), np.nan)
    poses = np.array([unknown if pose is None else pose for pose in motion.poses])
    return {"source": motion.source, "notes": list(motion.notes)}, poses
