# SPDX-License-Identifier: Apache-2.0
"""The transforms of a bag's /tf and /tf_static as one tree, without ROS."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.motion.trajectory import Pose, Trajectory, pose_of
from pointdistill_ros.io.bag import BagReader

TF_MESSAGE = "tf2_msgs/msg/TFMessage"
CONTINUOUS = "odom"
"""Where the vehicle moves without jumps (REP-105); preferred to frames further up."""


@dataclass(frozen=True, eq=False)
class Edge:
    """Child → parent."""

    parent: str
    moves: bool
    poses: Trajectory

    def at(self, time_ns: int) -> Pose | None:
        """The transform at a time; one that does not move holds always."""
        return self.poses.at(time_ns) if self.moves else self.first

    @property
    def first(self) -> Pose:
        """The transform as it was told first."""
        return pose_of(self.poses.positions[0], self.poses.rotations[0])


class TfTree:
    """Every frame knows its parent."""

    def __init__(self, edges: dict[str, Edge]) -> None:
        self.edges = edges

    @classmethod
    def of(cls, bag: BagReader) -> TfTree:
        """Read a bag's transforms; an empty tree where it has none. Raises InputError."""
        topics = [topic for topic, kind in bag.topics.items() if kind == TF_MESSAGE]
        found: dict[str, list[tuple[int, Any]]] = defaultdict(list)
        parents: dict[str, tuple[str, bool]] = {}
        for message in bag.messages(*topics) if topics else ():
            moves = not message.topic.endswith("tf_static")
            for transform in bag.deserialise(message, TF_MESSAGE).transforms:
                child = transform.child_frame_id.lstrip("/")
                parent = transform.header.frame_id.lstrip("/")
                # a frame has one parent; the first one that is told stays
                if parents.setdefault(child, (parent, moves)) == (parent, moves):
                    stamp = transform.header.stamp
                    time_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
                    found[child].append((time_ns, transform.transform))
        edges = {}
        for child, entries in found.items():
            parent, moves = parents[child]
            t = [entry.translation for _, entry in entries]
            r = [entry.rotation for _, entry in entries]
            try:
                poses = Trajectory.of(
                    [time_ns for time_ns, _ in entries],
                    np.array([(v.x, v.y, v.z) for v in t]),
                    np.array([(q.x, q.y, q.z, q.w) for q in r]),
                )
            except InputError as error:
                raise InputError(f"{bag.path}: tf {parent} → {child}: {error}") from error
            edges[child] = Edge(parent, moves, poses)
        return cls(edges)

    def ancestors(self, frame: str) -> list[str]:
        """The frame, its parent, that one's parent … Raises InputError where they form a loop."""
        chain = [frame.lstrip("/")]
        while chain[-1] in self.edges:
            parent = self.edges[chain[-1]].parent
            if parent in chain:
                raise InputError(f"tf: {' → '.join([*chain, parent])} is a loop")
            chain.append(parent)
        return chain

    def fixed_frame(self, frame: str) -> str | None:
        """In which frame the motion of ``frame`` is known: odom if it is above, else the topmost.

        None where nothing between them moves.
        """
        chain = self.ancestors(frame)
        for fixed in (CONTINUOUS, chain[-1]):
            if fixed in chain[1:]:
                between = chain[: chain.index(fixed)]
                if any(self.edges[child].moves for child in between):
                    return fixed
        return None

    def lookup(self, target: str, source: str, time_ns: int) -> Pose | None:
        """Moves points of ``source`` into ``target``; None where it is not known at that time."""
        ups, downs = self.ancestors(source), self.ancestors(target)
        common = next((frame for frame in ups if frame in downs), None)
        if common is None:
            return None
        up = self._climb(ups[: ups.index(common)], time_ns)
        down = self._climb(downs[: downs.index(common)], time_ns)
        return None if up is None or down is None else np.asarray(np.linalg.inv(down) @ up)

    def _climb(self, children: list[str], time_ns: int) -> Pose | None:
        pose = np.eye(4)
        for child in children:
            step = self.edges[child].at(time_ns)
            if step is None:
                return None
            pose = step @ pose
        return pose
