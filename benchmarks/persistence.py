# SPDX-License-Identifier: Apache-2.0
"""Cost of persistent homology in training: ``python -m benchmarks.persistence [--repeats N]``.

One thread, CPU time, the best of the repeats, so that other work on the machine matters less. The
clouds: Gaussian noise (many short loops, nearly the worst case), features of the shipped student on
a simulated street, noise around a circle (one long loop, which Ripser takes long to reduce).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from pointdistill_ros.checkpoint import load_checkpoint
from pointdistill_ros.model.pyramid import build_pyramid
from pointdistill_ros.model.voxels import voxelise
from pointdistill_ros.resources import weights_path
from pointdistill_ros.simulation.drive import Drive
from training.losses.topology import TopologySettings, topology_loss
from training.persistence.bars import diagrams
from training.persistence.distances import chamfer
from training.persistence.filtration import Filtration
from training.persistence.metric import Floats, distance_matrix
from training.persistence.rips import rips_bars
from training.persistence.sampling import farthest_points
from training.persistence.sliced_wasserstein import sliced_wasserstein
from training.persistence.spanning_tree import spanning_tree

CELLS, CHANNELS = 256, 64
MANY = 1024


def street_features() -> Floats:
    """Stage-3 features [256, 64] of the shipped student, farthest points of a simulated scan."""
    network, meta = load_checkpoint(weights_path("student"))
    scan = Drive(100_000, 20)[0].scan
    found = voxelise(scan.xyz, meta.grid_size, np.random.default_rng(0))
    assert scan.intensity is not None
    features = np.column_stack([scan.xyz[found.point], scan.intensity[found.point]])
    coords = torch.from_numpy(found.coords)
    pyramid = build_pyramid(coords, torch.zeros(len(coords), dtype=torch.int64), network.config)
    with torch.no_grad():
        stage = network.eval().encode(torch.from_numpy(features.astype(np.float32)), pyramid)[3]
    rows = farthest_points(pyramid.stages[3].coords.numpy(), CELLS, 0)
    chosen: Floats = stage.double().numpy()[rows]
    return chosen


def clouds() -> dict[str, Floats]:
    """Name → points [256, 64]."""
    rng = np.random.default_rng(0)
    turn = rng.uniform(0, 2 * np.pi, CELLS)
    noise = 0.05 * rng.normal(size=(CELLS, CHANNELS - 2))
    return {
        "Gaussian": rng.normal(size=(CELLS, CHANNELS)),
        "student": street_features(),
        "circle": np.column_stack([np.cos(turn), np.sin(turn), noise]),
    }


def parts(points: Floats) -> dict[str, Callable[[], object]]:
    """Name → a part of the work on one cloud."""
    distances = distance_matrix(points)
    bars = rips_bars(distances)
    leaf = torch.from_numpy(points).requires_grad_()
    aims = [d.detach() for d in diagrams(torch.from_numpy(points + 0.1), bars)]

    def loss(distance: Callable[..., torch.Tensor]) -> Callable[[], object]:
        def run() -> None:
            found = diagrams(leaf, bars)
            total = sum(distance(a, b) for a, b in zip(found, aims, strict=True))
            assert isinstance(total, torch.Tensor)
            total.backward()  # type: ignore[no-untyped-call]

        return run

    return {
        "distances": lambda: distance_matrix(points),
        "bars, compiled": lambda: rips_bars(distances, backend="compiled"),
        "bars, gudhi": lambda: rips_bars(distances, backend="gudhi"),
        "diagrams H0 + H1": lambda: Filtration(leaf).diagrams(),
        "Chamfer, both ways": loss(chamfer),
        "sliced W., both ways": loss(sliced_wasserstein),
        "spanning tree": lambda: spanning_tree(distances),
    }


def whole_loss(points: Floats, settings: TopologySettings) -> Callable[[], object]:
    """The loss of one scan, both networks, forward and backward."""
    student = torch.from_numpy(points).float().requires_grad_()
    teacher = torch.from_numpy(np.random.default_rng(1).permuted(points, axis=1)).float()
    rows = [torch.arange(len(points))]

    def run() -> None:
        loss, _ = topology_loss(student, teacher, rows, settings)
        loss.backward()  # type: ignore[no-untyped-call]

    return run


def best(work: Callable[[], object], repeats: int) -> float:
    """CPU milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    columns = {name: parts(points) for name, points in clouds().items()}
    for name, points in clouds().items():
        columns[name]["loss, two networks"] = whole_loss(points, TopologySettings())
    print(f"CPU ms, {CELLS} cells of {CHANNELS} features, best of {repeats}")
    print(f"  {'':22}" + "".join(f"{name:>10}" for name in columns))
    for part in next(iter(columns.values())):
        times = [best(column[part], repeats) for column in columns.values()]
        print(f"  {part:22}" + "".join(f"{t:10.2f}" for t in times))
    many = np.random.default_rng(0).normal(size=(MANY, CHANNELS))
    coords = np.random.default_rng(0).integers(0, 300, (2000, 3))
    others: dict[str, Callable[[], object]] = {
        f"H0 alone, {MANY} cells of {CHANNELS}": lambda: Filtration(
            torch.from_numpy(many), 0
        ).diagrams(),
        f"{CELLS} farthest of {len(coords)} voxels": lambda: farthest_points(coords, CELLS, 0),
    }
    for name, work in others.items():
        print(f"{name}: {best(work, repeats):.2f} ms")


if __name__ == "__main__":
    main()
