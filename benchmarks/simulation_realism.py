# SPDX-License-Identifier: Apache-2.0
"""How far are simulated scans from real ones? Simple statistics side by side.

Real scans come from the folder $POINTDISTILL_DATA (or ../shared/data): semantickitti/*.npz, each a
full HDL-64E scan with labels. Run: python -m benchmarks.simulation_realism [--drives 40]
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.labels import LabelSet
from pointdistill_ros.simulation import Drive

BANDS = (0, 5, 10, 15, 20, 30, 40, 50, 60, 80, 121)
Cloud = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]
"""xyz [N, 3], intensity [N], labels [N]."""


class Statistics:
    """Averages over clouds: every figure is a mean of per-scan figures."""

    def __init__(self, clouds: Iterable[Cloud], classes: int) -> None:
        rows: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
        for xyz, intensity, labels in clouds:
            distance = np.sqrt((xyz**2).sum(1))
            rows["points"].append(np.array([len(xyz)]))
            rows["band"].append(np.histogram(distance, BANDS)[0])
            rows["share"].append(np.bincount(labels, minlength=256)[:classes] / len(xyz))
            rows["unlabelled"].append(np.array([(labels == 255).mean()]))
            for size in (0.05, 0.1, 0.2):
                cells = np.unique(np.floor(xyz / size).astype(np.int32), axis=0)
                rows[f"cells {size:g}"].append(np.array([len(cells)]))
            elevation = np.degrees(np.arcsin(xyz[:, 2] / np.maximum(distance, 0.1)))
            rows["beam"].append(np.histogram(elevation, np.arange(-25, 4))[0] / len(xyz))
            rows["thickness"].append(np.array([_road_spread(xyz, labels)]))
            quartiles = np.full((classes, 3), np.nan)
            reach = np.full((classes, 2), np.nan)
            for c in range(classes):
                mine = labels == c
                if mine.sum() >= 50:
                    quartiles[c] = np.percentile(intensity[mine], (25, 50, 75))
                    reach[c] = np.percentile(distance[mine], (50, 90))
            rows["intensity"].append(quartiles)
            rows["reach"].append(reach)
            rows["present"].append(~np.isnan(quartiles[:, 0]))
        self.scans = len(rows["points"])
        with np.errstate(invalid="ignore"):
            self.mean = {k: _nanmean(np.stack(v).astype(float)) for k, v in rows.items()}


def _nanmean(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over scans of the finite values; NaN where there is none."""
    known = np.isfinite(rows)
    total = np.where(known, rows, 0).sum(0)
    mean: NDArray[np.float64] = np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)
    return mean


def _road_spread(xyz: NDArray[np.float32], labels: NDArray[np.uint8]) -> float:
    """Median over 1 m cells of the standard deviation of road heights, near the sensor, metres."""
    near = (labels == 8) & (np.abs(xyz[:, :2]) < 12).all(1)
    cells = np.floor(xyz[near, :2]).astype(int) @ (1000, 1)
    _, index, count = np.unique(cells, return_inverse=True, return_counts=True)
    if not len(count):
        return float("nan")
    z = xyz[near, 2].astype(float)
    mean = np.bincount(index, z) / count
    spread = np.sqrt(np.bincount(index, (z - mean[index]) ** 2) / count)
    return float(np.median(spread[count > 20])) if (count > 20).any() else float("nan")


def real_clouds(folder: Path) -> Iterator[Cloud]:
    """Full labelled scans, thinned subsets left out."""
    for path in sorted((folder / "semantickitti").glob("*.npz")):
        with np.load(path) as data:
            if len(data["label19"]) > 100_000:
                xyz = (data["xyz"] / float(data["q"])).astype(np.float32)
                yield xyz, data["inten"] / np.float32(100), data["label19"]


def simulated_clouds(drives: int, first_seed: int, lidar: str) -> Iterator[Cloud]:
    """One scan of each drive."""
    build = cast = 0.0
    for seed in range(first_seed, first_seed + drives):
        start = time.perf_counter()
        drive = Drive(seed, 3, lidar)
        build += time.perf_counter() - start
        _ = drive[0]  # the first scan also fills caches
        start = time.perf_counter()
        frame = drive[1]
        cast += time.perf_counter() - start
        assert frame.scan.intensity is not None
        yield frame.scan.xyz, frame.scan.intensity, frame.labels
    print(f"simulated: {build / drives:.2f} s a street, {drives / cast:.1f} scans a second\n")


def report(real: Statistics, simulated: Statistics, label_set: LabelSet) -> None:
    """Print both side by side."""
    a, b = real.mean, simulated.mean
    print(f"{'':28}{'real':>9}{'simulated':>11}   ({real.scans} and {simulated.scans} scans)")

    def line(name: str, x: float, y: float, form: str = "9.0f") -> None:
        print(f"{name:28}{x:{form}}{y:{form.replace('9', '11')}}")

    line("points", a["points"][0], b["points"][0])
    for size in ("0.05", "0.1", "0.2"):
        line(f"occupied cells of {size} m", a[f"cells {size}"][0], b[f"cells {size}"][0])
    line("unlabelled share", a["unlabelled"][0], b["unlabelled"][0], "9.3f")
    line("spread of road heights, mm", 1e3 * a["thickness"][0], 1e3 * b["thickness"][0], "9.1f")
    print("\npoints per range band")
    for k, (low, high) in enumerate(pairwise(BANDS)):
        line(f"  {low} to {high} m", a["band"][k], b["band"][k])
    print("\nshare of points per 2 degrees of elevation")
    for k in range(0, 28, 2):
        low = -25 + k
        shares = a["beam"][k : k + 2].sum(), b["beam"][k : k + 2].sum()
        line(f"  {low} to {low + 2}", *shares, "9.3f")
    print(f"\n{'class':16}{'share of points':>18}{'scans with it':>16}", end="")
    print(f"{'intensity median (quartiles)':>44}{'distance 50 %, 90 %':>26}")
    for c, name in enumerate(label_set.names):
        row = f"{name:16}{a['share'][c]:9.4f}{b['share'][c]:9.4f}"
        row += f"{a['present'][c]:8.2f}{b['present'][c]:8.2f}"
        for s in (a, b):
            low, mid, high = s["intensity"][c]
            row += f"{mid:9.2f} ({low:.2f}, {high:.2f})"
        for s in (a, b):
            row += f"{s['reach'][c][0]:8.1f} {s['reach'][c][1]:5.1f}"
        print(row)


def main() -> None:
    """Read arguments, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drives", type=int, default=40)
    parser.add_argument("--seed", type=int, default=10_000, help="seed of the first drive")
    parser.add_argument("--lidar", default="hdl64e")
    arguments = parser.parse_args()
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("POINTDISTILL_DATA", beside))
    label_set = LabelSet.named("semantic-kitti")
    real = Statistics(real_clouds(folder), len(label_set))
    if not real.scans:
        parser.exit(2, f"no real scans in {folder}; name their folder in POINTDISTILL_DATA\n")
    drives = simulated_clouds(arguments.drives, arguments.seed, arguments.lidar)
    report(real, Statistics(drives, len(label_set)), label_set)


if __name__ == "__main__":
    main()
