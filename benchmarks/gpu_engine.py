# SPDX-License-Identifier: Apache-2.0
"""The GPU engine against the plain torch form on the same GPU: ``python -m benchmarks.gpu_engine``.

Per scan size, network, dtype and form: parity with the float32 torch form first, then medians of
synchronised runs that alternate with the torch form. Networks without shipped weights run with
random ones: the time is the same. Exits with 2 where there is no GPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pointdistill_ros.checkpoint import load_checkpoint
from pointdistill_ros.config import load_config
from pointdistill_ros.engine.cuda.network import CudaNetwork
from pointdistill_ros.model.curves import MAX_DEPTH
from pointdistill_ros.model.ptv3 import PTv3, PTv3Config
from pointdistill_ros.model.pyramid import build_pyramid
from pointdistill_ros.model.sparse_conv import spconv_installed
from pointdistill_ros.model.voxels import canonical_points, voxelise
from pointdistill_ros.resources import config_path, weights_path
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.simulation.drive import Drive

GRID_SIZE = 0.05
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
Run = Callable[[], object]


def main() -> None:
    """Print one table per network and scan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", type=Path, nargs="*", help="scan files; default: simulated scans")
    parser.add_argument("--points", type=int, nargs="+", default=[35_000, 120_000])
    parser.add_argument("--networks", nargs="+", default=["student", "teacher"])
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--repeats", type=int, default=50)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: nothing to measure", file=sys.stderr)
        sys.exit(2)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, grid {GRID_SIZE} m")
    scans = [LidarScan.read(path) for path in args.scan] or _simulated(args.points)
    for name in args.networks:
        network = _network(name)
        for scan in scans:
            _table(name, network, scan, [DTYPES[d] for d in args.dtypes], args.repeats)


@torch.inference_mode()
def _table(
    name: str, network: PTv3, scan: LidarScan, dtypes: list[torch.dtype], repeats: int
) -> None:
    xyz, intensity = scan.xyz, np.nan_to_num(scan.intensity)
    voxels = voxelise(xyz, GRID_SIZE)
    point = canonical_points(voxels, xyz, intensity, GRID_SIZE)
    features = torch.from_numpy(np.column_stack([xyz[point], intensity[point]])).cuda()
    coords = torch.from_numpy(voxels.coords).cuda()
    print(f"\n{name}, {len(xyz)} points, {len(voxels)} voxels")
    print(
        f"{'form':34} {'agreement':>9} {'max|Δ|/σ':>9} {'ms':>8} {'with copies':>11} {'ratio':>6}"
    )

    plain = _torch_form(network, features, coords)
    expected = plain()
    if spconv_installed():
        by_spconv = PTv3(network.config, "spconv").cuda().eval()
        by_spconv.load_state_dict(network.state_dict())
        other = _torch_form(by_spconv, features, coords)
        _line("torch, spconv, float32", other(), expected, _medians([other], repeats))
    for dtype in dtypes:
        baseline = _torch_form(network, features, coords, dtype)
        kind = str(dtype).removeprefix("torch.")
        (base,) = _medians([baseline], repeats)
        _line(f"torch, {kind}", baseline(), expected, [base])
        for graphs in (False, True):
            engine = CudaNetwork(network, GRID_SIZE, dtype=dtype, graphs=graphs)
            torch.cuda.reset_peak_memory_stats()

            def alone(engine: CudaNetwork = engine) -> Tensor:
                return engine.logits(features, coords)

            def copies(engine: CudaNetwork = engine) -> object:
                return engine.segment(xyz, intensity)

            logits = alone()
            *times, base = _medians([alone, copies, baseline], repeats)
            label = f"engine, {kind}, {'graph' if graphs else 'no graph'}, {engine.kernels}"
            _line(label, logits, expected, times, base)
            peak = torch.cuda.max_memory_allocated() / 2**20
            print(f"{'':34} peak memory {peak:.0f} MiB; {engine.memory_saving}")
            del engine


def _torch_form(
    network: PTv3, features: Tensor, coords: Tensor, dtype: torch.dtype = torch.float32
) -> Callable[[], Tensor]:
    """Geometry and network of model/, 16 bits by autocast."""
    scan = torch.zeros(len(coords), dtype=torch.int64, device=coords.device)

    def run() -> Tensor:
        pyramid = build_pyramid(coords, scan, network.config, depth=MAX_DEPTH)
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            logits: Tensor = network(features, pyramid)
        return logits.float()

    return run


def _medians(runs: list[Run], repeats: int) -> list[float]:
    """Milliseconds per run, synchronised before and after, the forms taking turns."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(5 + repeats):
        for run, kept in zip(runs, times, strict=True):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            run()
            torch.cuda.synchronize()
            if turn >= 5:
                kept.append(1e3 * (time.perf_counter() - begin))
    return [statistics.median(kept) for kept in times]


def _line(
    form: str, logits: Tensor, expected: Tensor, times: list[float], base: float | None = None
) -> None:
    agreement = float((logits.argmax(1) == expected.argmax(1)).float().mean())
    delta = float((logits - expected).abs().max() / expected.std())
    copies = f"{times[1]:11.2f}" if len(times) > 1 else f"{'':11}"
    ratio = f"{base / times[0]:6.2f}" if base else ""
    print(f"{form:34} {agreement:9.4%} {delta:9.1e} {times[0]:8.2f} {copies} {ratio}")


def _network(name: str) -> PTv3:
    path = weights_path(name)
    if path.exists():
        network, _ = load_checkpoint(path)
    else:
        config = load_config(PTv3Config, config_path(f"models/{name}.yaml"))
        torch.manual_seed(0)
        network = PTv3(replace(config, drop_path=0.0))
    return network.cuda().eval()


def _simulated(points: list[int]) -> list[LidarScan]:
    """One simulated scan, thinned at random to each number of points."""
    scan = Drive(100_000, 20)[0].scan
    scan = scan.select(np.flatnonzero(scan.valid))
    rng = np.random.default_rng(0)
    return [
        scan.select(np.sort(rng.choice(len(scan), min(count, len(scan)), replace=False)))
        for count in points
    ]


if __name__ == "__main__":
    main()
