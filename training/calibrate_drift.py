# SPDX-License-Identifier: Apache-2.0
r"""What is usual for weights and a sensor, so that the unusual can be noticed (docs/robustness.md).

python -m training.calibrate_drift --weights student --data DATA/unlabelled --match '*kitti-*'
python -m training.calibrate_drift --weights my.safetensors --data day1.mcap night.mcap --every 50

Labels are not needed. Every place counts once: a bag or the folder of a drive is one place, a scan
in any other folder is a place of its own. ``--dataset`` adds the drives of a labelled data set.
Writes NAME.drift.json beside the weights. Scans must look as the network gets them: height and
intensity as the node's z_offset and intensity scale make them.

- ``--frames`` keeps what was measured of every scan: the same command goes on there
- never calibrate on drives whose false alarms are to be counted
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.checkpoint import find_weights
from pointdistill_ros.errors import ConfigError, InputError, one_line_errors
from pointdistill_ros.evaluation.drift.calibrate import calibrate
from pointdistill_ros.evaluation.drift.gauges import GAUGES, read_gauges
from pointdistill_ros.evaluation.drift.reference import reference_path
from pointdistill_ros.evaluation.progress import progress
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmenter import Segmenter
from training.pseudo_files import SINGLE
from training.pseudo_jobs import find_jobs


@dataclass(frozen=True)
class Frame:
    """A clean scan that can be read."""

    name: str
    place: str
    load: Callable[[], LidarScan]


class KnownFrames:
    """Gauges of frames by name, kept in a JSON file if there is a path."""

    def __init__(self, path: Path | None, weights_sha256: str) -> None:
        """Raises InputError where the file is of other weights or gauges."""
        self.path = path
        self._head = {"weights": weights_sha256, "gauges": list(GAUGES)}
        self.gauges: dict[str, list[float | None]] = {}
        if path is not None and path.is_file():
            try:
                data = json.loads(path.read_text())
                self.gauges = dict(data.pop("frames"))
            except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
                raise InputError(f"{path}: not frames of calibrate_drift ({error})") from error
            if data != self._head:
                raise InputError(f"{path}: of other weights or gauges; name another --frames")

    def add(self, name: str, gauges: NDArray[np.float64]) -> None:
        """Keep the gauges of a frame."""
        self.gauges[name] = [round(float(g), 5) if np.isfinite(g) else None for g in gauges]
        if self.path is not None:
            with atomic_path(self.path) as temporary:
                temporary.write_text(json.dumps({**self._head, "frames": self.gauges}))


def frames_of_paths(paths: Sequence[Path], match: str, every: int, drive: bool) -> list[Frame]:
    """Scans of folders and bags. Raises InputError."""
    jobs = find_jobs(paths, match, every, drive) if paths else []
    return [
        Frame(job.name, job.name if job.folder == SINGLE else job.folder, job.entry.load)
        for job in jobs
    ]


def frames_of_dataset(
    name: str, root: Path, split: str, sequences: Sequence[str] | None, every: int
) -> list[Frame]:
    """Scans of a labelled data set, a place per drive. Raises InputError, ConfigError."""
    from pointdistill_ros.datasets.open import open_in_convention

    scans = open_in_convention(name, root, split, sequences)

    named = " ".join([name, split, *(sequences or ())])

    def loader(i: int) -> Callable[[], LidarScan]:
        return lambda: scans[i][0]

    return [
        Frame(f"{named} {i}", f"{name} {scans.sequences[i]}", loader(i))
        for i in range(0, len(scans), every)
    ]


def measure(
    segmenter: Segmenter, frames: Sequence[Frame], known: KnownFrames
) -> Iterator[NDArray[np.float64]]:
    """[G] of each frame."""
    with progress() as bar:
        done = bar("calibration", len(frames))
        for i, frame in enumerate(frames):
            if frame.name not in known.gauges:
                scan = frame.load()
                known.add(frame.name, read_gauges(scan, segmenter(scan)))
            done(i + 1)
            yield np.array(known.gauges[frame.name], np.float64)


def run(args: argparse.Namespace) -> None:
    """Measure, calibrate, write."""
    if args.dataset and args.root is None:
        raise ConfigError("--dataset needs --root, the folder that it lies in")
    segmenter = Segmenter.load(args.weights, engine=args.engine, threads=args.threads)
    frames = frames_of_paths(args.data, args.match, args.every, args.one_drive)
    if args.dataset:
        frames += frames_of_dataset(
            args.dataset, args.root, args.split, args.sequences, args.dataset_every
        )
    if not frames:
        raise ConfigError("nothing to calibrate on: name scans by --data or --dataset")
    known = KnownFrames(args.frames, segmenter.weights_sha256)
    gauges = np.array(list(measure(segmenter, frames, known)))
    reference = calibrate(
        gauges,
        [frame.place for frame in frames],
        model_id=segmenter.model_id,
        weights_sha256=segmenter.weights_sha256,
        false_alarms=args.false_alarms,
        data=args.describe,
    )
    out = args.out or reference_path(find_weights(args.weights))
    reference.save(out)
    print(f"{out}: {reference.places} places, {reference.frames} scans")
    for place in reference.set_aside:
        worst = [reference(g) for g, f in zip(gauges, frames, strict=True) if f.place == place]
        strangest = max(worst, key=lambda drift: drift.score)
        print(f"set aside: {place}, score {strangest.score:.2f}: {', '.join(strangest.reasons)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", default="student", help="shipped name or checkpoint path")
    add("--data", type=Path, nargs="*", default=[], help="folders of scans, scans or bags")
    add("--match", default="*", help="only scans whose name matches, e.g. '*kitti*'")
    add("--every", type=int, default=1, help="only every n-th scan of --data")
    add("--one-drive", action="store_true", help="the scans of a folder show one place")
    add("--dataset", help="a labelled data set, too: semantic-kitti …")
    add("--root", type=Path, help="its root folder")
    add("--split", default="train", help="its split")
    add("--sequences", nargs="+", help="only these of its drives")
    add("--dataset-every", type=int, default=1, help="only every n-th of its scans")
    add("--false-alarms", type=float, default=1 / 500, help="share of places above the limit")
    add("--describe", default="", help="where the scans come from, kept in the file")
    add("--frames", type=Path, help="keep what was measured here, and go on from it")
    add("--engine", default="auto", help="auto, native, torch …")
    add("--threads", type=int, help="CPU threads")
    add("--out", type=Path, help="default: NAME.drift.json beside the weights")
    return parser


def main() -> None:
    """Parse the command line and calibrate."""
    run(_parser().parse_args())


if __name__ == "__main__":
    with one_line_errors("calibrate_drift"):
        main()
