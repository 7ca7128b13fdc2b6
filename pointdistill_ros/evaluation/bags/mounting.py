# SPDX-License-Identifier: Apache-2.0
"""Mounting: where the sensors of a bag sit in a frame of the vehicle, without ROS.

- read from /tf_static, and from /tf where it always says the same (recordings from ROS 1)
- what moves against the target frame is refused: which of its transforms a node has by the time of
  a cloud is up to the network, so its labels could not be told beforehand
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import CloudError
from pointdistill_ros.evaluation.bags.frames import BagFrames, FrameIndex
from pointdistill_ros.evaluation.motion.tf_tree import Edge, TfTree
from pointdistill_ros.io.bag import BagReader
from pointdistill_ros.placement import Placement

_STILL = 1e-9
"""Metres, and the same for quaternions, within which a transform has not changed."""


@dataclass(frozen=True)
class Mounting:
    """Placement's Transforms. Picklable, and the same for every cloud."""

    target: str
    poses: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Frame → [4, 4] that moves its points into the target frame."""
    moving: tuple[str, ...] = ()
    """Frames that are connected with the target and move against it."""
    others: tuple[str, ...] = ()
    """Frames of the bag that are not connected with it."""

    @classmethod
    def of(cls, bag: BagReader, target: str) -> Mounting:
        """Read through the transforms of a bag. Raises InputError where they cannot be read."""
        tree = TfTree.of(bag)
        frames = sorted({*tree.edges, *(edge.parent for edge in tree.edges.values())})
        roots = {frame: tree.ancestors(frame) for frame in {*frames, target}}
        poses, moving, others = {}, [], []
        for frame in frames:
            if roots[frame][-1] != roots[target][-1]:
                others.append(frame)
            elif (pose := _fixed(tree, roots[frame], roots[target])) is None:
                moving.append(frame)
            else:
                poses[frame] = pose
        return cls(target, poses, tuple(moving), tuple(others))

    def __call__(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64]:
        """[4, 4] moves points of ``source`` into the target frame. Raises CloudError."""
        name = source.lstrip("/")
        if name in self.poses:
            return self.poses[name]
        refusal = f"no transform {source} → {target}: "
        if name in self.moving:
            raise CloudError(
                f"{refusal}/tf moves them against each other; take a frame that is fixed to the "
                "sensor's vehicle"
            )
        if self.poses:
            held = ", ".join(frame for frame in self.poses if frame != target) or "nothing"
            raise CloudError(f"{refusal}fixed to {target} in this bag: {held}")
        held = ", ".join((*self.moving, *self.others)) or "none"
        raise CloudError(f"{refusal}frames in this bag's /tf and /tf_static: {held}")

    @property
    def placement(self) -> Placement:
        """How networks see clouds in the target frame."""
        return Placement(self.target, self)

    def facts(self) -> list[tuple[str, list[list[float]]]]:
        """Plain data: all that decides where clouds are seen."""
        return [(frame, np.round(self.poses[frame], 9).tolist()) for frame in sorted(self.poses)]


def open_mounting(index: FrameIndex, target: str, keep_going: bool = False) -> Mounting:
    """Of a bag. Raises InputError where its first cloud cannot be placed, unless it shall go on."""
    with BagFrames(index) as frames:
        mounting = Mounting.of(frames.bag, target)
        if not keep_going:
            frame = frames.one(0)
            with frame.named():
                mounting.placement(frame.scan())
    return mounting


def _fixed(tree: TfTree, ups: list[str], downs: list[str]) -> NDArray[np.float64] | None:
    """Pose of two frames, each given with its ancestors; None where one moves."""
    common = next(frame for frame in ups if frame in downs)
    up, down = (
        [tree.edges[frame] for frame in chain[: chain.index(common)]] for chain in (ups, downs)
    )
    if not all(_still(edge) for edge in (*up, *down)):
        return None
    return np.asarray(np.linalg.inv(_climb(down)) @ _climb(up))


def _climb(edges: list[Edge]) -> NDArray[np.float64]:
    pose = np.eye(4)
    for edge in edges:
        pose = edge.first @ pose
    return pose


def _still(edge: Edge) -> bool:
    if not edge.moves:
        return True
    poses, turns = edge.poses, edge.poses.rotations
    turned = np.minimum(  # q and -q are one rotation
        *(np.abs(turns - sign * turns[0]).max(axis=1) for sign in (1, -1))
    )
    moved = np.abs(poses.positions - poses.positions[0])
    return bool(max(turned.max(), moved.max()) < _STILL)
