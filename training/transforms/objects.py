# SPDX-License-Identifier: Apache-2.0
"""Whole objects of other scans, set on the ground where there is room for them.

- an object is a connected cluster of points of one class
- it keeps its distance to the sensor, and with it its density and the side that is seen: it is
  turned about the sensor and shifted up or down to the ground of its new place
- it goes only where its box is empty and nothing stands before it; what it hides is removed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.transforms.geometry import rotate
from training.transforms.points import (
    LabelledPoints,
    azimuth,
    concatenate,
    elevation,
    having,
    horizontal_range,
)

CELL = 0.4
"""Points in cells of this size that touch belong to one object, metres."""
_LEAST, _LARGEST = 20, 20.0
"""Fewest points and largest extent (metres) of an object worth copying."""
_GROUND_NEAR = 2.0
"""Ground within this distance of an object is what it stands on, metres."""
_LARGEST_STEP = 1.0
"""Largest change of height, metres."""
_MARGIN = 0.2
"""Room around an object's box, and what counts as nearer or farther, metres."""
_SEEN_THROUGH = 0.2
"""Share of an object's columns that something may stand before."""
_COLUMN = np.float32(np.radians(0.4))
"""Width of the columns of azimuth in which hiding is decided."""


@dataclass(frozen=True, eq=False)
class _Seen:
    """A cloud with its polar coordinates."""

    points: LabelledPoints
    azimuth: NDArray[np.float32]
    range: NDArray[np.float32]
    elevation: NDArray[np.float32]
    hidden: NDArray[np.bool_]
    """[N] changed in place as objects come before the points."""

    @classmethod
    def of(cls, points: LabelledPoints) -> _Seen:
        polar = (azimuth(points), horizontal_range(points), elevation(points))
        return cls(points, *polar, np.zeros(len(points), np.bool_))

    def left(self) -> LabelledPoints:
        """What nothing hides."""
        return self.points.select(~self.hidden)


def place_objects(
    points: LabelledPoints,
    donor: LabelledPoints,
    things: Sequence[int],
    ground: Sequence[int],
    rng: Generator,
    attempts: int,
) -> LabelledPoints:
    """Try ``attempts`` times to set an object of ``donor`` into the scene; each class is as likely.

    ``things``: labels of objects; ``ground``: labels of what they may stand on.
    """
    objects = {c: find_objects(donor, c) for c in things}
    classes = [c for c, found in objects.items() if found]
    if not classes:
        return points
    stands = donor.xyz[having(donor, ground)][::4]  # a quarter is enough to tell the height
    clouds, solid = [_Seen.of(points)], ~having(points, ground)
    spots = np.flatnonzero(~solid)
    for _ in range(attempts):
        found = objects[classes[rng.integers(len(classes))]]
        thing = donor.select(found[rng.integers(len(found))])
        spot = _spot(thing, clouds[0], spots, rng)
        if spot is None:
            continue
        step = float(points.xyz[spot, 2]) - _base(thing, stands)
        turn = float(clouds[0].azimuth[spot]) - _direction(thing)
        if abs(step) > _LARGEST_STEP:
            continue
        turned = rotate(thing, turn)
        lifted = turned.xyz + np.array([0, 0, step], np.float32)
        placed = _Seen.of(replace(turned, xyz=lifted, ring=None))
        floor = float(points.xyz[spot, 2])
        if _occupied(clouds[0], placed, floor, solid) or any(
            _occupied(cloud, placed, floor, None) for cloud in clouds[1:]
        ):
            continue
        hides = [_covered(cloud, placed) for cloud in clouds]
        if max(before for before, _ in hides) > _SEEN_THROUGH:
            continue
        for cloud, (_, behind) in zip(clouds, hides, strict=True):
            cloud.hidden[behind] = True
        clouds.append(placed)
    return concatenate([cloud.left() for cloud in clouds])


def find_objects(points: LabelledPoints, label: int) -> list[NDArray[np.int64]]:
    """Indices of the points of each object of a class, seen from above."""
    index = np.flatnonzero(points.labels == label)
    if len(index) < _LEAST:
        return []
    cells = np.floor(points.xyz[index, :2] / np.float32(CELL)).astype(np.int64)
    group = connected(cells)
    order = np.argsort(group, kind="stable")
    clusters = np.split(index[order], np.flatnonzero(np.diff(group[order])) + 1)
    return [c for c in clusters if len(c) >= _LEAST and np.ptp(points.xyz[c], 0).max() < _LARGEST]


