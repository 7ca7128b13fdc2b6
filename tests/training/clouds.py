# SPDX-License-Identifier: Apache-2.0
"""Small clouds whose labels, intensities and beams can be told from each other."""

import numpy as np

from training.transforms import LabelledPoints

ROAD, CAR, PERSON, WALL = 8, 0, 5, 12


def street(seed=0, n=3000, rings=False):
    """Points whose label and intensity belong together: pairing is testable."""
    rng = np.random.default_rng(seed)
    xyz = rng.uniform([-40, -40, -2], [40, 40, 3], (n, 3)).astype(np.float32)
    labels = rng.integers(0, 19, n).astype(np.uint8)
    ring = (labels % 4).astype(np.uint16) if rings else None
    return LabelledPoints(xyz, (labels / 20).astype(np.float32), labels, ring)


def paired(points):
    return np.allclose(points.intensity, points.labels / 20) and (
        points.ring is None or np.array_equal(points.ring, points.labels % 4)
    )


def rows(points):
    """The points as a set of bytes."""
    return {row.tobytes() for row in points.xyz}


def beams(elevations, columns=300, start=0.0):
    """A round wall, written beam by beam with a small gap at the end; label, intensity = beam."""
    turn = start + np.linspace(0, 2 * np.pi - 0.05, columns)
    e, a = (g.ravel() for g in np.meshgrid(np.radians(elevations), turn, indexing="ij"))
    xyz = 10 * np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], 1)
    ring = np.repeat(np.arange(len(elevations)), columns).astype(np.uint8)
    return LabelledPoints(xyz.astype(np.float32), ring.astype(np.float32), ring)


def ground(z=-1.7, extent=30.0, step=0.25):
    """A flat road of points."""
    x, y = (g.ravel() for g in np.meshgrid(*[np.arange(-extent, extent, step)] * 2))
    xyz = np.stack([x, y, np.full_like(x, z)], 1).astype(np.float32)
    return labelled(xyz, ROAD)


def block(x, y, label, bottom=-1.7, size=(0.6, 0.6, 1.7), step=0.1):
    """The points of a box that stands at x, y."""
    axes = [np.arange(0, s + 1e-6, step) for s in size]
    xyz = np.stack(np.meshgrid(*axes), -1).reshape(-1, 3)
    xyz += [x - size[0] / 2, y - size[1] / 2, bottom]
    return labelled(xyz.astype(np.float32), label)


def labelled(xyz, label):
    return LabelledPoints(
        xyz, np.full(len(xyz), label / 20, np.float32), np.full(len(xyz), label, np.uint8)
    )
