# SPDX-License-Identifier: Apache-2.0
"""Cost of a training step on the CPU: ``python -m benchmarks.training_step [--threads N]``.

Forward, segmentation loss and backward on sectors of simulated scans, with random weights. CPU
time, so that other work on the machine matters less: medians of steps taken in turns, plain torch
against the compiled kernels (freed memory stays with the process in both). Voxels per second are
per core; ×: against plain torch in float32.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pointdistill_ros.config import load_config
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.model.pyramid import VoxelPyramid, build_pyramid, draw_permutation
from pointdistill_ros.model.voxels import voxelise
from pointdistill_ros.resources import config_path
from pointdistill_ros.simulation.drive import Drive
from training.compiled.network import compile_network
from training.losses.segmentation import segmentation_loss

SEED = 100_000
GRID_SIZE = 0.15
Input = tuple[Tensor, Tensor, VoxelPyramid]


def rt_g() -> PTv3Config:
    """Channels and depths of the real-time student, as near as the model's options allow.

    No decoder blocks; attention in every stage instead of the two coarsest.
    """
    return PTv3Config(
        num_classes=19,
        encoder_depths=(1, 1, 1, 2, 2),
        encoder_channels=(16, 32, 48, 96, 160),
        encoder_heads=(1, 2, 3, 6, 5),
        decoder_depths=(0, 0, 0, 0),
        decoder_channels=(32, 32, 48, 96),
        decoder_heads=(2, 2, 3, 6),
        strides=(2, 2, 2, 2),
        patch_sizes=(256,) * 5,
        mlp_ratio=2,
    )


def sector(drive: Drive, frame: int, voxels: int, model: PTv3Config) -> Input:
    """Features, labels, geometry of ``voxels`` voxels in a sector, cut as training does."""
    labelled = drive[frame]
    scan, rng = labelled.scan, np.random.default_rng(frame)
    found = voxelise(scan.xyz, GRID_SIZE, rng)
    azimuth = np.arctan2(scan.xyz[found.point, 1], scan.xyz[found.point, 0])
    start = rng.uniform(0, 2 * np.pi)
    kept = np.sort(np.argsort((azimuth - start) % (2 * np.pi))[:voxels])
    point = found.point[kept]
    assert scan.intensity is not None
    features = np.column_stack([scan.xyz[point], scan.intensity[point]]).astype(np.float32)
    coords = torch.from_numpy(found.coords[kept])
    pyramid = build_pyramid(
        coords,
        torch.zeros(len(coords), dtype=torch.int64),
        model,
        permutation=draw_permutation(model, rng),
    )
    return torch.from_numpy(features), torch.from_numpy(labelled.labels[point]).long(), pyramid


def forms(network: PTv3) -> dict[str, Callable[[Input], float]]:
    """Name → CPU seconds of a step, for every form this machine can run."""

    def timed(network: PTv3, autocast: bool) -> Callable[[Input], float]:
        def step(case: Input) -> float:
            features, labels, pyramid = case
            network.zero_grad()
            start = time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                logits = network(features, pyramid)
            loss, _ = segmentation_loss(logits.float(), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            return time.process_time() - start

        return step

    steps = {
        "torch float32": timed(network, False),
        "torch bfloat16 (autocast)": timed(network, True),
    }
    for precision in ("float32", "bfloat16"):
        other = copy.deepcopy(network)
        try:
            compile_network(other, precision)
        except ConfigError as error:
            print(f"compiled {precision}: {error}")
            continue
        steps[f"compiled {precision}"] = timed(other, False)
    return steps


def main() -> None:
    """Print a table per network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--voxels", type=int, default=16_000)
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    drive = Drive(SEED, 20)
    networks = {
        "student": load_config(PTv3Config, config_path("models/student.yaml")),
        "rt-G": rt_g(),
    }
    for name, config in networks.items():
        torch.manual_seed(0)
        network = PTv3(config).train()
        cases = [sector(drive, frame, args.voxels, config) for frame in range(0, 20, 10)]
        sizes = [len(case[2]) for case in cases]
        steps = forms(network)
        times: dict[str, list[float]] = {form: [] for form in steps}
        for turn in range(args.rounds + 1):
            for case in cases:
                for form, step in steps.items():
                    seconds = step(case)
                    if turn:  # the first warms up
                        times[form].append(seconds)
        parameters = sum(p.numel() for p in network.parameters())
        patch = config.patch_sizes[0]
        print(
            f"{name}: {parameters / 1e6:.2f} M parameters, patch {patch}, "
            f"{statistics.mean(sizes):.0f} voxels, {args.threads} threads"
        )
        print(f"  {'':26}{'CPU ms':>8}{'voxels/s':>10}{'×':>6}")
        base = statistics.median(times["torch float32"])
        for form, seconds_of in times.items():
            median = statistics.median(seconds_of)
            speed = statistics.mean(sizes) / median
            print(f"  {form:26}{1e3 * median:8.0f}{speed:10.0f}{base / median:6.2f}")


if __name__ == "__main__":
    main()
