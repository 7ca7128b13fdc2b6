# SPDX-License-Identifier: Apache-2.0
r"""Train a small 2D network on street images, to teach a lidar network what a camera sees.

python -m training.train_camera_teacher --data DATA --streets 40 --run runs/camera
    real images (DATA/semantickitti_images) with the labels of DATA's scans, and rendered ones
python -m training.train_camera_teacher --streets 40 --run runs/camera-simulated
    rendered images alone: no recordings, no licence but this project's
python -m training.train_camera_teacher --streets 40 --run runs/camera-simulated --resume

Writes RUN/camera.safetensors and RUN/camera.json (figures on the images of the sequences that
--holdout names, or on unseen streets). Real images and labels: CC BY-NC-SA, and so are the weights.
"""

from __future__ import annotations

from pointdistill_ros.openmp import bound_spinning

bound_spinning()  # before torch loads

import argparse  # noqa: E402
import json  # noqa: E402
from dataclasses import asdict, fields  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402

from pointdistill_ros.config import parse_config  # noqa: E402
from pointdistill_ros.datasets.camera_images import PackedCameraImages  # noqa: E402
from pointdistill_ros.datasets.convention import SensorConvention  # noqa: E402
from pointdistill_ros.datasets.packed import PackedScans  # noqa: E402
from pointdistill_ros.errors import ConfigError, InputError, one_line_errors  # noqa: E402
from pointdistill_ros.evaluation.confusion import ConfusionMatrix  # noqa: E402
from pointdistill_ros.io.atomic import atomic_path  # noqa: E402
from pointdistill_ros.labels import LabelSet  # noqa: E402
from training.camera.fit import FitConfig, fit, measure  # noqa: E402
from training.camera.network import CameraNet, CameraNetConfig  # noqa: E402
from training.camera.rendered import RenderedSamples  # noqa: E402
from training.camera.samples import CameraSamples, ProjectedSamples  # noqa: E402
from training.camera.weights import save_camera_teacher  # noqa: E402
from training.checkpoints import Checkpoints  # noqa: E402
from training.opening import CachedScans  # noqa: E402

LABELS = LabelSet.named("semantic-kitti")
UNSEEN = 900_000
"""Streets from this seed on are for measuring."""
_FREE, _BOUND = "Apache-2.0", "CC BY-NC-SA 4.0 (SemanticKITTI)"


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train, measure and write. Returns the figures. Raises ConfigError, InputError."""
    names = {field.name for field in fields(FitConfig)}
    given = {k: v for k, v in vars(args).items() if k in names and v is not None}
    config = parse_config(FitConfig, given, "train_camera_teacher")
    checkpoints = Checkpoints(args.run / "checkpoints")
    if checkpoints.paths() and not args.resume:
        raise InputError(f"{args.run}: holds a run; add --resume or name another folder with --run")
    sources, held = _sources(args, config)
    torch.manual_seed(config.seed)
    network = CameraNet(CameraNetConfig(num_classes=len(LABELS)))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fit(network, sources, config, checkpoints, _report(config.steps), device)
    network.cpu()
    figures = {name: _figures(measure(network, samples)) for name, samples in held.items()}
    training = {
        "config": asdict(config),
        "licence": _BOUND if args.data else _FREE,
        "real_images": len(sources[0][0]) if args.data else 0,
        "holdout": list(args.holdout) if args.data else [],
        "streets": args.streets,
        "figures": figures,
    }
    save_camera_teacher(args.run / "camera.safetensors", network, LABELS, training)
    with atomic_path(args.run / "camera.json") as temporary:
        temporary.write_text(json.dumps(training, indent=1) + "\n")
    return figures


def _sources(
    args: argparse.Namespace, config: FitConfig
) -> tuple[list[tuple[CameraSamples, float]], dict[str, CameraSamples]]:
    """Images to train on with their shares, and images to measure on by name."""
    if not args.data and not args.streets:
        raise ConfigError("name real images with --data, a number of --streets, or both")
    sources: list[tuple[CameraSamples, float]] = []
    held: dict[str, CameraSamples] = {}
    if args.data:
        images = PackedCameraImages(args.images or args.data / "semantickitti_images")
        convention = SensorConvention.named("semantic-kitti")
        known = {sequence for sequence, _ in images}
        if missing := sorted(set(args.holdout) - known):
            raise ConfigError(f"--holdout {missing[0]}: no image of this sequence")
        used, kept = known - set(args.holdout), known & set(args.holdout)
        for wanted, split in ((used, "train"), (kept, "val")):
            if not wanted:
                continue
            scans = PackedScans(args.data, convention, split, sorted(wanted))
            samples = ProjectedSamples(CachedScans(scans, 256 << 20), images)
            if split == "train":
                sources.append((samples, 1 - config.rendered if args.streets else 1.0))
            else:
                held["images"] = samples
    cache = args.cache
    if args.streets:
        rendered = RenderedSamples(cache, range(args.streets))
        sources.append((rendered, config.rendered if args.data else 1.0))
        held["streets"] = RenderedSamples(cache, range(UNSEEN, UNSEEN + 4), frames=1)
    return sources, held


def _figures(matrix: ConfusionMatrix) -> dict[str, Any]:
    """Classes with at least 100 pixels, as for points."""
    present = matrix.present(100)
    iou = {LABELS.names[c]: round(float(matrix.iou()[c]), 4) for c in np.flatnonzero(present)}
    return {
        "pixels": int(matrix.points().sum()),
        "accuracy": round(matrix.accuracy(), 4),
        "miou": round(matrix.miou(100), 4),
        "iou": iou,
    }


def _report(steps: int) -> Any:
    def say(step: int, loss: float) -> None:
        if step % 20 == 0 or step == steps:
            print(f"step {step} of {steps}: loss {loss:.3f}", flush=True)

    return say


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.train_camera_teacher",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, help="folder of packed scans, for real images")
    add("--images", type=Path, help="their images (default DATA/semantickitti_images)")
    add("--holdout", nargs="*", default=["07", "10"], help="sequences to measure on")
    add("--streets", type=int, default=0, help="simulated streets, three pictures of each")
    add("--cache", type=Path, default=Path("runs/pictures"), help="rendered pictures")
    add("--run", type=Path, default=Path("runs/camera"), help="folder of this run")
    add("--resume", action="store_true", help="continue the run in that folder")
    for field in fields(FitConfig):
        kind = type(field.default)
        add(f"--{field.name.replace('_', '-')}", type=kind, help=f"default {field.default}")
    return parser


def main() -> None:
    """Train; a user's mistake is one line and exit code 2."""
    with one_line_errors("train_camera_teacher"):
        for name, figures in run(_parser().parse_args()).items():
            print(f"{name}: accuracy {figures['accuracy']}, mIoU {figures['miou']}")


if __name__ == "__main__":
    main()