def connected(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """[N] one number per group of cells [N, 2] that touch, corners included."""
    wide = int(np.ptp(cells[:, 1])) + 3  # an empty column keeps neighbours in their row
    low = cells.min(0)
    keys, inverse = np.unique(
        (cells[:, 0] - low[0]) * wide + cells[:, 1] - low[1], return_inverse=True
    )
    pairs = []
    for step in (1, wide - 1, wide, wide + 1):
        at = np.searchsorted(keys, keys + step).clip(max=len(keys) - 1)
        touching = np.flatnonzero(keys[at] == keys + step)
        pairs.append(np.stack([touching, at[touching]]))
    a, b = np.concatenate(pairs, axis=1)
    root = np.arange(len(keys))
    while True:  # the smallest number spreads, then everybody asks its own root
        low_pair = np.minimum(root[a], root[b])
        spread = root.copy()
        np.minimum.at(spread, a, low_pair)
        np.minimum.at(spread, b, low_pair)
        np.minimum.at(spread, root[a], low_pair)
        np.minimum.at(spread, root[b], low_pair)
        spread = spread[spread]
        if np.array_equal(spread, root):
            return root[inverse.reshape(-1)]
        root = spread


def _direction(thing: LabelledPoints) -> float:
    """Azimuth of an object's centre."""
    x, y = thing.xyz[:, :2].mean(0)
    return float(np.arctan2(y, x))


def _spot(
    thing: LabelledPoints, scene: _Seen, ground: NDArray[np.int64], rng: Generator
) -> int | None:
    """A ground point as far away as an object; ``ground``: indices of those there are."""
    distance = np.float32(np.hypot(*thing.xyz[:, :2].mean(0)))
    near = ground[np.abs(scene.range[ground] - distance) < 0.5]
    near = near[~scene.hidden[near]]
    return int(near[rng.integers(len(near))]) if len(near) else None


def _base(thing: LabelledPoints, stands: NDArray[np.float32]) -> float:
    """Height of the ground under an object: of ground seen near it, else its own lowest point."""
    x, y = thing.xyz[:, :2].mean(0)
    near = (stands[:, 0] - x) ** 2 + (stands[:, 1] - y) ** 2 < _GROUND_NEAR**2
    return float(np.median(stands[near, 2]) if near.any() else thing.xyz[:, 2].min())


def _occupied(cloud: _Seen, placed: _Seen, floor: float, solid: NDArray[np.bool_] | None) -> bool:
    """Whether anything solid (None: anything) stands in the box of an object.

    The box lies along and across the line of sight: the side that is not seen counts, too.
    """
    xyz = placed.points.xyz
    angle = _direction(placed.points)
    along = np.array([np.cos(angle), np.sin(angle)], np.float32)
    across = np.array([-along[1], along[0]])
    own = xyz[:, :2] @ np.stack([along, across], axis=1)
    low, high = own.min(0) - _MARGIN, own.max(0) + _MARGIN
    near = np.flatnonzero((cloud.range > low[0] - 1) & (cloud.range < np.hypot(*high) + 1))
    if solid is not None:
        near = near[solid[near]]
    others = cloud.points.xyz.take(near, axis=0)
    depth, side, height = others[:, :2] @ along, others[:, :2] @ across, others[:, 2] - floor
    inside = (depth > low[0]) & (depth < high[0]) & (side > low[1]) & (side < high[1])
    inside &= (height > _MARGIN) & (height < float(xyz[:, 2].max()) - floor + _MARGIN)
    return bool(np.any(inside & ~cloud.hidden[near]))


def _covered(cloud: _Seen, placed: _Seen) -> tuple[float, NDArray[np.int64]]:
    """The share of an object's columns with a point before it, and the indices of those behind it.

    Per column of azimuth the object reaches from its lowest to its highest point.
    """
    middle = placed.azimuth[0]
    own = np.floor(_turned(placed.azimuth - middle) / _COLUMN).astype(np.int64)
    first = int(own.min())
    columns = int(own.max()) - first + 1
    lowest = np.full(columns, np.inf, np.float32)
    highest, nearest = -lowest, lowest.copy()
    np.minimum.at(lowest, own - first, placed.elevation)
    np.maximum.at(highest, own - first, placed.elevation)
    np.minimum.at(nearest, own - first, placed.range)
    theirs = _turned(cloud.azimuth - middle) / _COLUMN - np.float32(first)
    index = np.flatnonzero((theirs >= 0) & (theirs < columns) & ~cloud.hidden)
    column = theirs[index].astype(np.int64)
    height, distance = cloud.elevation[index], cloud.range[index]
    covered = (height >= lowest[column]) & (height <= highest[column])
    before = covered & (distance < nearest[column] - _MARGIN)
    blocked = len(np.unique(column[before])) / len(np.unique(own))
    return blocked, index[covered & (distance > nearest[column])]


def _turned(angle: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same angles in -pi..pi."""
    full = np.float32(2 * np.pi)
    turned: NDArray[np.float32] = angle - full * np.rint(angle / full)
    return turned
