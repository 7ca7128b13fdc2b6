# SPDX-License-Identifier: Apache-2.0
"""Gauges: some thirty figures of one frame that move when cloud or network leave known ground.

- of the cloud: how many points, how far, how bright, how scattered, what the ground is like, which
  directions and beams are missing
- of the network: how sure it is, from what it puts out anyway
- the order of the points does not matter; NaN where a frame does not show a gauge
Not here: what is usual (reference.py), when to shout (alarm.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.evaluation.drift.ground import fit_ground
from pointdistill_ros.labels import UNLABELLED
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation

RANGE_EDGES = (0.0, 3.0, 6.0, 12.0, 25.0, 50.0, np.inf)
"""Metres."""
ROUND_ABOUT = 3.0
"""Metres within which clear air and solid things differ: these fill a few directions, drops all."""
INTENSITY_EDGES = (-np.inf, 0.05, 0.15, 0.25, 0.35, 0.5, np.inf)
CELLS = {"close": (0.1, 4.0), "near": (0.25, 12.0), "far": (0.5, 24.0)}
"""Cells in which points are looked at for company: edge and half width of the square, m."""
FLOOR, CEILING = -6.0, 6.0
"""Heights between which they are, m."""
NEAR = 12.0
"""What counts as near, m."""
LEAST = 100
"""Points without which a share says nothing."""
SECTOR_DEGREES, BEAM_DEGREES = 5.0, 0.4
BEAMS = (-30.0, 20.0)
"""Elevations that are looked at, degrees."""
LINE_DEGREES, LINE_DISTANCE = 0.1, 10.0
"""Beams draw lines of one elevation, seen so finely, in points beyond this distance, m."""


@dataclass(frozen=True)
class Gauge:
    """What one figure is about."""

    family: str
    """Gauges that are judged together, beside all of them."""
    group: str
    """What is off when it is off, in words for people."""
    floor: float
    """Least spread that clean frames are credited with."""


GAUGES: Mapping[str, Gauge] = {
    "points": Gauge("reach", "number of points", 0.03),
    **{f"range {i}": Gauge("reach", "ranges", 0.05) for i in range(len(RANGE_EDGES) - 1)},
    "round about": Gauge("air", "returns close to the sensor", 0.1),
    **{
        f"intensity {i}": Gauge("intensity", "intensity", 0.05)
        for i in range(len(INTENSITY_EDGES) - 1)
    },
    "intensity mean": Gauge("intensity", "intensity", 0.03),
    "alone close": Gauge("air", "scattered points", 0.05),
    "floating near": Gauge("air", "scattered points", 0.1),
    "floating far": Gauge("air", "scattered points", 0.1),
    **{f"cells {where}": Gauge("air", "density", 0.03) for where in CELLS},
    "ground height": Gauge("mounting", "height of the sensor", 0.03),
    "ground pitch": Gauge("mounting", "tilt of the sensor", 0.3),
    "ground roll": Gauge("mounting", "tilt of the sensor", 0.3),
    "ground roughness": Gauge("ground", "ground", 0.05),
    "ground ripples": Gauge("ground", "ground", 0.1),
    "ground waves": Gauge("ground", "ground", 0.1),
    "ground share": Gauge("mounting", "ground", 0.03),
    "dark sectors": Gauge("directions", "directions", 0.1),
    "darkest sector": Gauge("directions", "directions", 0.1),
    "beams": Gauge("beams", "beams", 0.05),
    "beam lines": Gauge("beams", "lines of the beams", 0.05),
    "entropy": Gauge("certainty", "certainty of the network", 0.03),
    "entropy near": Gauge("certainty", "certainty of the network", 0.03),
    "doubt": Gauge("certainty", "certainty of the network", 0.03),
}
"""All gauges, in the order of the vector."""


def read_gauges(scan: LidarScan, result: Segmentation) -> NDArray[np.float64]:
    """[len(GAUGES)] of one frame, scan and labels as the network saw and gave them."""
    values = dict.fromkeys(GAUGES, float("nan"))
    valid = scan.valid & (np.abs(scan.xyz) < 1e4).all(axis=1)
    xyz = scan.xyz[valid]
    values["points"] = float(np.log(len(xyz) + 100.0))
    if len(xyz):
        distance = np.sqrt(np.einsum("ij,ij->i", xyz, xyz))
        values |= _histogram("range", distance, RANGE_EDGES, 0.03)
        if scan.intensity is not None:
            values |= _brightness(scan.intensity[valid])
        values |= _company(xyz)
        values |= _ground(xyz)
        values |= _directions(xyz, distance)
        if result.degradation == "none":  # a thinned cloud makes other networks of it
            values |= _certainty(result, valid, distance)
    return np.array(list(values.values()))


def _histogram(
    name: str, values: NDArray[np.float32], edges: tuple[float, ...], least: float
) -> dict[str, float]:
    """Logarithm of the share in each band; shares far below ``least`` look alike."""
    band = np.searchsorted(np.array(edges[1:-1], np.float32), values, side="right")
    shares = np.bincount(band, minlength=len(edges) - 1) / len(values)
    return {f"{name} {i}": float(s) for i, s in enumerate(np.log(shares + least))}


def _brightness(intensity: NDArray[np.float32]) -> dict[str, float]:
    intensity = intensity[np.isfinite(intensity)]
    if not len(intensity):
        return {}
    mean = float(np.clip(intensity, 0.0, 1e3).mean(dtype=np.float64))
    found = _histogram("intensity", intensity, INTENSITY_EDGES, 0.01)
    return {**found, "intensity mean": float(np.log(mean + 0.01))}


def _company(xyz: NDArray[np.float32]) -> dict[str, float]:
    """Points without company, and occupied cells per point, square around square."""
    found: dict[str, float] = {}
    level = (xyz[:, 2] >= FLOOR) & (xyz[:, 2] < CEILING)
    reach = np.maximum(np.abs(xyz[:, 0]), np.abs(xyz[:, 1]))
    inner = 0.0
    for where, (edge, outer) in CELLS.items():
        chosen = xyz[level & (reach >= inner) & (reach < outer)]
        inner = outer
        side, layers = round(2 * outer / edge), round((CEILING - FLOOR) / edge)
        corner = np.array([-outer, -outer, FLOOR], np.float32)
        cell = ((chosen - corner) * np.float32(1 / edge)).astype(np.int32)
        np.minimum(cell, np.array([side - 1, side - 1, layers - 1], np.int32), out=cell)
        code = (cell[:, 2] * side + cell[:, 1]) * side + cell[:, 0]
        counts = np.bincount(code, minlength=side * side * layers)
        if where == "close":  # so dense that company in a cell says it
            found["alone close"] = float(np.log((counts == 1).sum() / len(xyz) + 1e-3))
        else:
            lonely = _lonely(counts.reshape(layers, side, side))
            found[f"floating {where}"] = float(np.log(lonely / len(xyz) + 3e-4))
        if len(chosen) >= LEAST:
            found[f"cells {where}"] = float(np.log(np.count_nonzero(counts) / len(chosen)))
    return found


def _lonely(counts: NDArray[np.int64]) -> int:
    """Points that are alone in their cell and the 26 around it; counts [layers, side, side]."""
    taken = np.pad(counts > 0, 1)
    alone = np.argwhere(counts == 1)
    company = np.zeros(len(alone), np.int64)
    for step in np.ndindex(3, 3, 3):
        company += taken[tuple((alone + step).T)]
    return int((company == 1).sum())  # itself


def _ground(xyz: NDArray[np.float32]) -> dict[str, float]:
    ground = fit_ground(xyz)
    if ground is None:
        return {"ground share": float(np.log(0.01))}
    return {
        "ground height": ground.height,
        "ground pitch": ground.pitch,
        "ground roll": ground.roll,
        "ground roughness": float(np.log(ground.roughness + 0.01)),
        "ground ripples": float(np.log(ground.waves[0] + 0.005)),
        "ground waves": float(np.log(ground.waves[1] + 0.005)),
        "ground share": float(np.log(ground.share + 0.01)),
    }


def _directions(xyz: NDArray[np.float32], distance: NDArray[np.float32]) -> dict[str, float]:
    """Sectors with few points, and jumps between neighbouring elevations."""
    sectors = round(360 / SECTOR_DEGREES)
    turn = np.arctan2(xyz[:, 1], xyz[:, 0])
    sector = ((turn * np.float32(1 / (2 * np.pi)) + np.float32(0.5)) * sectors).astype(np.int32)
    counts = np.bincount(sector % sectors, minlength=sectors) / len(xyz) * sectors
    close = np.bincount(sector[distance < ROUND_ABOUT] % sectors, minlength=sectors)
    wide = (counts + np.roll(counts, 1) + np.roll(counts, 2)) / 3
    elevation = np.degrees(np.arcsin(np.clip(xyz[:, 2] / np.maximum(distance, 1e-6), -1, 1)))
    steps = np.abs(np.diff(np.log(_elevations(elevation, BEAM_DEGREES) + 1e-3)))
    found = {
        "round about": float(np.log((close > 1).mean() + 0.1)),
        "dark sectors": float(np.log((counts < 0.2).mean() + 0.02)),
        "darkest sector": float(np.log(wide.min() + 0.02)),
        "beams": float(np.log(steps.mean() + 0.01)),
    }
    far = elevation[distance > LINE_DISTANCE]
    if len(far) >= LEAST:
        lines = np.abs(np.diff(_elevations(far, LINE_DEGREES))).sum()
        found["beam lines"] = float(np.log(lines + 0.01))
    return found


def _elevations(elevation: NDArray[np.float32], width: float) -> NDArray[np.float64]:
    """Share of the points in each bin of BEAMS of so many degrees."""
    lowest, highest = BEAMS
    inside = elevation[(elevation >= lowest) & (elevation < highest)]
    bins = round((highest - lowest) / width)
    index = np.minimum(((inside - lowest) / np.float32(width)).astype(np.int32), bins - 1)
    shares: NDArray[np.float64] = np.bincount(index, minlength=bins) / len(elevation)
    return shares


def _certainty(
    result: Segmentation, valid: NDArray[np.bool_], distance: NDArray[np.float32]
) -> dict[str, float]:
    labelled = result.labels[valid] != UNLABELLED
    if not labelled.any():
        return {}
    entropy = result.entropy[valid][labelled]
    near = distance[labelled] < NEAR
    found = {
        "entropy": float(np.log(entropy.mean(dtype=np.float64) + 0.01)),
        "doubt": float(np.log((result.probability[valid][labelled] < 0.5).mean() + 0.01)),
    }
    if near.sum() >= LEAST:
        found["entropy near"] = float(np.log(entropy[near].mean(dtype=np.float64) + 0.01))
    return found
